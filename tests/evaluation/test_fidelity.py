"""Samples that are the test images, the training images, noise, and bits of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxae.data import Options, load
from jaxae.evaluation import fidelity_table, frechet_distance, load_features
from jaxae.training.state import Model

NAME = "digits-features-v1"


def table(sample, data, reference=None, **options):
    model = Model(init=None, step=None, evaluate=None, sample=sample)
    return fidelity_table(
        model, None, data, reference, batch_size=100, rng=jax.random.key(0), **options
    )


def in_order(images):
    """A sampler whose six batches are these images, told apart by their keys."""
    keys = jax.random.key_data(jax.random.split(jax.random.key(0), 6))

    def sample(state, rng, n):
        number = jnp.argmax(jnp.all(keys == jax.random.key_data(rng)[None], axis=1))
        return jax.lax.dynamic_slice_in_dim(padded, number * n, n)

    padded = jnp.pad(jnp.asarray(images), ((0, 360 - len(images)), (0, 0), (0, 0), (0, 0)))
    return sample


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def test_test_images_are_perfect_samples(digits):
    images = digits.test.arrays["image"] / np.float32(16)
    found = table(in_order(images), digits)
    assert found["samples"] == {
        f"Frechet distance ({NAME})": pytest.approx(0, abs=1e-6),
        f"precision ({NAME})": 1.0,
        f"recall ({NAME})": 1.0,
    }
    assert (found["images"], found["neighbours"]) == (360, 3)


def test_training_images_stand_beside_the_samples(digits):
    """Evenly spread ones; the same ones as samples come to the same numbers."""
    images = digits.train.arrays["image"][np.arange(360) * 1437 // 360] / np.float32(16)
    found = table(in_order(images), digits)
    assert found["samples"] == pytest.approx(found["training_images"])
    read = load_features(NAME).features
    real = read(digits.test.arrays["image"] / np.float32(16))
    expected = frechet_distance(read(images), real)
    assert found["samples"][f"Frechet distance ({NAME})"] == pytest.approx(expected)
    assert 0.7 < found["samples"][f"precision ({NAME})"] < 1


def test_noise_is_far_and_is_clipped(digits):
    """Values beyond [0, 1] are cut off: white pixels ten times as bright change nothing."""
    noise = lambda state, rng, n: jax.random.bernoulli(rng, 0.3, (n, 8, 8, 1)).astype(jnp.float32)
    plain = table(noise, digits)
    louder = table(lambda *args: 10 * noise(*args), digits)
    assert plain == louder
    distance = lambda row: plain[row][f"Frechet distance ({NAME})"]
    assert distance("samples") > 10 * distance("training_images")
    assert plain["samples"][f"precision ({NAME})"] < 0.2


def test_bits_are_compared_with_grey_images(digits):
    """What binarisation costs is seen at the training images, which are bits here."""
    bits = load("digits", Options(binarise="dynamic"))
    images = digits.test.arrays["image"] / np.float32(16)
    found = table(in_order(images), bits, bits.unbinarised)
    assert found["samples"][f"Frechet distance ({NAME})"] == pytest.approx(0, abs=1e-6)
    grey = table(in_order(images), digits)
    name = f"Frechet distance ({NAME})"
    assert found["training_images"][name] > 2 * grey["training_images"][name]


def test_where_nothing_can_be_said(digits):
    zeros = lambda state, rng, n: jnp.zeros((n, 8, 8, 1))
    assert table(None, digits) is None
    assert table(zeros, load("digits", Options(standardise=True))) is None
    assert table(zeros, digits, count=3) is None
    assert table(zeros, digits, count=9)["images"] == 9
    with pytest.raises(ValueError, match="NaN or infinity: the run has diverged"):
        table(lambda *args: zeros(*args) / 0, digits, count=9)
