"""The energy distance against scipy and enumeration; its level and its power."""

import itertools

import jax
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import binom, energy_distance

from jaxae.evaluation import two_sample, two_sample_test


def by_pairs(x, y):
    return 2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()


def test_one_dimension_against_scipy():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 1)), rng.exponential(size=(70, 1))
    found = two_sample_test(x, y, jax.random.key(0), permutations=9)
    expected = energy_distance(x[:, 0], y[:, 0]) ** 2  # scipy gives the root
    assert found["statistic"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dims", [3, two_sample._BY_DIFFERENCES, two_sample._BY_DIFFERENCES + 1])
def test_many_dimensions_and_blocks_against_all_pairs(dims):
    """More rows than a block holds, far from the origin, with points that are equal."""
    rng = np.random.default_rng(1)
    x = 100 + rng.normal(size=(two_sample._ROWS + 3, dims)).astype(np.float32)
    y = np.concatenate([x[:50], 100.2 + rng.normal(size=(60, dims)).astype(np.float32)])
    found = two_sample_test(x, y, jax.random.key(0), permutations=1)
    assert found["statistic"] == pytest.approx(by_pairs(x, y), rel=1e-4)


def test_point_masses_by_hand():
    """All of x at 0 and all of y at (3, 4): 2 * 5 - 0 - 0."""
    x, y = np.zeros((6, 2)), np.tile([3.0, 4.0], (9, 1))
    found = two_sample_test(x, y, jax.random.key(0), permutations=99)
    assert found == {"statistic": pytest.approx(10), "p_value": 0.01}
    same = two_sample_test(x, x, jax.random.key(0), permutations=99)
    assert same == {"statistic": 0, "p_value": 1}


def test_p_value_is_that_of_all_exchanges():
    """Of 3 + 4 points there are 35 exchanges; those that tie with the given one count."""
    points = np.array([[0.0], [1], [3], [2], [5], [6], [6]])
    given, as_large = by_pairs(points[:3], points[3:]), 0
    for chosen in itertools.combinations(range(7), 3):
        rest = [i for i in range(7) if i not in chosen]
        as_large += by_pairs(points[list(chosen)], points[rest]) >= given - 1e-9
    exact = as_large / 35
    assert 2 < as_large < 30
    found = two_sample_test(points[:3], points[3:], jax.random.key(2), permutations=4000)
    assert abs(found["p_value"] - exact) < 5 * np.sqrt(exact * (1 - exact) / 4000)


def test_level_under_the_null():
    """With 19 exchanges p = 1/20 has probability 1/20 exactly, and p <= 1/2 has 1/2."""
    rng, found = np.random.default_rng(3), []
    for run in range(200):
        x, y = rng.standard_cauchy((2, 10, 2))
        found.append(two_sample_test(x, y, jax.random.key(run), permutations=19)["p_value"])
    for level in (0.05, 0.5):
        low, high = binom.interval(1 - 1e-6, 200, level)
        assert low <= np.sum(np.array(found) <= level + 1e-9) <= high


def test_power_under_a_shift_and_under_another_scale():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(150, 5))
    for other in (rng.normal(size=(150, 5)) + 0.6, 1.8 * rng.normal(size=(150, 5))):
        assert two_sample_test(x, other, jax.random.key(0))["p_value"] == 1 / 201


def test_the_same_key_gives_the_same_answer():
    x, y = np.random.default_rng(5).normal(size=(2, 30, 2))
    one, two, other = (two_sample_test(x, y, jax.random.key(seed)) for seed in (0, 0, 1))
    assert one == two
    assert other["statistic"] == one["statistic"]
    assert other["p_value"] != one["p_value"]


def test_mistakes_are_named():
    x, rng = np.zeros((4, 2)), jax.random.key(0)
    with pytest.raises(ValueError, match=r"x \(4, 2\) and y \(4, 3\) must be"):
        two_sample_test(x, np.zeros((4, 3)), rng)
    with pytest.raises(ValueError, match=r"\[N, Z\]"):
        two_sample_test(x[0], x[1], rng)
    with pytest.raises(ValueError, match="y 1; both need at least 2"):
        two_sample_test(x, x[:1], rng)
    with pytest.raises(ValueError, match="NaN or infinity"):
        two_sample_test(x, x * np.nan, rng)
    with pytest.raises(ValueError, match="permutations is 0"):
        two_sample_test(x, x, rng, permutations=0)
