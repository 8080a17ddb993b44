"""The ones and twos. Oracles: their parameters, and the normal distribution's moments."""

import numpy as np
import pytest
from scipy import stats

from jaxae.data import Options, describe, load
from jaxae.data.ones_twos import PLANE, sample_points


@pytest.fixture(scope="module")
def data():
    return load("ones_twos")


def test_is_a_named_data_set_of_points(data):
    assert "ones_twos" in describe()
    assert (data.train.size, data.test.size) == (50_000, 10_000)
    assert (data.spec.image_shape, data.spec.levels, data.spec.classes) == ((1, 2, 1), 0, 2)
    images = data.train.arrays["image"]
    assert images.dtype == np.float32
    assert images.min() > 0
    assert images.max() < 1


def test_detail_is_normal_and_knows_nothing_of_the_kind(data):
    points, kinds = PLANE.to_points(data.train.arrays["image"]), data.train.labels
    twos = np.sum(kinds)
    assert abs(twos - 25_000) < 5 * np.sqrt(12_500)
    detail = points - 3 * np.stack([2 * kinds - 1, 0 * kinds], axis=1)
    for kind, count in ((0, 50_000 - twos), (1, twos)):
        assert (np.abs(detail[kinds == kind].mean(0)) < 5 / np.sqrt(count)).all()
        # float32 in [0, 1] knows a point to 20 * 6e-8.
        off = np.abs(np.cov(detail[kinds == kind].T) - np.eye(2)).max()
        assert off < 5 * np.sqrt(2 / count)
    assert stats.kstest(detail.ravel(), "norm").pvalue > 1e-3


def test_points_are_a_function_of_the_seed():
    first, second = sample_points(50, seed=3), sample_points(50, seed=3)
    np.testing.assert_array_equal(first[0], second[0])
    assert (first[0] != sample_points(50, seed=4)[0]).all()


def test_standardised_points_find_back(data):
    standard = load("ones_twos", Options(standardise=True))
    stored = data.train.arrays["image"].astype(np.float64)
    # Of the raw numbers: half have variance 9 + 1 and half 1, about a mean of 0.
    np.testing.assert_allclose(20 * stored.std(), np.sqrt(5.5), rtol=1e-2)
    batch = standard.train.batch(0, 0, 1000)
    np.testing.assert_allclose(
        PLANE.to_points(batch["image"], stored.mean(), stored.std()),
        PLANE.to_points(stored[np.asarray(batch["index"])]),
        atol=1e-5,
    )
