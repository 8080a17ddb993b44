"""Vector quantisation: codebooks, nearest rows, and the moving-average update of a codebook.

van den Oord, Vinyals & Kavukcuoglu 2017, arXiv:1711.00937. z [..., G, D] holds G vectors at each
position, each with its own table: tables [G, K, D], index [..., G]. The gradient of a look-up
flows to the tables only; `straight_through` passes the gradient on to z.
"""

import jax
import jax.numpy as jnp

EPSILON = 1e-5  # deepmind/sonnet: vqvae.py


def nearest_row(points: jax.Array, rows: jax.Array) -> jax.Array:
    """The row nearest to each point in Euclidean distance, the lower index in a tie.

    Args:
        points: `[..., D]` float; rows: `[K, D]` float. No gradient flows to either.
    Returns:
        `[...]` int32 in 0..K-1.
    """
    points, rows = jax.lax.stop_gradient((points, rows))
    # Full float32 precision on any backend: codes that lie close differ by small numbers.
    product = jnp.matmul(points, rows.T, precision=jax.lax.Precision.HIGHEST)
    half_squares = 0.5 * jnp.sum(jnp.square(rows), axis=1)
    half_squares = half_squares.reshape((1,) * (product.ndim - 1) + (-1,))
    return jnp.argmax(product - half_squares, axis=-1).astype(jnp.int32)


def look_up(z: jax.Array, tables: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The nearest row of each vector in its own table.

    Args:
        z: `[..., G, D]`; tables: `[G, K, D]`.
    Returns:
        e `[..., G, D]`, whose gradient flows to the selected rows; index `[..., G]` int32.
    """
    index = jax.vmap(nearest_row, in_axes=(-2, 0), out_axes=-1)(z, tables)
    return gather_rows(tables, index), index


def gather_rows(tables: jax.Array, index: jax.Array) -> jax.Array:
    """The rows `index [..., G]` of `tables [G, K, D]`: `[..., G, D]`."""
    return jax.vmap(lambda table, i: table[i], in_axes=(0, -1), out_axes=-2)(tables, index)


def straight_through(z: jax.Array, e: jax.Array) -> jax.Array:
    """e, bit for bit, with gradient one with respect to z and none with respect to e."""
    return jax.lax.stop_gradient(e) + (z - jax.lax.stop_gradient(z))


def squared_distance_to_constant(a: jax.Array, b: jax.Array) -> jax.Array:
    """|a - sg[b]|^2, summed over the last axis: the gradient flows to a only."""
    return jnp.sum(jnp.square(a - jax.lax.stop_gradient(b)), axis=-1)


def code_statistics(z: jax.Array, index: jax.Array, num_codes: int) -> tuple[jax.Array, jax.Array]:
    """The number of vectors assigned to each row, and their sum.

    Args:
        z: `[..., G, D]`; index: `[..., G]`; num_codes: K.
    Returns:
        counts `[G, K]`, sums `[G, K, D]`, both float32.
    """
    groups, width = z.shape[-2:]
    assigned = jax.nn.one_hot(index.reshape(-1, groups), num_codes)  # [V, G, K]
    sums = jnp.einsum(
        "vgk,vgd->gkd", assigned, z.reshape(-1, groups, width), precision=jax.lax.Precision.HIGHEST
    )
    return jnp.sum(assigned, axis=0), sums


def update_moving_average(
    count: jax.Array,
    total: jax.Array,
    counts: jax.Array,
    sums: jax.Array,
    decay: float,
    epsilon: float = EPSILON,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One step of the moving-average update of a codebook (no gradient).

        N <- decay N + (1 - decay) n      m <- decay m + (1 - decay) s      e = m / N'

    N' is N with epsilon added to each entry, rescaled to the same total, so that an unused row
    decays to zero. Start with N = 1 and m = e: with N = 0 an unused row becomes m / epsilon at
    once and is never selected again.

    Args:
        count, total: N `[G, K]` and m `[G, K, D]`.
        counts, sums: n and s of a batch, see `code_statistics`.
    Returns:
        N, m, e.
    Source: arXiv:1711.00937, appendix A.1; epsilon as in deepmind/sonnet: vqvae.py.
    """
    count = decay * count + (1 - decay) * counts
    total = decay * total + (1 - decay) * sums
    mass = jnp.sum(count, axis=-1, keepdims=True)
    smoothed = (count + epsilon) / (mass + count.shape[-1] * epsilon) * mass
    return count, total, total / smoothed[..., None]


def select_vectors(z: jax.Array, priority: jax.Array, num_codes: int) -> jax.Array:
    """The K vectors of `z [V, G, D]` with the highest `priority [V]`, for each table.

    With uniform random priorities this samples without replacement. With fewer than K vectors they
    are repeated.

    Returns:
        `[G, K, D]`
    """
    _, rows = jax.lax.top_k(priority, min(num_codes, len(z)))
    return jnp.moveaxis(z[jnp.resize(rows, num_codes)], 1, 0)


def perplexity(counts: jax.Array) -> jax.Array:
    """exp(entropy) of the frequencies of the rows: `[..., K]` counts -> `[...]`, in 1..K."""
    frequencies = counts / jnp.maximum(jnp.sum(counts, axis=-1, keepdims=True), 1)
    return jnp.exp(jnp.sum(jax.scipy.special.entr(frequencies), axis=-1))
