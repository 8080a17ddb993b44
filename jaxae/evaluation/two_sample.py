"""Do two sets of vectors come from one distribution? Three tests, each with its p-value.

Energy distance: Szekely & Rizzo 2013, "Energy statistics: a class of statistics based on
distances", Journal of Statistical Planning and Inference 143. Maximum mean discrepancy (MMD):
Gretton et al. 2012, "A kernel two-sample test", JMLR 13. For X, X' ~ P and Y, Y' ~ Q, all
independent,

    energy distance(P, Q) = 2 E|X - Y| - E|X - X'| - E|Y - Y'|  >=  0, and 0 only where P = Q,
    MMD^2(P, Q) = E k(X, X') + E k(Y, Y') - 2 E k(X, Y)         >=  0, likewise.

Classifier: Lopez-Paz & Oquab 2017, arXiv:1610.06545: if the distributions differ, a classifier can
learn to distinguish new rows of one set from new rows of the other.

All three return `statistic` and `p_value`. Under the null hypothesis (one distribution) the p-value
is at most alpha with probability at most alpha, for any distribution and sizes.
"""

import functools
import math
import warnings
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

_ROWS = 256  # rows of the distance matrix at a time
_BY_DIFFERENCES = 64  # dimensions up to which distances are computed from differences
_TIE = 1e-5  # relative tolerance within which two statistics count as equal
_KERNEL_TIE = 1e-6  # absolute tolerance, for means of a kernel that is at most 1
_MEDIAN_ROWS = 2000
_HIDDEN, _EPOCHS = 20, 100  # Lopez-Paz & Oquab 2017, section 5
_LEARNING_RATE = 1e-2  # higher than usual, since small sets have few steps per epoch


def two_sample_test(
    x: np.ndarray, y: np.ndarray, rng: jax.Array, permutations: int = 200
) -> dict[str, float]:
    """Energy distance of two samples, and its p-value by a permutation test.

    Memory is O((N + M)(Z + permutations)): the distance matrix is computed in blocks of rows.

    Args:
        x: `[N, Z]`, and `y` `[M, Z]`, at least 2 rows each; taken as float32.
        rng: for the permutations.
        permutations: their number; the smallest possible p-value is 1 / (permutations + 1).
    Returns:
        `statistic`: the energy distance of the two empirical distributions, in the unit of x (it
        includes the distance 0 of each point to itself, so its mean under the null is not 0;
        `scipy.stats.energy_distance` is its square root), >= 0;
        `p_value`: in (0, 1], the share of exchanges of x and y, the given one among them, whose
        statistic is at least this large.
    Raises:
        ValueError: shapes do not match, values are not finite, or permutations is below 1.
    """
    x, y = _checked(x, y, permutations)
    # With c = 1/N on x and -1/M on y the statistic is -c'Dc, D the pooled distance matrix; an
    # exchange permutes c only.
    pooled = np.concatenate([x, y])
    contrast = np.repeat(np.float32([1 / len(x), -1 / len(y)]), [len(x), len(y)])
    exchanges = _exchanges(rng, jnp.asarray(contrast), permutations)
    found = -_quadratic(pooled, exchanges, jnp.sqrt)
    # Equal statistics may differ by rounding.
    as_large = int(np.sum(found[1:] >= found[0] - _TIE * abs(found[0])))
    return {
        "statistic": max(0.0, float(found[0])),
        "p_value": (1 + as_large) / (1 + permutations),
    }


