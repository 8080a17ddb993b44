"""An index of binary codes: packed words, exact ranking, and look-up by address.

Salakhutdinov & Hinton 2009, "Semantic hashing": the code of an item is the address of the list
that contains it, and the items within a few bits of a query are found by a look-up of all addresses
in that Hamming ball. The number of look-ups depends on the ball, not on the collection. For short
codes only: a ball of radius 2 has 211 addresses for 20 bits and 2,081 for 64. Longer codes are
ranked exactly, by XOR and population count of 32-bit words.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

WORD = 32
_DIRECT_BITS = 22  # up to this length a table has an entry for every address
_MAX_BITS = 64
_BLOCK = 8192


def pack(bits: np.ndarray) -> np.ndarray:
    """Bits `[N, b]` (bool, or 0 and 1) as words `[N, ceil(b / 32)]` uint32.

    Bit j of a code is bit j % 32 of word j // 32; unused bits of the last word are 0.

    Raises:
        ValueError: not two axes, or values other than 0 and 1.
    """
    bits = np.asarray(bits)
    if bits.ndim != 2 or not np.isin(bits, (0, 1)).all():
        raise ValueError(f"bits must be [N, b] of 0 and 1, are {bits.dtype} {bits.shape}")
    count, length = bits.shape
    padded = np.zeros((count, math.ceil(length / WORD) * WORD), np.uint8)
    padded[:, :length] = bits
    return np.packbits(padded, axis=1, bitorder="little").view("<u4").astype(np.uint32)


def distances(queries: jax.Array, codes: jax.Array) -> jax.Array:
    """Hamming distances: words `[Q, W]` and `[N, W]` -> `[Q, N]` int32."""
    differing = jax.lax.population_count(queries[:, None] ^ codes[None])
    return jnp.sum(differing.astype(jnp.int32), axis=-1)


@functools.partial(jax.jit, static_argnums=(2, 3))
def rank(
    queries: jax.Array, codes: jax.Array, k: int, block: int = _BLOCK
) -> tuple[jax.Array, jax.Array]:
    """The k codes nearest to each query by exact search; ties go to the lowest index.

    Memory beyond the arguments is O(Q * block), independent of N.

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
        raise ValueError(f"rank: k must be in 1..{size} (the codes), is {k}")
    block, far = min(block, size), WORD * codes.shape[1] + 1

    def add(best, number):
        # The last block is shifted to have full size; repeated codes get the largest distance.
        start = jnp.minimum(number * block, size - block)
        index = start + jnp.arange(block)
        gap = distances(queries, jax.lax.dynamic_slice_in_dim(codes, start, block))
        gap = jnp.where((index >= number * block)[None], gap, far)
        near, columns = jax.lax.top_k(-gap, min(k, block))
        # Earlier codes come first: they have lower indices, and `top_k` prefers the first of a tie.
        near = jnp.concatenate([best[0], near], axis=1)
        indices = jnp.concatenate([best[1], start + columns], axis=1)
        near, order = jax.lax.top_k(near, k)
        return (near, jnp.take_along_axis(indices, order, axis=1)), None

    shape = queries.shape[0], k
    start = jnp.full(shape, -far, jnp.int32), jnp.zeros(shape, jnp.int32)
    (near, indices), _ = jax.lax.scan(add, start, jnp.arange(-(-size // block)))
    return indices, -near


def ball_size(bits: int, radius: int) -> int:
    """Number of addresses within `radius` of an address: a sum of binomial coefficients."""
    return sum(math.comb(bits, i) for i in range(radius + 1))


@functools.lru_cache(maxsize=32)
def ball(bits: int, radius: int) -> np.ndarray:
    """The patterns of `bits` bits with at most `radius` ones, uint64, ordered by the number of
    ones, then by their positions: {0, 1}, {0, 2}, ..., {1, 2}, ..."""
    patterns = [
        sum(1 << place for place in places)
        for ones in range(min(radius, bits) + 1)
        for places in itertools.combinations(range(bits), ones)
    ]
    return np.array(patterns, np.uint64)


class HashTable:
    """The items at each address, and look-up of all items within a Hamming ball.

    Args:
        bits: `[N, b]` codes, b at most 64.
    Raises:
        ValueError: longer codes (use `rank`), or values other than 0 and 1.
    """

    def __init__(self, bits: np.ndarray):
        self.bits = np.shape(bits)[-1]
        if self.bits > _MAX_BITS:
            raise ValueError(
                f"HashTable: codes must have at most {_MAX_BITS} bits, have {self.bits}: use rank"
            )
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
            radius: at least 0; `ball_size(b, radius)` addresses are looked up.
        Returns:
            positions in the collection, nearest first, equal distances in the order of `ball` (by
            the positions of the differing bits), then by position in the collection.
        """
        if np.shape(query) != (self.bits,):
            raise ValueError(f"lookup: query must be [{self.bits}], has shape {np.shape(query)}")
        visited = _addresses(np.asarray(query)[None])[0] ^ ball(self.bits, radius)
        if self._starts is not None:
            first, last = self._starts[visited], self._starts[visited + np.uint64(1)]
        else:
            first = np.searchsorted(self._sorted, visited)
            last = np.searchsorted(self._sorted, visited, side="right")
        sizes = last - first
        # All lists at once: the offset maps positions in the result to positions in `_order`.
        offset = first - (np.cumsum(sizes) - sizes)
        return self._order[np.repeat(offset, sizes) + np.arange(sizes.sum())]


def _addresses(bits: np.ndarray) -> np.ndarray:
    """Codes `[N, b]` as uint64 numbers."""
    words = pack(bits).astype(np.uint64)
    return words[:, 0] | (words[:, 1] << np.uint64(WORD) if words.shape[1] > 1 else np.uint64(0))
