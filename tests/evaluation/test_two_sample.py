"""Three two-sample tests against scipy, direct sums and enumeration; their level and power."""

import itertools

import jax
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import binom, energy_distance, fisher_exact

from jaxae.evaluation import classifier_test, mmd_test, two_sample, two_sample_test


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


def direct_mmd(x, y, bandwidth):
    """The unbiased estimate as it is defined, in float64."""
    kernel = lambda a, b: np.exp(-cdist(a, b, "sqeuclidean") / (2 * bandwidth**2))
    n, m = len(x), len(y)
    apart = lambda k: (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))
    return apart(kernel(x, x)) + apart(kernel(y, y)) - 2 * kernel(x, y).sum() / (n * m)


def median_apart(points):
    distances = cdist(points, points)[np.triu_indices(len(points), 1)]
    return np.median(distances[distances > 0])


@pytest.mark.parametrize("dims", [3, two_sample._BY_DIFFERENCES + 1])
def test_mmd_against_its_definition(dims):
    """More rows than a block holds, sets of two sizes, far from the origin, with equal points."""
    rng = np.random.default_rng(1)
    x = 100 + rng.normal(size=(two_sample._ROWS + 3, dims)).astype(np.float32)
    y = np.concatenate([x[:50], 100.2 + rng.normal(size=(60, dims)).astype(np.float32)])
    bandwidth = median_apart(np.concatenate([x, y]).astype(np.float64))
    found = mmd_test(x, y, jax.random.key(0), permutations=1)
    assert found["statistic"] == pytest.approx(direct_mmd(x, y, bandwidth), rel=1e-3, abs=3e-6)
    given = mmd_test(x, y, jax.random.key(0), permutations=1, bandwidth=0.7)
    assert given["statistic"] == pytest.approx(direct_mmd(x, y, 0.7), rel=1e-3, abs=3e-6)


def test_mmd_of_point_masses_by_hand():
    """All of x at 0 and all of y at (3, 4): the median distance is 5, so 1 + 1 - 2 exp(-1/2)."""
    x, y = np.zeros((6, 2)), np.tile([3.0, 4.0], (9, 1))
    found = mmd_test(x, y, jax.random.key(0), permutations=99)
    assert found == {"statistic": pytest.approx(2 - 2 * np.exp(-0.5), rel=1e-5), "p_value": 0.01}
    same = mmd_test(x, x, jax.random.key(0), permutations=99)
    assert same == {"statistic": pytest.approx(0, abs=1e-6), "p_value": 1}


def test_mmd_of_a_set_with_itself_by_hand():
    """x = y = {0, 1}: the kernel of the pair inside each, and of the four across, with k(1) = e."""
    e = np.exp(-0.5)
    x = np.array([[0.0], [1.0]])
    found = mmd_test(x, x, jax.random.key(0), permutations=3)
    assert found["statistic"] == pytest.approx(e + e - (2 + 2 * e) / 2, abs=1e-6)


def test_mmd_p_value_is_that_of_all_exchanges():
    points = np.array([[0.0], [1], [3], [2], [5], [6], [6]])
    bandwidth = median_apart(points)
    given, as_large = direct_mmd(points[:3], points[3:], bandwidth), 0
    for chosen in itertools.combinations(range(7), 3):
        rest = [i for i in range(7) if i not in chosen]
        as_large += direct_mmd(points[list(chosen)], points[rest], bandwidth) >= given - 1e-9
    exact = as_large / 35
    assert 1 <= as_large < 30
    found = mmd_test(points[:3], points[3:], jax.random.key(2), permutations=4000)
    assert abs(found["p_value"] - exact) < 5 * np.sqrt(exact * (1 - exact) / 4000) + 1 / 4000


