"""Vector quantisation: tables of vectors, the nearest row of each, and how a table learns.

van den Oord, Vinyals & Kavukcuoglu 2017, arXiv:1711.00937. z [..., G, D] holds G vectors at every
place, each with a table of its own: tables [G, K, D], index [..., G]. The gradient of a look-up
moves the tables alone; `straight_through` sends the gradient of what follows past it.
"""

import jax
import jax.numpy as jnp

EPSILON = 1e-5  # deepmind/sonnet: vqvae.py


def nearest_row(points: jax.Array, rows: jax.Array) -> jax.Array:
    """The row nearest to each point in Euclidean distance, the lower index in a tie.

    Args:
        points: `[..., D]` float; rows: `[K, D]` float. Both are constants to any gradient.
    Returns:
        `[...]` int32 in 0..K-1.
    """
    points, rows = jax.lax.stop_gradient((points, rows))
    # In float32 whatever the backend prefers: near codes are told apart by small differences.
    product = jnp.matmul(points, rows.T, precision=jax.lax.Precision.HIGHEST)
    half_squares = 0.5 * jnp.sum(jnp.square(rows), axis=1)
    half_squares = half_squares.reshape((1,) * (product.ndim - 1) + (-1,))
    return jnp.argmax(product - half_squares, axis=-1).astype(jnp.int32)


def look_up(z: jax.Array, tables: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Every vector's nearest row of its own table.

    Args:
        z: `[..., G, D]`; tables: `[G, K, D]`.
    Returns:
        e `[..., G, D]`, whose gradient moves the rows that were found; index `[..., G]` int32.
    """
    index = jax.vmap(nearest_row, in_axes=(-2, 0), out_axes=-1)(z, tables)
    return rows_at(tables, index), index


def rows_at(tables: jax.Array, index: jax.Array) -> jax.Array:
    """The rows `index [..., G]` of `tables [G, K, D]`: `[..., G, D]`."""
    return jax.vmap(lambda table, i: table[i], in_axes=(0, -1), out_axes=-2)(tables, index)


def straight_through(z: jax.Array, e: jax.Array) -> jax.Array:
    """e to the last bit, with the gradient of the identity in z and none in e."""
    return jax.lax.stop_gradient(e) + (z - jax.lax.stop_gradient(z))


def apart(a: jax.Array, b: jax.Array) -> jax.Array:
    """|a - sg[b]|^2, summed over the last axis: it draws a to b and leaves b where it is."""
    return jnp.sum(jnp.square(a - jax.lax.stop_gradient(b)), axis=-1)


def usage(z: jax.Array, index: jax.Array, codes: int) -> tuple[jax.Array, jax.Array]:
    """How many vectors chose each row, and their sum.

    Args:
        z: `[..., G, D]`; index: `[..., G]`; codes: K.
    Returns:
        counts `[G, K]`, sums `[G, K, D]`, both float32.
    """
    groups, width = z.shape[-2:]
    chosen = jax.nn.one_hot(index.reshape(-1, groups), codes)  # [V, G, K]
    sums = jnp.einsum(
        "vgk,vgd->gkd", chosen, z.reshape(-1, groups, width), precision=jax.lax.Precision.HIGHEST
    )
    return jnp.sum(chosen, axis=0), sums


def moving_average(
    count: jax.Array,
    total: jax.Array,
    counts: jax.Array,
    sums: jax.Array,
    decay: float,
    epsilon: float = EPSILON,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One step of a table that follows the vectors that choose it, without a gradient.

        N <- decay N + (1 - decay) n      m <- decay m + (1 - decay) s      e = m / N'

    N' is N with epsilon added to each and the total kept, so that a row that nobody chooses goes to
    zero in the end. Begin with N = 1 and m = e: from N = 0 an unused row is m / epsilon at once,
    and never comes back.

    Args:
        count, total: N `[G, K]` and m `[G, K, D]`.
        counts, sums: n and s of a batch, see `usage`.
    Returns:
        N, m, e.
    Source: arXiv:1711.00937, appendix A.1; epsilon as in deepmind/sonnet: vqvae.py.
    """
    count = decay * count + (1 - decay) * counts
    total = decay * total + (1 - decay) * sums
    whole = jnp.sum(count, axis=-1, keepdims=True)
    smooth = (count + epsilon) / (whole + count.shape[-1] * epsilon) * whole
    return count, total, total / smooth[..., None]


def drawn_vectors(z: jax.Array, priority: jax.Array, codes: int) -> jax.Array:
    """K of the vectors `z [V, G, D]` for each table, the ones of highest `priority [V]`.

    With uniform priorities that is a draw without replacement. Where there are fewer than K the
    vectors are repeated.

    Returns:
        `[G, K, D]`
    """
    _, rows = jax.lax.top_k(priority, min(codes, len(z)))
    return jnp.moveaxis(z[jnp.resize(rows, codes)], 1, 0)


def perplexity(counts: jax.Array) -> jax.Array:
    """exp(entropy) of how often each row was chosen: `[..., K]` -> `[...]`, in 1..K."""
    share = counts / jnp.maximum(jnp.sum(counts, axis=-1, keepdims=True), 1)
    return jnp.exp(jnp.sum(jax.scipy.special.entr(share), axis=-1))
