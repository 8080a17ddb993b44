"""Distance of samples to the nearest training images, to detect copies.

Fréchet distance, precision and recall do not distinguish a good model from a copy of its training
set. The distance of each sample to the nearest training image does, compared with the distance of
test images.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.evaluation.passes import batches

NEAR = 1  # percentile of the test images' distances
_ROWS = 4000  # training images at a time
_MAX_BYTES = 2**26  # of these images


def nearest_training_image(samples: np.ndarray, test: np.ndarray, train: Any) -> dict[str, float]:
    """Distances in pixels from samples, and from test images, to the nearest training image.

    All training images are searched, in blocks. All images must be of one kind: bits, or grey
    levels.

    Args:
        samples: `[N,H,W,C]`.
        test: `[M,H,W,C]`, images that were not used in training.
        train: a split of a data set.
    Returns:
        `median_of_samples` and `median_of_test_images`: Euclidean distances; `share_near`: share
        of the samples that are nearer than the `NEAR`th percentile of the test images' distances,
        about 0.01 if they are as far as test images, 1 if they are copies; `images`: number of each
        (the smaller one).
    Raises:
        ValueError: no samples, no test images, shapes differ, or values are not finite.
    """
    samples, test = np.asarray(samples, np.float32), np.asarray(test, np.float32)
    if samples.shape[1:] != test.shape[1:] or not len(samples) or not len(test):
        raise ValueError(f"samples {samples.shape} and test {test.shape} must be images of one "
                         "shape, at least one each")  # fmt: skip
    if not (np.isfinite(samples).all() and np.isfinite(test).all()):
        raise ValueError("samples and test must be finite: they hold NaN or infinity")
    queries = jnp.asarray(np.concatenate([samples, test]).reshape(len(samples) + len(test), -1))
    rows = max(1, min(_ROWS, _MAX_BYTES // (4 * queries.shape[1])))
    squares = jnp.full(len(queries), jnp.inf, jnp.float32)
    for batch, _, _ in batches(train, rows):  # padding repeats an image
        squares = _nearer(queries, batch["image"], squares)
    distances = np.sqrt(np.asarray(squares, np.float64))
    of_samples, of_test = np.split(distances, [len(samples)])
    return {
        "median_of_samples": float(np.median(of_samples)),
        "median_of_test_images": float(np.median(of_test)),
        "share_near": float(np.mean(of_samples < np.percentile(of_test, NEAR))),
        "images": min(len(samples), len(test)),
    }


@jax.jit
def _nearer(queries: jax.Array, images: jax.Array, squares: jax.Array) -> jax.Array:
    """The minimum of `squares` `[Q]` and the squared distances to the nearest of these images."""
    rows = images.reshape(len(images), -1).astype(jnp.float32)
    products = jnp.matmul(queries, rows.T, precision=jax.lax.Precision.HIGHEST)
    nearest = jnp.argmax(products - 0.5 * jnp.sum(jnp.square(rows), axis=1)[None], axis=1)
    # From the difference of images, which is exactly 0 for equal ones; products are not.
    return jnp.minimum(squares, jnp.sum(jnp.square(queries - rows[nearest]), axis=1))
