"""Exact nearest rows of a large matrix, in blocks, on one device or several.

Candidates come from one matrix product per block of rows: the row with the largest
`q.r - |r|^2 / 2` is the nearest to q. The rounding of products depends on the block size, so the
distances of the candidates are computed again by direct differences and sorted by (distance,
index). A bound on the rounding error of the product tells whether a row outside the candidates
could belong to the result; if so (many equal or nearly equal distances), the distances of all rows
are computed directly. So the result is bitwise equal for any block size and number of shards.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

_SLACK = 16  # candidates beyond k; more make the fallback to all rows rarer
_SPLIT = {"float32": (jnp.int32, 12), "float64": (jnp.int64, 27)}  # number of lower bits
_GROUP = 16  # columns per group; a first selection compares the maxima of groups


def nearest(
    queries: jax.Array,
    rows: jax.Array,
    k: int,
    exclude: jax.Array | None = None,
    valid: jax.Array | None = None,
    block: int = 4096,
    axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The k rows nearest to each query in Euclidean distance; ties go to the lowest index.

    Memory beyond the arguments is O(B * block), independent of N. No gradient flows.

    Args:
        queries: `[B, d]` float.
        rows: `[N, d]` float; under `axis_name` this device's shard, shards in index order and
            of equal size.
        k: at most N (all shards together).
        exclude: `[B]` int32, a row that is not returned for the query (itself); -1 for none.
        valid: `[N]` bool, rows that may be returned; sharded as the rows are.
        block: rows per matrix product.
        axis_name: the axis of `shard_map` or `pmap` over which rows are split; the queries and
            the result are the same on every device.
    Returns:
        indices `[B, k]` int32 and squared distances `[B, k]`, nearest first; float64 if queries or
        rows are (with JAX_ENABLE_X64), else float32. If fewer than k rows may be returned, the rest
        has index -1 and distance inf.
    Raises:
        ValueError: shapes do not match, or k is not in 1..N.
    """
    kind = jnp.result_type(queries, rows, jnp.float32)
    queries, rows = (jax.lax.stop_gradient(jnp.asarray(x, kind)) for x in (queries, rows))
    shards = 1 if axis_name is None else jax.lax.axis_size(axis_name)
    size = rows.shape[0]
    if queries.ndim != 2 or rows.ndim != 2 or queries.shape[1] != rows.shape[1]:
        raise ValueError(
            f"nearest: queries and rows must be [B,d] and [N,d], are {queries.shape} and "
            f"{rows.shape}"
        )
    if not 1 <= k <= size * shards:
        raise ValueError(f"nearest: k must be in 1..{size * shards} (the rows), is {k}")
    offset = 0 if axis_name is None else jax.lax.axis_index(axis_name) * size
    own = jnp.full(queries.shape[:1], -1) if exclude is None else exclude - offset
    allowed = jnp.ones((size,), bool) if valid is None else valid

    certain, distances, indices = _by_product(queries, rows, own, allowed, min(k, size), block)
    # A loop of at most one iteration, not a `cond`: under `vmap` a cond computes both branches.
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
    """Whether the result is certainly right, distances [B,k], indices [B,k]; see `_best`."""
    # |q-r|^2 = |q|^2 + |r|^2 - 2 q.r loses precision far from the origin.
    centre = jnp.mean(queries, axis=0, keepdims=True)
    centred = queries - centre

    def score(block_rows: jax.Array) -> jax.Array:
        near = block_rows - centre
        product = jnp.matmul(centred, near.T, precision=jax.lax.Precision.HIGHEST)
        return product - 0.5 * jnp.sum(jnp.square(near), axis=1)[None]

    count = min(k + _SLACK, rows.shape[0])
    scores, candidates = _best(score, _grouped_top, rows, own, allowed, count, block)
    distances = _squared_distances(queries[:, None], rows[candidates])
    distances = jnp.where(jnp.isneginf(scores), jnp.inf, distances)
    distances, indices = jax.lax.sort((distances, candidates), num_keys=2)
    distances, indices = distances[:, :k], indices[:, :k]

    # A row outside has a score of at most `lowest`, so a squared distance of at least
    # |q|^2 - 2 lowest, up to the rounding for rows within the k-th distance: |r| <= |q| + it.
    lowest, kth = jnp.min(scores, axis=1), distances[:, -1]
    length = jnp.sqrt(jnp.sum(jnp.square(centred), axis=1))
    reach = length + jnp.sqrt(kth)
    rounding = (rows.shape[1] + 16) * jnp.finfo(rows.dtype).eps
    margin = rounding * (jnp.square(length) + 2 * length * reach + jnp.square(reach) + kth)
    outside_is_further = jnp.square(length) - 2 * lowest - margin > kth
    all_rows = count == rows.shape[0]
    return jnp.all(all_rows | jnp.isneginf(lowest) | outside_is_further), distances, indices


