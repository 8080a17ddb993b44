"""The Fréchet distance against scipy and closed forms; Parzen against a direct computation."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.special import logsumexp
from scipy.stats import norm

from jaxae.data import load
from jaxae.evaluation import frechet, frechet_distance, parzen_log_likelihood


def by_roots(a, b):
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    half = sqrtm(covariances[0])
    root = sqrtm(half @ covariances[1] @ half)
    gap = np.sum((a.mean(0) - b.mean(0)) ** 2)
    return gap + np.trace(covariances[0] + covariances[1] - 2 * root.real)


def signs(means, deviations):
    """Every corner of a box: mean and diagonal covariance (n - 1) exactly as given."""
    corners = np.array(np.meshgrid(*[[-1, 1]] * len(means))).reshape(len(means), -1).T
    return means + corners * deviations * np.sqrt((len(corners) - 1) / len(corners))


def test_against_matrix_roots():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(60, 7)) @ rng.normal(size=(7, 7))
    b = rng.normal(size=(90, 7)) @ rng.normal(size=(7, 7)) + 1
    assert frechet_distance(a, b) == pytest.approx(by_roots(a, b), rel=1e-10)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-12)


def test_diagonal_gaussians_in_closed_form():
    """|m - n|^2 + sum (s - t)^2, singular ones among them."""
    means, others = np.array([0.0, 1, 2, 3]), np.array([1.0, 1, 2, 5])
    for s, t in (([1, 2, 3, 4], [4, 2, 1, 0.5]), ([1, 0, 0, 2], [0, 0, 3, 2]), ([0] * 4, [0] * 4)):
        s, t = np.array(s, float), np.array(t, float)
        expected = np.sum((means - others) ** 2) + np.sum((s - t) ** 2)
        found = frechet_distance(signs(means, s), signs(others, t))
        assert found == pytest.approx(expected, rel=1e-12)


def test_fewer_examples_than_features():
    """On the line of all ones both sets are one-dimensional Gaussians; elsewhere they are 0."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(5, 1)), 3 + 2 * rng.normal(size=(6, 1))
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    line = np.ones((1, 400)) / 20
    assert frechet_distance(a @ line, b @ line) == pytest.approx(expected, rel=1e-11)


def test_equal_sets_are_at_no_distance():
    a = 1e3 * np.random.default_rng(2).normal(size=(20, 50))  # singular
    assert 0 <= frechet_distance(a, a[::-1]) < 1e-13 * np.trace(np.cov(a, rowvar=False))


def test_mistakes_of_frechet_are_named():
    a = np.ones((3, 2))
    with pytest.raises(ValueError, match="b 1; a covariance needs at least 2"):
        frechet_distance(a, a[:1])
    with pytest.raises(ValueError, match=r"\[N, F\] and \[M, F\]"):
        frechet_distance(a, np.ones((3, 4)))
    with pytest.raises(ValueError, match="NaN or infinity"):
        frechet_distance(a, np.inf * a)


def direct(samples, queries, sigma):
    """`[Q]` log densities in float64, the normal densities multiplied over the pixels."""
    flat = [x.reshape(len(x), -1).astype(np.float64) for x in (samples, queries)]
    terms = norm(flat[0][None], sigma).logpdf(flat[1][:, None]).sum(2)
    return logsumexp(terms, axis=1) - np.log(len(samples))


def test_parzen_against_a_direct_computation(monkeypatch):
    """Over several blocks with a rest, of images at a distance from the origin."""
    monkeypatch.setattr(frechet, "_QUERIES", 8)
    monkeypatch.setattr(frechet, "_SAMPLES", 16)
    rng = np.random.default_rng(3)
    samples, validation, test = (
        (5 + 0.3 * rng.normal(size=(n, 2, 3, 1))).astype(np.float32) for n in (41, 13, 19)
    )
    sigmas = [0.1, 0.2, 0.4, 0.8]
    found = parzen_log_likelihood(samples, validation, test, sigmas)
    scores = [direct(samples, validation, sigma).mean() for sigma in sigmas]
    best = int(np.argmax(scores))
    assert 0 < best < 3
    assert found["sigma"] == sigmas[best]
    assert found["validation_log_likelihood"] == pytest.approx(scores[best], rel=1e-5)
    expected = direct(samples, test, sigmas[best])
    assert found["log_likelihood"] == pytest.approx(expected.mean(), rel=1e-5)
    error = expected.std(ddof=1) / np.sqrt(19)
    assert found["log_likelihood_se"] == pytest.approx(error, rel=1e-5)


def test_parzen_by_hand_far_out_in_the_tail():
    """One sample at 0, one image at distance 5 in two pixels: -25 / (2 s^2) - 2 log(s sqrt(2 pi)).

    exp(-12500) is 0 in floating point."""
    found = parzen_log_likelihood(np.zeros((1, 2)), np.zeros((1, 2)), np.array([[3.0, 4]]), [0.1])
    tail = -12.5 / 0.1**2
    expected = tail - 2 * np.log(0.1 * np.sqrt(2 * np.pi))
    assert found["log_likelihood"] == pytest.approx(expected, rel=1e-6)
    assert found["log_likelihood_se"] is None


def test_mistakes_of_parzen_are_named():
    x = np.zeros((3, 2))
    with pytest.raises(ValueError, match="images of the same shape"):
        parzen_log_likelihood(x, x, np.zeros((3, 4)))
    with pytest.raises(ValueError, match="validation must hold at least one"):
        parzen_log_likelihood(x, x[:0], x)
    with pytest.raises(ValueError, match="sigmas must be positive"):
        parzen_log_likelihood(x, x, x, [0.1, 0])


def test_parzen_of_real_digits(data_dir, optimised):
    """10,000 of the first 50,000 training images as the samples, 2000 test images: 235 +- 4,
    known from an independent computation."""
    data = load("mnist", data_dir=data_dir)
    order = np.random.default_rng(0).permutation(50_000)[:10_000]
    samples = data.train.arrays["image"][order].astype(np.float32) / 255
    test = data.test.arrays["image"][:2000].astype(np.float32) / 255
    found = parzen_log_likelihood(samples, test[:1], test, [0.18])
    assert abs(found["log_likelihood"] - 235) < 5
