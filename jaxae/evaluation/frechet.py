"""Distances of samples to data: the Fréchet distance of features, and the Parzen estimate.

Both are rough. The Fréchet distance depends on means and covariances only, and on the features. The
Parzen estimate is not a valid likelihood: blurred samples score higher than real images (Theis, van
den Oord & Bethge 2016, arXiv:1511.01844). It is included because papers report it.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.evaluation.likelihood import summary
from jaxae.losses import empty_bound, extend_bound, finish_bound

SIGMAS = tuple(float(sigma) for sigma in np.logspace(-1, 0, 10))
"""the usual standard deviations; a finer grid raises the value"""
_QUERIES, _SAMPLES = 500, 1000  # at a time


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """|m_a - m_b|^2 + Tr(A + B - 2 (A^1/2 B A^1/2)^1/2) of the sets' means and covariances.

    It is the squared 2-Wasserstein distance of two Gaussians with these moments (Dowson & Landau
    1982). Covariances divide by N - 1 and may be singular. With fewer examples than features they
    are, and the distance is biased upwards. Compare sets of equal sizes, by the features of the
    same named network (`load_features`).

    Args:
        a: `[N, F]`, and `b` `[M, F]`: features, N and M at least 2; computed in float64.
    Returns:
        a number >= 0 in the squared unit of the features; 0 for equal sets.
    Raises:
        ValueError: shapes do not match, fewer than 2 examples, or values that are not finite.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"a {a.shape} and b {b.shape} must be [N, F] and [M, F] with one F")
    if min(len(a), len(b)) < 2:
        raise ValueError(f"a has {len(a)} examples and b {len(b)}; a covariance needs at least 2")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a and b must be finite: they hold NaN or infinity")
    # With A = R'R and B = S'S the trace of the root is the sum of the singular values of R S'. A
    # root of A B would turn rounding errors of 1e-16 into errors of 1e-8 where A is singular.
    r, s = _factor(a), _factor(b)
    root = np.linalg.svd(r @ s.T, compute_uv=False).sum()
    traces = np.sum(np.square(r)) + np.sum(np.square(s))
    gap = np.sum(np.square(a.mean(0) - b.mean(0)))
    return max(0.0, float(gap + traces - 2 * root))


def _factor(x: np.ndarray) -> np.ndarray:
    """R `[at most F, F]` with R'R the covariance of the rows of x."""
    return np.linalg.qr((x - x.mean(0)) / np.sqrt(len(x) - 1), mode="r")


def parzen_log_likelihood(
    samples: np.ndarray,
    validation: np.ndarray,
    test: np.ndarray,
    sigmas: Sequence[float] = SIGMAS,
) -> dict[str, float | None]:
    """Mean log density of test images under a mixture of Gaussians around a model's samples.

    log p(x) = log 1/N sum_j N(x; s_j, sigma^2 I) over the samples s_j, with the sigma of `sigmas`
    that is best on the validation images. Comparable only for equal N and sigmas, and not a measure
    of a model's likelihood: k-means centres of the training images score higher than real images
    (Theis, van den Oord & Bethge 2016). Memory beyond the arguments is bounded.

    Args:
        samples: `[N, ...]` images, in [0, 1] for comparison with published numbers.
        validation: `[V, ...]` images on which sigma is chosen; usually 1000.
        test: `[M, ...]` images.
        sigmas: standard deviations per pixel to choose from.
    Returns:
        `log_likelihood`: nats, mean over the test images, and `log_likelihood_se` its standard
        error; `sigma`; `validation_log_likelihood`: nats.
    Raises:
        ValueError: shapes do not match, a set is empty, or a sigma is not positive.
    Source: Breuleux, Bengio & Vincent 2011 (Neural Computation 23); as used by Goodfellow et al.
    2014, arXiv:1406.2661.
    """
    sets = {"samples": samples, "validation": validation, "test": test}
    sets = {name: np.asarray(images, np.float32) for name, images in sets.items()}
    if len({images.shape[1:] for images in sets.values()}) > 1 or sets["test"].ndim < 2:
        shapes = {name: images.shape for name, images in sets.items()}
        raise ValueError(
            f"samples, validation and test must be images of the same shape, are {shapes}"
        )
    empty = [name for name, images in sets.items() if not len(images)]
    if empty:
        raise ValueError(f"{' and '.join(empty)} must hold at least one image")
    if not len(sigmas) or not all(sigma > 0 for sigma in sigmas):
        raise ValueError(f"sigmas must be positive numbers, are {list(sigmas)}")
    samples, validation, test = (images.reshape(len(images), -1) for images in sets.values())
    means = _log_densities(samples, validation, sigmas).mean(axis=1)
    best = int(np.argmax(means))
    scores = _log_densities(samples, test, [sigmas[best]])[0]
    return {
        **summary("log_likelihood", scores),
        "sigma": float(sigmas[best]),
        "validation_log_likelihood": float(means[best]),
    }


def _log_densities(samples: np.ndarray, queries: np.ndarray, sigmas: Sequence[float]) -> np.ndarray:
    """`[K, Q]` float64: log density of each query `[Q, D]` for each sigma."""
    precisions, densities = jnp.asarray([0.5 / sigma**2 for sigma in sigmas], jnp.float32), []
    for batch, used in _blocks(queries, _QUERIES):
        carry = empty_bound((len(sigmas), len(batch)))
        for chunk, count in _blocks(samples, _SAMPLES):
            carry = _extend(carry, batch, chunk, count, precisions)
        means = finish_bound(carry._replace(count=jnp.int32(len(samples))))
        densities.append(np.asarray(means, np.float64)[:, :used])
    volume = samples.shape[1] * np.log(np.asarray(sigmas, np.float64) * np.sqrt(2 * np.pi))
    return np.concatenate(densities, axis=1) - volume[:, None]


def _blocks(rows: np.ndarray, size: int):
    """Blocks of one size, the last padded with zeros, and the number of rows of each block."""
    size = min(size, len(rows))
    for start in range(0, len(rows), size):
        block = rows[start : start + size]
        yield np.pad(block, ((0, size - len(block)), (0, 0))), len(block)


@jax.jit
def _extend(carry, queries, samples, count, precisions):
    centre = jnp.mean(queries, axis=0, keepdims=True)  # smaller numbers, less rounding
    queries, samples = queries - centre, samples - centre
    size = lambda points: jnp.sum(jnp.square(points), axis=1)
    products = jnp.matmul(samples, queries.T, precision=jax.lax.Precision.HIGHEST)
    squares = jnp.maximum(size(samples)[:, None] + size(queries)[None] - 2 * products, 0.0)
    real = (jnp.arange(len(samples)) < count)[:, None, None]
    exponents = -squares[:, None, :] * precisions[None, :, None]
    return extend_bound(carry, jnp.where(real, exponents, -jnp.inf))
