"""An index of binary codes: packed words, exact ranking, and look-up by address.

Salakhutdinov & Hinton 2009, "Semantic hashing": the code of an item is the address of the list
that holds it, and the items within a few bits of a query are read off by visiting every address in
that Hamming ball. The number of visits depends on the ball and not on the collection. Short codes
only: a ball of radius 2 holds 211 addresses for 20 bits and 2,081 for 64. Longer codes are ranked
exactly, by XOR and population count over 32-bit words.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

WORD = 32
_DIRECT_BITS = 22  # up to here a table has a slot for every address
_MOST_ADDRESSED = 64
_BLOCK = 8192


def pack(bits: np.ndarray) -> np.ndarray:
    """Bits `[N, b]` (bool, or 0 and 1) as words `[N, ceil(b / 32)]` uint32.

    Bit j of a code is bit j % 32 of word j // 32; what is left of the last word is 0.

    Raises:
        ValueError: not two axes, or values other than 0 and 1.
    """
    bits = np.asarray(bits)
    if bits.ndim != 2 or not np.isin(bits, (0, 1)).all():
        raise ValueError(f"bits must be [N, b] of 0 and 1, they are {bits.dtype} {bits.shape}")
    count, length = bits.shape
    padded = np.zeros((count, math.ceil(length / WORD) * WORD), np.uint8)
    padded[:, :length] = bits
    return np.packbits(padded, axis=1, bitorder="little").view("<u4").astype(np.uint32)


def distances(queries: jax.Array, codes: jax.Array) -> jax.Array:
    """How many bits differ: words `[Q, W]` and `[N, W]` -> `[Q, N]` int32."""
    differing = jax.lax.population_count(queries[:, None] ^ codes[None])
    return jnp.sum(differing.astype(jnp.int32), axis=-1)


@functools.partial(jax.jit, static_argnums=(2, 3))
def rank(
    queries: jax.Array, codes: jax.Array, k: int, block: int = _BLOCK
) -> tuple[jax.Array, jax.Array]:
    """The k codes nearest to each query by exact search; equal distances by lowest index.

    Memory beyond the arguments is O(Q * block), whatever N is.

    Args:
        queries: `[Q, W]` uint32, from `pack`.
        codes: `[N, W]` uint32.
        k: at most N.
        block: codes at a time.
    Returns:
        indices and distances `[Q, k]` int32, nearest first.
    Raises:
        ValueError: k is not in 1..N.
    """
    size = codes.shape[0]
    if not 1 <= k <= size:
        raise ValueError(f"k is {k}, with {size} codes it must be in 1..{size}")
    block, far = min(block, size), WORD * codes.shape[1] + 1

    def add(best, number):
        # The last block starts early enough to be whole; what it repeats is put far away.
        start = jnp.minimum(number * block, size - block)
        index = start + jnp.arange(block)
        gap = distances(queries, jax.lax.dynamic_slice_in_dim(codes, start, block))
        gap = jnp.where((index >= number * block)[None], gap, far)
        near, columns = jax.lax.top_k(-gap, min(k, block))
        # The kept ones come first: they have the lower indices, and `top_k` takes the first.
        near = jnp.concatenate([best[0], near], axis=1)
        indices = jnp.concatenate([best[1], start + columns], axis=1)
        near, order = jax.lax.top_k(near, k)
        return (near, jnp.take_along_axis(indices, order, axis=1)), None

    shape = queries.shape[0], k
    start = jnp.full(shape, -far, jnp.int32), jnp.zeros(shape, jnp.int32)
    (near, indices), _ = jax.lax.scan(add, start, jnp.arange(-(-size // block)))
    return indices, -near


def ball_size(bits: int, radius: int) -> int:
    """Addresses within `radius` of one address: sum of the binomial coefficients."""
    return sum(math.comb(bits, i) for i in range(radius + 1))


@functools.lru_cache(maxsize=32)
def ball(bits: int, radius: int) -> np.ndarray:
    """The patterns of at most `radius` ones among `bits`, uint64, fewest ones first, and among as
    many by their places: {0, 1}, {0, 2}, ..., {1, 2}, ..."""
    patterns = [
        sum(1 << place for place in places)
        for ones in range(min(radius, bits) + 1)
        for places in itertools.combinations(range(bits), ones)
    ]
    return np.array(patterns, np.uint64)


class HashTable:
    """The lists of items at each address, and the look-up of all within a Hamming ball.

    Args:
        bits: `[N, b]` codes, b at most 64.
    Raises:
        ValueError: longer codes (use `rank`), or values other than 0 and 1.
    """

    def __init__(self, bits: np.ndarray):
        self.bits = np.shape(bits)[-1]
        if self.bits > _MOST_ADDRESSED:
            raise ValueError(f"a code of {self.bits} bits is no address: use rank")
        where = _addresses(bits)
        self._order = np.argsort(where, kind="stable")
        self._sorted = where[self._order]
        self._starts = None
        if self.bits <= _DIRECT_BITS:
            everywhere = np.arange(2**self.bits + 1, dtype=np.uint64)
            self._starts = np.searchsorted(self._sorted, everywhere).astype(np.int32)

    def lookup(self, query: np.ndarray, radius: int) -> np.ndarray:
        """The items whose codes differ from the query's in at most `radius` bits.

        Args:
            query: `[b]` bits.
            radius: from 0; the ball's addresses are all visited, `ball_size(b, radius)` of them.
        Returns:
            positions in the collection, nearest first, equal distances in the order of `ball`: by
            the places of the differing bits, lowest place first, and then by position.
        """
        if np.shape(query) != (self.bits,):
            raise ValueError(f"query has shape {np.shape(query)}, codes have {self.bits} bits")
        visited = _addresses(np.asarray(query)[None])[0] ^ ball(self.bits, radius)
        if self._starts is not None:
            first, last = self._starts[visited], self._starts[visited + np.uint64(1)]
        else:
            first = np.searchsorted(self._sorted, visited)
            last = np.searchsorted(self._sorted, visited, side="right")
        sizes = last - first
        # All lists at once: item i of the answer is its list's first one, and as far on as i is.
        ahead = first - (np.cumsum(sizes) - sizes)
        return self._order[np.repeat(ahead, sizes) + np.arange(sizes.sum())]


def _addresses(bits: np.ndarray) -> np.ndarray:
    """Codes `[N, b]` as uint64 numbers."""
    words = pack(bits).astype(np.uint64)
    return words[:, 0] | (words[:, 1] << np.uint64(WORD) if words.shape[1] > 1 else np.uint64(0))
