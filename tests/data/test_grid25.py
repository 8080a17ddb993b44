"""The 25 Gaussians. Oracles: their parameters, and the normal distribution's moments."""

import numpy as np
import pytest
from scipy import stats

from jaxae.data import Options, describe, load
from jaxae.data.grid25 import CENTRES, DEVIATION, PLANE, sample_points


@pytest.fixture(scope="module")
def data():
    return load("grid25")


def test_is_a_named_data_set_of_points(data):
    assert "grid25" in describe()
    assert (data.train.size, data.test.size) == (100_000, 10_000)
    assert (data.spec.image_shape, data.spec.levels, data.spec.classes) == ((1, 2, 1), 0, 25)
    images = data.train.arrays["image"]
    assert images.dtype == np.float32
    assert images.min() > 0
    assert images.max() < 1


def test_every_gaussian_has_its_mean_deviation_and_share(data):
    assert sorted(map(tuple, CENTRES)) == [(x, y) for x in range(-4, 5, 2) for y in range(-4, 5, 2)]
    points, labels = PLANE.to_points(data.train.arrays["image"]), data.train.labels
    counts = np.bincount(labels, minlength=25)
    assert (np.abs(counts - 4000) < 5 * np.sqrt(4000)).all()
    noise = (points - CENTRES[labels]) / DEVIATION
    for k in range(25):
        assert (np.abs(noise[labels == k].mean(0)) < 5 / np.sqrt(counts[k])).all()
    # float32 in [0, 1] knows a point to 12 * 6e-8, far less than a thousandth of the deviation.
    assert np.abs(np.cov(noise.T) - np.eye(2)).max() < 5 * np.sqrt(2 / 100_000)
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3


def test_points_are_a_function_of_the_seed():
    first, second = sample_points(50, seed=3), sample_points(50, seed=3)
    np.testing.assert_array_equal(first[0], second[0])
    assert (first[0] != sample_points(50, seed=4)[0]).all()
    assert not np.isin(load("grid25").test.arrays["image"], load("grid25").train.arrays["image"]
                       ).all()  # fmt: skip


def test_standardised_points_have_unit_variance_and_find_back(data):
    standard = load("grid25", Options(standardise=True))
    stored = data.train.arrays["image"].astype(np.float64)
    mean, deviation = stored.mean(), stored.std()
    batch = standard.train.batch(0, 0, 10_000)
    rows = np.asarray(batch["index"])
    # Of the raw points: variance 8 of the grid, and the Gaussians' own.
    np.testing.assert_allclose(12 * deviation, np.sqrt(8 + DEVIATION**2), rtol=5e-3)
    np.testing.assert_allclose(np.std(batch["image"]), 1, rtol=0.02)
    np.testing.assert_allclose(
        PLANE.to_points(batch["image"], mean, deviation), PLANE.to_points(stored[rows]), atol=1e-5
    )
