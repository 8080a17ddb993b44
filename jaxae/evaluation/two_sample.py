"""Do two sets of vectors come from one distribution? The energy distance, and a permutation test.

Szekely & Rizzo 2013, "Energy statistics: a class of statistics based on distances", Journal of
Statistical Planning and Inference 143. For X, X' ~ P and Y, Y' ~ Q, all independent,

    energy distance(P, Q) = 2 E|X - Y| - E|X - X'| - E|Y - Y'|  >=  0, and 0 only where P = Q.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

_ROWS = 256  # of the distance matrix at a time
_BY_DIFFERENCES = 64  # dimensions up to which distances are taken from differences
_TIE = 1e-5  # relative; what rounding may part


def two_sample_test(
    x: np.ndarray, y: np.ndarray, rng: jax.Array, permutations: int = 200
) -> dict[str, float]:
    """Energy distance of two samples, and how often chance alone makes it as large.

    Under the null hypothesis (one distribution) the p-value is below a level alpha with a
    probability of at most alpha, whatever the distribution and the sizes of the samples. Memory
    is O((N + M)(Z + permutations)): of the matrix of distances only some rows exist at a time.

    Args:
        x: `[N, Z]`, and `y` `[M, Z]`, at least 2 rows each; taken as float32.
        rng: for the permutations.
        permutations: how many; the smallest possible p-value is 1 / (permutations + 1).
    Returns:
        `statistic`: the energy distance of the two empirical distributions, in the unit of x (it
        counts each point's distance 0 to itself, so it is not 0 on average under the null;
        `scipy.stats.energy_distance` is its square root), >= 0;
        `p_value`: in (0, 1], the share of exchanges of x and y, the given one among them, whose
        statistic is at least this large.
    Raises:
        ValueError: shapes do not fit, numbers are not finite, or permutations is below 1.
    """
    x, y = np.asarray(x, np.float32), np.asarray(y, np.float32)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"x {x.shape} and y {y.shape} must be [N, Z] and [M, Z] with one Z")
    if min(len(x), len(y)) < 2:
        raise ValueError(f"x has {len(x)} rows and y {len(y)}; both need at least 2")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("x and y must be finite: they hold NaN or infinity")
    if permutations < 1:
        raise ValueError(f"permutations is {permutations}; it must be at least 1")

    # With c = 1/N on x and -1/M on y the statistic is -c'Dc, D the pooled matrix of distances; an
    # exchange permutes c and leaves D alone.
    pooled = np.concatenate([x, y])
    contrast = np.repeat(np.float32([1 / len(x), -1 / len(y)]), [len(x), len(y)])
    found = _statistics(pooled, _exchanges(rng, jnp.asarray(contrast), permutations))
    # Equal exchanges may differ by rounding.
    as_large = int(np.sum(found[1:] >= found[0] - _TIE * abs(found[0])))
    return {
        "statistic": max(0.0, float(found[0])),
        "p_value": (1 + as_large) / (1 + permutations),
    }


@functools.partial(jax.jit, static_argnums=2)
def _exchanges(rng: jax.Array, contrast: jax.Array, count: int) -> jax.Array:
    """`[N, 1 + count]`: the contrast `[N]` itself, then as many permutations of it."""
    copies = jnp.broadcast_to(contrast, (count, len(contrast)))
    permuted = jax.random.permutation(rng, copies, axis=1, independent=True)
    return jnp.concatenate([contrast[None], permuted]).T


def _statistics(points: np.ndarray, contrasts: jax.Array) -> np.ndarray:
    """`[K]` float64: -c'Dc for each column of `contrasts` `[N, K]`, D the distances of `points`."""
    rest = -len(points) % _ROWS
    rows = jnp.pad(points - points.mean(0, keepdims=True), ((0, rest), (0, 0)))
    columns, weights = rows[: len(points)], jnp.pad(contrasts, ((0, rest), (0, 0)))
    parts = [
        _part(rows[start : start + _ROWS], weights[start : start + _ROWS], columns, contrasts)
        for start in range(0, len(rows), _ROWS)
    ]
    return -np.sum(np.asarray(parts, np.float64), axis=0)


@jax.jit
def _part(rows, weights, columns, contrasts):
    """The share `[K]` of some rows of D in c'Dc."""
    exact = jax.lax.Precision.HIGHEST
    if rows.shape[1] <= _BY_DIFFERENCES:
        squares = jnp.sum(jnp.square(rows[:, None] - columns[None]), axis=2)
    else:
        size = lambda points: jnp.sum(jnp.square(points), axis=1)
        both = size(rows)[:, None] + size(columns)[None]
        squares = both - 2 * jnp.matmul(rows, columns.T, precision=exact)
        # What is left of equal points is rounding, and its root would be much larger.
        squares = jnp.where(squares > 1e-6 * both, squares, 0.0)
    distances = jnp.sqrt(squares)
    return jnp.sum(weights * jnp.matmul(distances, contrasts, precision=exact), axis=0)
