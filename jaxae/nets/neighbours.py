"""Exact nearest rows of a large matrix, in blocks, on one device or on many.

Candidates come from one product per block of rows: the row with the largest
`q.r - |r|^2 / 2` is the nearest to q. Products round differently for other block sizes, so the
candidates are then measured again by direct differences and sorted by (distance, index). A bound
on the product's rounding error tells whether a row outside the candidates could belong to the
answer; where it could (many equal or nearly equal distances), all rows are measured directly.
The answer is therefore the same bit for bit for every block size and number of shards.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

_SLACK = 16  # candidates beyond k: the more, the seldomer all rows must be measured
_SPLIT = {"float32": (jnp.int32, 12), "float64": (jnp.int64, 27)}  # lower bits of a number
_GROUP = 16  # columns whose largest score stands for all of them in the first selection


def nearest(
    queries: jax.Array,
    rows: jax.Array,
    k: int,
    exclude: jax.Array | None = None,
    valid: jax.Array | None = None,
    block: int = 4096,
    axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The k rows nearest to each query in Euclidean distance; equal distances by lowest index.

    Memory beyond the arguments is O(B * block), whatever N is. No gradient flows.

    Args:
        queries: `[B, d]` float.
        rows: `[N, d]` float; under `axis_name` this device's shard, shards in index order and
            of equal size.
        k: at most N (all shards together).
        exclude: `[B]` int32, the row that the query must not get (itself); -1 for none.
        valid: `[N]` bool, rows that may be returned; sharded as the rows are.
        block: rows per product.
        axis_name: the axis of `shard_map` or `pmap` over which rows are split; the queries and
            the result are the same on every device.
    Returns:
        indices `[B, k]` int32 and squared distances `[B, k]`, nearest first, float64 where queries
        or rows are (jax knows it under JAX_ENABLE_X64 only), else float32. Where fewer than k rows
        may be returned, the rest is index -1 at distance inf.
    Raises:
        ValueError: shapes do not fit, or k is not in 1..N.
    """
    kind = jnp.result_type(queries, rows, jnp.float32)
    queries, rows = (jax.lax.stop_gradient(jnp.asarray(x, kind)) for x in (queries, rows))
    shards = 1 if axis_name is None else jax.lax.axis_size(axis_name)
    size = rows.shape[0]
    if queries.ndim != 2 or rows.ndim != 2 or queries.shape[1] != rows.shape[1]:
        raise ValueError(f"queries {queries.shape} and rows {rows.shape} must be [B,d] and [N,d]")
    if not 1 <= k <= size * shards:
        raise ValueError(f"k is {k}, with {size * shards} rows it must be in 1..{size * shards}")
    offset = 0 if axis_name is None else jax.lax.axis_index(axis_name) * size
    own = jnp.full(queries.shape[:1], -1) if exclude is None else exclude - offset
    allowed = jnp.ones((size,), bool) if valid is None else valid

    certain, distances, indices = _by_product(queries, rows, own, allowed, min(k, size), block)
    # A loop of at most one turn, not a `cond`: under `vmap` a cond always computes both sides.
    _, distances, indices = jax.lax.while_loop(
        lambda found: ~found[0],
        lambda found: _by_differences(queries, rows, own, allowed, min(k, size), block),
        (certain, distances, indices),
    )
    indices = (indices + offset).astype(jnp.int32)
    if axis_name is not None:
        gathered = jax.lax.all_gather((distances, indices), axis_name, axis=1)
        distances, indices = (x.reshape(x.shape[0], -1) for x in gathered)
        distances, indices = jax.lax.sort((distances, indices), num_keys=2)
        distances, indices = distances[:, :k], indices[:, :k]
    return jnp.where(jnp.isinf(distances), -1, indices), distances


