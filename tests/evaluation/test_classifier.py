"""The classifier on the digits, whose test accuracy is known to be high, and on plain colours."""

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jaxae.data import from_arrays, load
from jaxae.evaluation import train_classifier
from jaxae.evaluation.classifier import random_shift


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def trained(digits):
    return train_classifier(digits, seed=3, steps=500)


def test_digits_are_recognised(digits, trained):
    images = digits.test.arrays["image"] / np.float32(16)
    assert trained.test_accuracy >= 0.95
    right = trained.logits(images).argmax(1) == digits.test.labels
    assert trained.test_accuracy == pytest.approx(right.mean())


def test_features_are_what_the_logits_are_read_from(digits, trained):
    """1437 images pass through in three batches; a linear map of their features fits the logits."""
    images = digits.train.arrays["image"] / np.float32(16)
    features, logits = trained.features(images), trained.logits(images)
    assert features.shape == (1437, 128)
    assert logits.shape == (1437, 10)
    inputs = np.concatenate([features, np.ones((1437, 1))], axis=1)
    weights = np.linalg.lstsq(inputs, logits, rcond=None)[0]
    np.testing.assert_allclose(inputs @ weights, logits, atol=1e-3)


def test_an_image_is_judged_alone(digits, trained):
    images = digits.test.arrays["image"][:7] / np.float32(16)
    alone = np.concatenate([trained.logits(image[None]) for image in images])
    np.testing.assert_allclose(trained.logits(images), alone, rtol=1e-5, atol=1e-5)
    assert trained.logits(images[:0]).shape == (0, 10)


def test_a_seed_decides(digits):
    images = digits.test.arrays["image"][:5] / np.float32(16)
    one, two, other = (train_classifier(digits, seed, steps=3) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.logits(images), two.logits(images))
    assert np.abs(one.logits(images) - other.logits(images)).max() > 1e-3


def test_larger_images_are_convolved():
    """Classes are stripes across and along, which differ in no pixel's mean: pixels alone decide
    nothing, as a linear classifier shows."""
    rng = np.random.default_rng(0)

    def draw(count):
        labels, phases = rng.integers(2, size=count), rng.integers(4, size=count)
        stripes = (np.arange(16)[None] + phases[:, None]) // 2 % 2
        images = np.repeat(stripes[:, None], 16, axis=1)
        return np.uint8(
            255 * np.where(labels[:, None, None], images.swapaxes(1, 2), images)
        ), labels

    (train, labels), (test, test_labels) = draw(200), draw(100)
    flat = lambda images: images.reshape(len(images), -1) / 255
    linear = LogisticRegression().fit(flat(train), labels).score(flat(test), test_labels)
    assert linear < 0.8
    found = train_classifier(from_arrays(train, labels, test, test_labels), steps=30)
    assert found.test_accuracy == 1
    assert found.features(test[:3, ..., None] / np.float32(255)).shape == (3, 128)


def test_images_are_moved_each_by_its_own_offset():
    """A white pixel inside is found at every one of the 9 places around it, and nothing else is."""
    images = np.zeros((300, 5, 7, 1), np.float32)
    images[:, 2, 3] = 1
    found = np.asarray(random_shift(images, jax.random.key(0), 1))
    assert found.shape == images.shape
    np.testing.assert_array_equal(found.sum(axis=(1, 2, 3)), 1)
    counts = found.sum(axis=0)[1:4, 2:5]
    assert counts.sum() == 300
    assert (np.abs(counts - 300 / 9) < 5 * np.sqrt(300 / 9)).all()
    # From the corner most of them fall out of the image: 4 of 9 places are left.
    images[:] = 0
    images[:, 0, 0] = 1
    kept = np.asarray(random_shift(images, jax.random.key(1), 1)).sum()
    assert abs(kept - 300 * 4 / 9) < 5 * np.sqrt(300 * 20 / 81)


def test_mistakes_are_named(digits):
    images = np.zeros((4, 8, 8), np.uint8)
    with pytest.raises(ValueError, match="arrays has no labels"):
        train_classifier(from_arrays(images, None, images))
    with pytest.raises(ValueError, match="steps is 0"):
        train_classifier(digits, steps=0)