def test_bandwidth_of_many_rows_is_that_of_some(monkeypatch):
    """Of 80 rows 40 are drawn: their median lies between those of the closest and farthest 40."""
    monkeypatch.setattr(two_sample, "_MEDIAN_ROWS", 40)
    points = np.random.default_rng(0).normal(size=(80, 2)).astype(np.float32)
    all_rows = median_apart(points)
    seen = {two_sample._median_distance(points, jax.random.key(seed)) for seed in range(5)}
    assert len(seen) == 5
    assert all(0.7 * all_rows < value < 1.4 * all_rows for value in seen)


@pytest.mark.parametrize("method", ["network", "neighbours"])
def test_classifier_tells_what_can_be_told(method):
    """Rows far apart, each of them five times: all of the 40 held out are told."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 2)), 50 + rng.normal(size=(8, 2))
    told = classifier_test(np.repeat(x, 5, 0), np.repeat(y, 5, 0), jax.random.key(0), method)
    assert told["statistic"] == 1
    assert told["p_value"] < 1e-10
    # One mean and two scales: a linear classifier would see nothing here, ours do.
    x, y = rng.normal(size=(300, 2)), 4 * rng.normal(size=(300, 2))
    assert classifier_test(x, y, jax.random.key(0), method)["p_value"] < 1e-6


def test_p_value_of_a_classifier_is_fishers(monkeypatch):
    """A rule that says x where a column is positive; the table of held-out rows by hand."""

    class Rule:
        def fit(self, rows, labels):
            assert rows.mean() == pytest.approx(0, abs=1e-6)
            return self

        def predict(self, rows):
            seen.append(len(rows))
            return np.arange(len(rows)) % 3 != 1  # x x x x: 1 0 1 1; y y y y y y: 0 1 1 0 1 1

    seen = []
    monkeypatch.setattr(two_sample, "_classifier", lambda *args: Rule())
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 1)), rng.normal(size=(12, 1))
    found = classifier_test(x, y, jax.random.key(0))
    assert seen == [10]
    assert found["statistic"] == pytest.approx((3 / 4 + 2 / 6) / 2)
    expected = fisher_exact([[3, 1], [4, 2]], alternative="greater").pvalue
    assert found["p_value"] == pytest.approx(expected)


def test_one_held_out_half_of_point_masses_by_enumeration():
    """With 4 rows each, 2 and 2 are held out, of which 1 choice in C(4, 2) = 6 is all right."""
    x, y = np.zeros((4, 1)), np.ones((4, 1))
    found = classifier_test(x, y, jax.random.key(0), "neighbours")
    assert found == {"statistic": 1.0, "p_value": pytest.approx(1 / 6)}


def test_level_of_the_classifier_under_the_null():
    rng, found = np.random.default_rng(3), []
    for run in range(100):
        x, y = rng.standard_cauchy((2, 30, 2))
        found.append(classifier_test(x, y, jax.random.key(run), "neighbours"))
    p = np.array([each["p_value"] for each in found])
    for level in (0.05, 0.3):
        assert np.sum(p <= level) <= binom.ppf(1 - 1e-6, 100, level)
    # 15 held-out rows each: an accuracy has a standard error of at most 1 / sqrt(4 * 30).
    accuracies = np.array([each["statistic"] for each in found])
    assert abs(accuracies.mean() - 0.5) < 5 / np.sqrt(4 * 30) / 10


def test_a_classifier_that_learns_nothing_says_so():
    """Rows that are all equal: whatever is said of all of them is right for one half."""
    found = classifier_test(np.zeros((9, 2)), np.zeros((9, 2)), jax.random.key(0))
    assert found == {"statistic": 0.5, "p_value": 1.0}


def test_mistakes_of_the_other_tests_are_named():
    x, rng = np.zeros((4, 2)), jax.random.key(0)
    with pytest.raises(ValueError, match=r"\[N, Z\]"):
        mmd_test(x, np.zeros((4, 3)), rng)
    with pytest.raises(ValueError, match="bandwidth is 0"):
        mmd_test(x, x, rng, bandwidth=0)
    with pytest.raises(ValueError, match="both need at least 4"):
        classifier_test(x[:3], x, rng)
    with pytest.raises(ValueError, match="method is 'forest'"):
        classifier_test(x, x, rng, "forest")
