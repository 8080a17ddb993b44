"""Samples that are the test images, the training images, noise, and bits of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from jaxae.data import Options, load
from jaxae.evaluation import fidelity_table, frechet_distance, images_of, load_features
from jaxae.training.state import Model

NAME, BITS = "digits-features-v1", "digits-bits-features-v1"
PERFECT = {"Frechet distance": pytest.approx(0, abs=1e-6), "precision": 1.0, "recall": 1.0}


def table(sample, data, count=2000, **declared):
    model = Model(init=None, step=None, evaluate=None, sample=sample, **declared)
    return fidelity_table(
        model, None, data, batch_size=100, rng=jax.random.key(0), count=count
    )  # fmt: skip


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


def test_means_are_compared_with_grey_images_and_draws_with_bits():
    """Test images of either kind are perfect samples of that kind, whatever training saw."""
    bits = load("digits", Options(binarise="dynamic"))
    grey = bits.unbinarised
    for declared, alike, name in (
        ({}, grey, NAME),
        ({"likelihood": "bernoulli"}, grey, NAME),
        ({"draws": True}, bits, BITS),
        ({"draws": True, "likelihood": "bernoulli"}, bits, BITS),
    ):
        found = table(in_order(images_of(alike.test, 360)), bits, **declared)
        assert found["samples"] == {f"{m} ({name})": v for m, v in PERFECT.items()}
        kind = ("draw", "bits") if declared.get("draws") else ("mean", "grey")
        assert (found["of"], found["against"]) == kind
        floor = found["training_images"]
        assert 0.8 < floor[f"precision ({name})"] < 1
        assert floor[f"Frechet distance ({name})"] < 3


def test_draws_of_a_bernoulli_are_bits_though_training_saw_grey_levels(digits):
    """Compared as bits they are perfect; a generator's grey draws are compared as they are."""
    fixed = load("digits", Options(binarise="fixed"))
    drawn = in_order(images_of(fixed.test, 360))
    found = table(drawn, digits, draws=True, likelihood="bernoulli")
    assert found["samples"] == {f"{m} ({BITS})": v for m, v in PERFECT.items()}
    assert (found["of"], found["against"]) == ("draw", "bits")
    grey = table(drawn, digits, draws=True)
    assert grey["against"] == "grey"
    assert grey["samples"][f"Frechet distance ({NAME})"] > 10


def test_copies_of_training_images_are_told_from_new_ones(digits):
    """Both are perfect by every other measure."""
    train = digits.train.arrays["image"][:360] / np.float32(16)
    found = table(in_order(train), digits)["nearest_training_image"]
    assert (found["median_of_samples"], found["share_near"], found["images"]) == (0, 1, 360)
    test = digits.test.arrays["image"] / np.float32(16)
    flat = lambda images: images.reshape(len(images), -1)
    near = cdist(flat(test), flat(digits.train.arrays["image"] / 16)).min(1)
    new = table(in_order(test), digits)["nearest_training_image"]
    assert new["median_of_samples"] == pytest.approx(np.median(near), rel=1e-5)
    assert new["median_of_test_images"] == pytest.approx(np.median(near), rel=1e-5)
    assert new["share_near"] == np.mean(near < np.percentile(near, 1))


def test_where_little_can_be_said(digits):
    zeros = lambda state, rng, n: jnp.zeros((n, 8, 8, 1))
    assert table(None, digits) is None
    for data, count in (
        (load("digits", Options(standardise=True)), 9),  # no network
        (digits, 3),  # no third neighbour
        (digits, 1),
    ):
        found = table(zeros, data, count)
        assert list(found) == ["of", "against", "images", "nearest_training_image"]
        assert found["images"] == count
    assert table(zeros, digits, count=9)["images"] == 9
    with pytest.raises(ValueError, match="NaN or infinity: the run has diverged"):
        table(lambda *args: zeros(*args) / 0, digits, count=9)


def test_standardised_samples_are_not_clipped():
    """Their pixels lie on both sides of 0: test images as samples are as near as test images."""
    data = load("digits", Options(standardise=True))
    found = table(in_order(images_of(data.test, 360)), data)["nearest_training_image"]
    assert found["median_of_samples"] == found["median_of_test_images"]