def mmd_test(
    x: np.ndarray,
    y: np.ndarray,
    rng: jax.Array,
    permutations: int = 200,
    bandwidth: float | None = None,
) -> dict[str, float]:
    """Squared MMD with a Gaussian kernel, and its p-value by a permutation test.

    k(a, b) = exp(-|a - b|^2 / (2 bandwidth^2)).

    Args:
        x: `[N, Z]`, and `y` `[M, Z]`, at least 2 rows each; taken as float32.
        rng: for the permutations, and for the rows used for the bandwidth.
        permutations: their number; the smallest possible p-value is 1 / (permutations + 1).
        bandwidth: in the unit of x. None: the median of the distances between different rows of
            the pooled sets (Gretton et al. 2012, section 8), of 2,000 random rows if there are
            more. It does not depend on which set a row is from, so the p-value stays exact.
    Returns:
        `statistic`: the unbiased estimate of MMD^2, at most 2; its mean under the null is 0, and it
        may be negative;
        `p_value`: in (0, 1], the share of exchanges of x and y, the given one among them, whose
        statistic is at least this large.
    Raises:
        ValueError: as `two_sample_test`, or a bandwidth that is not positive.
    """
    x, y = _checked(x, y, permutations)
    if bandwidth is not None and not bandwidth > 0:
        raise ValueError(f"bandwidth is {bandwidth}; it must be positive, or None for the median")
    of_exchanges, of_rows = jax.random.split(rng)
    pooled, n, m = np.concatenate([x, y]), len(x), len(y)
    if bandwidth is None:
        bandwidth = _median_distance(pooled, of_rows)
    is_x = jnp.asarray(np.repeat(np.float32([1, 0]), [n, m]))
    in_x = _exchanges(of_exchanges, is_x, permutations)
    # Sums of the kernel over the pairs in each set (with pairs of a row and itself), and over all.
    each = jnp.concatenate([in_x, 1 - in_x, jnp.ones_like(in_x[:, :1])], axis=1)
    sums = _quadratic(pooled / np.float32(bandwidth), each, _gaussian)
    xx, yy, every = sums[: 1 + permutations], sums[1 + permutations : -1], sums[-1]
    found = (xx - n) / (n * (n - 1)) + (yy - m) / (m * (m - 1)) - (every - xx - yy) / (n * m)
    as_large = int(np.sum(found[1:] >= found[0] - _KERNEL_TIE))
    return {"statistic": float(found[0]), "p_value": (1 + as_large) / (1 + permutations)}


def _median_distance(points: np.ndarray, rng: jax.Array) -> float:
    """Median distance between different points, of at most `_MEDIAN_ROWS`; 1 if there are none."""
    from scipy.spatial.distance import pdist

    if len(points) > _MEDIAN_ROWS:
        points = points[np.asarray(jax.random.permutation(rng, len(points)))[:_MEDIAN_ROWS]]
    distances = pdist(points)
    distances = distances[distances > 0]
    return float(np.median(distances)) if len(distances) else 1.0