def _by_differences(
    queries: jax.Array, rows: jax.Array, own: jax.Array, allowed: jax.Array, k: int, block: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """As `_by_product`, from direct distances to all rows: slow, always right."""
    score = lambda block_rows: -_squared_distances(queries[:, None], block_rows[None])
    scores, indices = _best(score, jax.lax.top_k, rows, own, allowed, k, block)
    return jnp.array(True), -scores, indices


def _squared_distances(a: jax.Array, b: jax.Array) -> jax.Array:
    """|a-b|^2 over the last axis, bitwise equal in every compiled program.

    Whether a compiler fuses products into sums, and how it orders the terms of a reduction, depends
    on the program. So each difference is split into a high and a low part (12 bits each in float32;
    26 in float64, the low one signed), whose products are exact, and the sum is an explicit tree.
    """
    difference = a - b
    integer, lower = _SPLIT[difference.dtype.name]
    unit = integer(1) << integer(lower)
    bits = jax.lax.bitcast_convert_type(difference, integer) + unit // 2  # round to nearest
    high = jax.lax.bitcast_convert_type(bits & -unit, difference.dtype)
    low = difference - high
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
    count: int,
    block: int,
) -> tuple[jax.Array, jax.Array]:
    """The rows with the largest scores, block by block.

    Args:
        score: rows `[block, d]` -> `[B, block]`, larger is nearer.
        top: scores, m -> the m largest of each row of `scores` and their columns.
        own: `[B]`, the excluded row of each query.
        allowed: `[N]` bool, rows that may be returned.
        count: number of rows returned.
    Returns:
        scores and indices `[B, count]`; the score is -inf where there are too few rows.
    """
    size, batch = rows.shape[0], own.shape[0]
    block = min(block, size)

    def add(best: tuple[jax.Array, jax.Array], number: jax.Array) -> tuple[tuple, None]:
        # The last block is shifted to have full size; repeated rows are masked.
        start = jnp.minimum(number * block, size - block)
        part = lambda x: jax.lax.dynamic_slice_in_dim(x, start, block)
        index = start + jnp.arange(block, dtype=jnp.int32)
        fresh = part(allowed) & (index >= number * block)
        usable = fresh[None] & (index[None] != own[:, None])
        scores, columns = top(jnp.where(usable, score(part(rows)), -jnp.inf), min(count, block))
        # Earlier rows come first: they have lower indices, and `top_k` prefers the first of a tie.
        scores = jnp.concatenate([best[0], scores], axis=1)
        indices = jnp.concatenate([best[1], start + columns], axis=1)
        scores, order = jax.lax.top_k(scores, count)
        return (scores, jnp.take_along_axis(indices, order, axis=1)), None

    empty = jnp.full((batch, count), -jnp.inf, rows.dtype), jnp.zeros((batch, count), jnp.int32)
    return jax.lax.scan(add, empty, jnp.arange(-(-size // block), dtype=jnp.int32))[0]


def _grouped_top(scores: jax.Array, m: int) -> tuple[jax.Array, jax.Array]:
    """`top_k` with ties in any order: the m largest lie in the m groups of largest maxima."""
    batch, columns = scores.shape
    groups = columns // _GROUP
    if columns % _GROUP or groups <= m:
        return jax.lax.top_k(scores, m)
    table = scores.reshape(batch, _GROUP, groups)
    _, group = jax.lax.top_k(jnp.max(table, axis=1), m)
    members = jnp.take_along_axis(table, group[:, None], axis=2).reshape(batch, -1)
    row = jnp.arange(_GROUP, dtype=jnp.int32)[None, :, None]
    column = (row * groups + group[:, None]).reshape(batch, -1)
    best, order = jax.lax.top_k(members, m)
    return best, jnp.take_along_axis(column, order, axis=1)
