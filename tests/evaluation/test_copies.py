"""Distances to the nearest training image: by scipy, and of copies."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from jaxae.data import from_arrays
from jaxae.evaluation import copies, nearest_training_image


@pytest.fixture(scope="module")
def sets():
    rng = np.random.default_rng(0)
    train, test, samples = (
        rng.random((n, 3, 4, 1)).astype(np.float32) for n in (103, 40, 60)
    )  # fmt: skip
    return from_arrays(train, None, test, None), samples


def flat(images):
    return np.asarray(images, np.float64).reshape(len(images), -1)


@pytest.mark.parametrize("rows", [10, 4000])
def test_distances_are_scipys(sets, monkeypatch, rows):
    """In blocks that leave a rest, and in one."""
    monkeypatch.setattr(copies, "_ROWS", rows)
    data, samples = sets
    samples[:15] = 0.02 + data.train.arrays["image"][:15]
    found = nearest_training_image(samples, data.test.arrays["image"], data.train)
    near = lambda images: cdist(flat(images), flat(data.train.arrays["image"])).min(1)
    ours, theirs = near(samples), near(data.test.arrays["image"])
    assert found["median_of_samples"] == pytest.approx(np.median(ours), rel=1e-5)
    assert found["median_of_test_images"] == pytest.approx(np.median(theirs), rel=1e-5)
    assert found["share_near"] == np.mean(ours < np.percentile(theirs, 1))
    assert 0.2 < found["share_near"] < 0.5
    assert found["images"] == 40


def test_copies_are_at_no_distance_at_all_and_almost_copies_at_little():
    """Squares of 300, of which float32 products leave nothing as small as these distances."""
    rng = np.random.default_rng(0)
    train, test = (0.9 + rng.random((n, 20, 20, 1), np.float32) / 10 for n in (50, 20))
    data = from_arrays(train, None, test, None)
    found = nearest_training_image(train[::2], test, data.train)
    assert (found["median_of_samples"], found["share_near"]) == (0, 1)
    assert found["median_of_test_images"] > 0.1
    found = nearest_training_image(train[::2] - np.float32(1e-4), test, data.train)
    assert found["median_of_samples"] == pytest.approx(1e-4 * 20, rel=0.01)


def test_images_that_do_not_fit_are_refused(sets):
    data, samples = sets
    test = data.test.arrays["image"]
    for wrong in (samples[:, 1:], samples[:0]):
        with pytest.raises(ValueError, match="images of one shape, at least one each"):
            nearest_training_image(wrong, test, data.train)
    with pytest.raises(ValueError, match="NaN or infinity"):
        nearest_training_image(np.full_like(samples, np.nan), test, data.train)