def classifier_test(
    x: np.ndarray,
    y: np.ndarray,
    rng: jax.Array,
    method: Literal["network", "neighbours"] = "network",
) -> dict[str, float]:
    """Accuracy of a classifier of held-out rows of x and y, and its p-value.

    The classifier is trained on a random half of each set, standardised; the rest is held out.
    Given its predictions for all held-out rows, under the null the number of correct ones is
    hypergeometric (Fisher's exact test; the paper's normal approximation needs large sets).

    Args:
        x: `[N, Z]`, and `y` `[M, Z]`, at least 4 rows each; taken as float32. Sets of equal
            size give the best power.
        rng: for the halves and the network's initialisation.
        method: one hidden layer of 20 ReLU units and 100 epochs of Adam, or the vote of the k
            nearest rows, k the square root of the number of training rows (both as in the paper;
            Adam's rate 0.01 is ours, other settings are scikit-learn's defaults).
    Returns:
        `statistic`: held-out accuracy, with equal weights of x and y: mean 1/2 under the null, 1
        for sets that are separated; `p_value`: in (0, 1].
    Raises:
        ValueError: shapes do not match, values not finite, too few rows, or unknown method.
    """
    from scipy.stats import hypergeom
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    x, y = _checked(x, y, minimum=4)
    keys = jax.random.split(rng, 3)
    halves = [
        np.split(rows[np.asarray(jax.random.permutation(key, len(rows)))], [len(rows) // 2])
        for rows, key in ((x, keys[0]), (y, keys[1]))
    ]
    (train, labels), (held_out, is_x) = (
        (np.concatenate(parts), np.repeat([True, False], [len(part) for part in parts]))
        for parts in zip(*halves, strict=True)
    )
    mean, deviation = train.mean(0), train.std(0)
    deviation = np.where(deviation > 0, deviation, 1)
    seed = int(jax.random.randint(keys[2], (), 0, 2**31 - 1))
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = _classifier(method, len(train), seed).fit((train - mean) / deviation, labels)
        predicted_x = fitted.predict((held_out - mean) / deviation)
    num_x, num_y, predicted = is_x.sum(), (~is_x).sum(), predicted_x.sum()
    hits = (predicted_x & is_x).sum()
    accuracy = (hits / num_x + (num_y - (predicted - hits)) / num_y) / 2
    p_value = hypergeom.sf(hits - 1, len(is_x), num_x, predicted)
    return {"statistic": float(accuracy), "p_value": float(min(1.0, p_value))}


def _classifier(method: str, rows: int, seed: int):
    if method == "network":
        from sklearn.neural_network import MLPClassifier

        return MLPClassifier(
            (_HIDDEN,), learning_rate_init=_LEARNING_RATE, max_iter=_EPOCHS, random_state=seed
        )
    if method == "neighbours":
        from sklearn.neighbors import KNeighborsClassifier

        return KNeighborsClassifier(math.isqrt(rows))
    raise ValueError(f"method is {method!r}; it must be network or neighbours")


def _checked(
    x: np.ndarray, y: np.ndarray, permutations: int = 1, minimum: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, np.float32), np.asarray(y, np.float32)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"x {x.shape} and y {y.shape} must be [N, Z] and [M, Z] with one Z")
    if min(len(x), len(y)) < minimum:
        raise ValueError(f"x has {len(x)} rows and y {len(y)}; both need at least {minimum}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("x and y must be finite: they hold NaN or infinity")
    if permutations < 1:
        raise ValueError(f"permutations is {permutations}; it must be at least 1")
    return x, y


@functools.partial(jax.jit, static_argnums=2)
def _exchanges(rng: jax.Array, contrast: jax.Array, count: int) -> jax.Array:
    """`[N, 1 + count]`: the contrast `[N]` itself, then `count` permutations of it."""
    copies = jnp.broadcast_to(contrast, (count, len(contrast)))
    permuted = jax.random.permutation(rng, copies, axis=1, independent=True)
    return jnp.concatenate([contrast[None], permuted]).T


def _gaussian(squares: jax.Array) -> jax.Array:
    return jnp.exp(-0.5 * squares)


def _quadratic(points: np.ndarray, vectors: jax.Array, of: Callable) -> np.ndarray:
    """`[K]` float64: v'Gv for each column v of `vectors` `[N, K]`, G `of` all squared distances."""
    rest = -len(points) % _ROWS
    rows = jnp.pad(points - points.mean(0, keepdims=True), ((0, rest), (0, 0)))
    columns, weights = rows[: len(points)], jnp.pad(vectors, ((0, rest), (0, 0)))
    parts = [
        _part(of, rows[start : start + _ROWS], weights[start : start + _ROWS], columns, vectors)
        for start in range(0, len(rows), _ROWS)
    ]
    return np.sum(np.asarray(parts, np.float64), axis=0)


@functools.partial(jax.jit, static_argnums=0)
def _part(of, rows, weights, columns, vectors):
    """The contribution `[K]` of some rows of G to v'Gv."""
    exact = jax.lax.Precision.HIGHEST
    if rows.shape[1] <= _BY_DIFFERENCES:
        squares = jnp.sum(jnp.square(rows[:, None] - columns[None]), axis=2)
    else:
        size = lambda points: jnp.sum(jnp.square(points), axis=1)
        both = size(rows)[:, None] + size(columns)[None]
        squares = both - 2 * jnp.matmul(rows, columns.T, precision=exact)
        # For equal points only rounding errors are left, whose roots would be large.
        squares = jnp.where(squares > 1e-6 * both, squares, 0.0)
    return jnp.sum(weights * jnp.matmul(of(squares), vectors, precision=exact), axis=0)
