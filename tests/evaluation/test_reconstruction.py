"""Reconstruction errors of a linear model in closed form, and the range of pixels by definition."""

import jax
import numpy as np
import pytest

from jaxae.data import Options, from_arrays
from jaxae.evaluation import reconstruction
from jaxae.evaluation.reconstruction import pixel_range

NOISE = 0.1  # the model's standard deviation of a pixel given the code


def measured(linear, model, **options):
    return reconstruction(
        model, linear.exact, linear.data, batch_size=7, rng=jax.random.key(0), **options
    )


def by_projection(linear):
    """The posterior mean decoded: the images are shrunk towards the loadings' plane."""
    x = linear.data.test.arrays["image"].reshape(23, 6).astype(np.float64) - 0.5
    w = np.asarray(linear.model.decode(None, np.eye(2), None), np.float64).reshape(2, 6) - 0.5
    inverse = np.linalg.inv(w @ w.T + NOISE**2 * np.eye(2))
    return np.mean((x - x @ w.T @ inverse @ w) ** 2, axis=1)


def test_against_the_projection(linear):
    errors = by_projection(linear)
    found = measured(linear, linear.model)
    assert found["mse"] == pytest.approx(errors.mean(), rel=1e-4)
    assert found["mse_se"] == pytest.approx(errors.std(ddof=1) / np.sqrt(23), rel=1e-4)
    assert found["psnr_db"] == pytest.approx(-10 * np.log10(errors.mean()), rel=1e-4)
    assert (found["images"], found["peak"]) == (23, 1.0)


def test_some_images_are_spread(linear):
    errors = by_projection(linear)[np.arange(5) * 23 // 5]
    found = measured(linear, linear.model, limit=5)
    assert found["mse"] == pytest.approx(errors.mean(), rel=1e-4)
    assert found["images"] == 5


def test_a_perfect_model_and_one_that_lacks_a_half(linear):
    shape = linear.data.spec.image_shape
    model = linear.model._replace(
        encode=lambda state, x, rng: x.reshape(len(x), -1),
        decode=lambda state, z, rng: z.reshape(-1, *shape),
    )
    found = measured(linear, model)
    assert (found["mse"], found["psnr_db"]) == (0, None)
    assert measured(linear, model._replace(encode=None)) is None
    assert measured(linear, model._replace(decode=None)) is None


def test_range_of_pixels():
    images = np.arange(17, dtype=np.uint8).repeat(4).reshape(17, 2, 2)
    make = lambda **options: from_arrays(images, None, images, None, Options(**options), levels=17)
    assert pixel_range(make()) == pytest.approx(1)
    assert pixel_range(make(binarise="dynamic")) == 1
    assert pixel_range(make(dequantise=True)) == pytest.approx(16 / 17, rel=1e-5)
    # v / 16 for v in 0..16 has variance (288 / 12) / 256.
    assert pixel_range(make(standardise=True)) == pytest.approx(16 / np.sqrt(24), rel=1e-5)
    continuous = from_arrays(images / np.float32(16), None, images / np.float32(16), None)
    assert pixel_range(continuous) == 1