def _by_product(
    queries: jax.Array, rows: jax.Array, own: jax.Array, allowed: jax.Array, k: int, block: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Whether the answer is certainly right, distances [B,k], indices [B,k]; see `_best`."""
    # The identity |q-r|^2 = |q|^2 + |r|^2 - 2 q.r cancels badly far from the origin.
    centre = jnp.mean(queries, axis=0, keepdims=True)
    centred = queries - centre

    def score(block_rows: jax.Array) -> jax.Array:
        near = block_rows - centre
        product = jnp.matmul(centred, near.T, precision=jax.lax.Precision.HIGHEST)
        return product - 0.5 * jnp.sum(jnp.square(near), axis=1)[None]

    kept = min(k + _SLACK, rows.shape[0])
    scores, candidates = _best(score, _grouped_top, rows, own, allowed, kept, block)
    distances = _squared_distances(queries[:, None], rows[candidates])
    distances = jnp.where(jnp.isneginf(scores), jnp.inf, distances)
    distances, indices = jax.lax.sort((distances, candidates), num_keys=2)
    distances, indices = distances[:, :k], indices[:, :k]

    # A row outside has a score of at most `least`, so it lies at |q|^2 - 2 `least` or beyond, less
    # the rounding of a row which is no further than the k-th distance: |r| <= |q| + that distance.
    least, kth = jnp.min(scores, axis=1), distances[:, -1]
    length = jnp.sqrt(jnp.sum(jnp.square(centred), axis=1))
    reach = length + jnp.sqrt(kth)
    rounding = (rows.shape[1] + 16) * jnp.finfo(rows.dtype).eps
    margin = rounding * (jnp.square(length) + 2 * length * reach + jnp.square(reach) + kth)
    outside_is_further = jnp.square(length) - 2 * least - margin > kth
    everything = kept == rows.shape[0]
    return jnp.all(everything | jnp.isneginf(least) | outside_is_further), distances, indices


def _by_differences(
    queries: jax.Array, rows: jax.Array, own: jax.Array, allowed: jax.Array, k: int, block: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What `_by_product` returns, from the direct distance to every row: slow, always right."""
    score = lambda block_rows: -_squared_distances(queries[:, None], block_rows[None])
    scores, indices = _best(score, jax.lax.top_k, rows, own, allowed, k, block)
    return jnp.array(True), -scores, indices


def _squared_distances(a: jax.Array, b: jax.Array) -> jax.Array:
    """|a-b|^2 over the last axis, with the same bits wherever it is compiled.

    Compilers fuse products into sums or not, and order the terms of a reduction, as the context
    suggests. Halves of a number have exact products (of 12 bits each in float32; in float64 of 26,
    the lower one with a sign), which leaves nothing for a fusion to round differently, and the sum
    is written out as a tree.
    """
    gap = a - b
    whole, lower = _SPLIT[gap.dtype.name]
    unit = whole(1) << whole(lower)
    bits = jax.lax.bitcast_convert_type(gap, whole) + unit // 2  # to the nearest
    high = jax.lax.bitcast_convert_type(bits & -unit, gap.dtype)
    low = gap - high
    terms = high * high + 2 * high * low + low * low
    while (size := terms.shape[-1]) > 1:
        half = size // 2
        pairs = terms[..., :half] + terms[..., half : 2 * half]
        terms = jnp.concatenate([pairs, terms[..., 2 * half :]], axis=-1) if size % 2 else pairs
    return terms[..., 0]


def _best(
    score: Callable,
    top: Callable,
    rows: jax.Array,
    own: jax.Array,
    allowed: jax.Array,
    kept: int,
    block: int,
) -> tuple[jax.Array, jax.Array]:
    """The rows with the largest scores, block after block.

    Args:
        score: rows `[block, d]` -> `[B, block]`, larger is nearer.
        top: scores, m -> the m largest of each row of `scores` and their columns.
        own: `[B]` a row which scores -inf for its query, and `allowed` `[N]`: rows which do not.
        kept: how many.
    Returns:
        scores and indices `[B, kept]`; -inf at any index where there are too few.
    """
    size, batch = rows.shape[0], own.shape[0]
    block = min(block, size)

    def add(best: tuple[jax.Array, jax.Array], number: jax.Array) -> tuple[tuple, None]:
        # The last block starts early enough to be whole; what it repeats is masked.
        start = jnp.minimum(number * block, size - block)
        part = lambda x: jax.lax.dynamic_slice_in_dim(x, start, block)
        index = start + jnp.arange(block, dtype=jnp.int32)
        fresh = part(allowed) & (index >= number * block)
        usable = fresh[None] & (index[None] != own[:, None])
        scores, columns = top(jnp.where(usable, score(part(rows)), -jnp.inf), min(kept, block))
        # The kept ones come first: they have the lower indices, and `top_k` takes the first.
        scores = jnp.concatenate([best[0], scores], axis=1)
        indices = jnp.concatenate([best[1], start + columns], axis=1)
        scores, order = jax.lax.top_k(scores, kept)
        return (scores, jnp.take_along_axis(indices, order, axis=1)), None

    nothing = jnp.full((batch, kept), -jnp.inf, rows.dtype), jnp.zeros((batch, kept), jnp.int32)
    return jax.lax.scan(add, nothing, jnp.arange(-(-size // block), dtype=jnp.int32))[0]


def _grouped_top(scores: jax.Array, m: int) -> tuple[jax.Array, jax.Array]:
    """`top_k` in any order of ties: the m largest lie in the m groups with the largest maxima."""
    batch, columns = scores.shape
    groups = columns // _GROUP
    if columns % _GROUP or groups <= m:
        return jax.lax.top_k(scores, m)
    table = scores.reshape(batch, _GROUP, groups)
    _, group = jax.lax.top_k(jnp.max(table, axis=1), m)
    members = jnp.take_along_axis(table, group[:, None], axis=2).reshape(batch, -1)
    place = jnp.arange(_GROUP, dtype=jnp.int32)[None, :, None]
    column = (place * groups + group[:, None]).reshape(batch, -1)
    best, order = jax.lax.top_k(members, m)
    return best, jnp.take_along_axis(column, order, axis=1)
