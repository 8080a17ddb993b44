"""The likelihood bundle: what a decoder must give, and that nll, mean and sample agree."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from scipy import special, stats

from jaxae.losses import likelihood
from jaxae.losses.likelihood import MIN_LOG_SCALE, NAMES

SHAPE = (2, 3, 2)
CHANNELS = {"bernoulli": 2, "gaussian": 2, "gaussian_learned": 4, "logistic_mixture": 5 * 6,
            "categorical": 2 * 4}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_shapes_of_images_and_of_single_pixels(name):
    pixel = likelihood(name, SHAPE, levels=4)
    assert pixel.channels == CHANNELS[name]
    outputs = np.random.default_rng(0).normal(size=(5, 2, 3, pixel.channels)).astype(np.float32)
    rngs = jax.random.split(jax.random.key(0))
    sample, mean, nll_of = (
        jax.jit(pixel.sample),
        jax.jit(pixel.mean),
        jax.jit(pixel.nll, static_argnums=2),
    )
    x = sample(outputs, rngs[0])
    assert x.shape == mean(outputs).shape == (5, *SHAPE)
    nll = nll_of(outputs, x)
    assert nll.shape == (5,)
    assert sample(outputs[:, 0, 0], rngs[1]).shape == mean(outputs[:, 0, 0]).shape == (5, 2)
    by_pixel = [nll_of(outputs[:, h, w], x[:, h, w], 1) for h in range(2) for w in range(3)]
    np.testing.assert_allclose(sum(by_pixel), nll, rtol=1e-5)


@tiny.x64()
def test_bernoulli_sums_to_one_over_all_images():
    pixel = likelihood("bernoulli", (2, 2, 1))
    every = np.float64(list(itertools.product([0, 1], repeat=4))).reshape(16, 2, 2, 1)
    logits = np.random.default_rng(1).normal(size=(2, 2, 1))
    nll = pixel.nll(np.tile(logits, (16, 1, 1, 1)), every)
    np.testing.assert_allclose(np.exp(-nll).sum(), 1.0, rtol=1e-12)


def test_gaussians_charge_what_scipy_charges():
    generator = np.random.default_rng(2)
    x, mean, log_scale = generator.normal(size=(3, 4, *SHAPE)).astype(np.float32)
    fixed, learned = likelihood("gaussian", SHAPE, scale=0.3), likelihood("gaussian_learned", SHAPE)
    np.testing.assert_allclose(
        fixed.nll(mean, x), -stats.norm.logpdf(x, mean, 0.3).sum((1, 2, 3)), rtol=1e-5
    )
    np.testing.assert_allclose(
        learned.nll(np.concatenate([mean, log_scale], -1), x),
        -stats.norm.logpdf(x, mean, np.exp(log_scale)).sum((1, 2, 3)),
        rtol=1e-5,
    )


def test_categorical_sums_to_one_and_agrees_with_its_mean_and_samples():
    pixel, n = likelihood("categorical", (1, 1, 1), levels=4), 50_000
    outputs = np.float32([0.3, -1.0, 2.0, 0.1])
    p = special.softmax(np.float64(outputs))
    every = np.float32(np.arange(4) / 3).reshape(4, 1, 1, 1)
    nll = pixel.nll(np.tile(outputs, (4, 1, 1, 1)), every)
    np.testing.assert_allclose(np.exp(-nll), p, rtol=1e-5)
    np.testing.assert_allclose(pixel.mean(outputs), [p @ np.arange(4) / 3], rtol=1e-5)
    samples = pixel.sample(jnp.tile(outputs, (n, 1)), jax.random.key(3))
    counts = np.bincount(np.rint(3 * np.asarray(samples)[:, 0]).astype(int), minlength=4)
    assert np.all(np.abs(counts / n - p) < 5 * np.sqrt(p * (1 - p) / n))


def test_the_256_chances_of_a_pixel_sum_to_one():
    pixel = likelihood("categorical", (1, 1, 1), levels=256)
    outputs = np.float32(np.random.default_rng(0).normal(scale=3, size=256))
    every = np.float32(np.arange(256) / 255).reshape(256, 1, 1, 1)
    nll = pixel.nll(np.tile(outputs, (256, 1, 1, 1)), every)
    np.testing.assert_allclose(np.exp(-np.float64(nll)).sum(), 1, rtol=1e-5)


def test_learned_scale_has_a_floor():
    pixel = likelihood("gaussian_learned", (1, 1, 1))
    x, outputs = jnp.zeros((1, 1, 1)), jnp.array([[[0.0, -1e4]]])
    np.testing.assert_allclose(
        pixel.nll(outputs, x), MIN_LOG_SCALE + 0.5 * math.log(2 * math.pi), rtol=1e-6
    )
    gradient = jax.grad(lambda o: pixel.nll(o, x + 1))(outputs)
    np.testing.assert_allclose(gradient, [[[-math.exp(12), 0.0]]], rtol=1e-5)


@pytest.mark.parametrize("name", ["bernoulli", "gaussian", "gaussian_learned"])
def test_samples_have_the_mean_and_the_spread(name):
    n, pixel = 50_000, likelihood(name, (1, 1, 1), scale=0.5)
    outputs = np.float32([0.4, -1.0][: pixel.channels])
    sample = np.asarray(pixel.sample(jnp.tile(outputs, (n, 1)), jax.random.key(3)))[:, 0]
    p = special.expit(0.4)
    mean, std = {
        "bernoulli": (p, math.sqrt(p * (1 - p))),
        "gaussian": (0.4, 0.5),
        "gaussian_learned": (0.4, math.exp(-1)),
    }[name]
    np.testing.assert_allclose(pixel.mean(outputs), [mean], rtol=1e-6)
    assert abs(sample.mean() - mean) < 5 * std / math.sqrt(n)
    # The standard error of a standard deviation is at most std / sqrt(2n) here.
    assert abs(sample.std() - std) < 5 * std / math.sqrt(2 * n)
    if name == "bernoulli":
        assert set(np.unique(sample)) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("poisson", {}, ["likelihood", "'poisson'", *NAMES]),
        ("logistic_mixture", {"levels": 0}, ["likelihood", "logistic_mixture", "grid", "levels=0"]),
        ("logistic_mixture", {"levels": 1}, ["grid", "levels=1"]),
        ("categorical", {"levels": 0}, ["likelihood", "categorical", "grid", "levels=0"]),
        ("logistic_mixture", {"mixtures": 0}, ["mixtures"]),
        ("gaussian", {"scale": 0.0}, ["scale"]),
        ("gaussian", {"scale": math.nan}, ["scale"]),
    ],
)
def test_what_cannot_be_is_named(name, settings, words):
    with pytest.raises(ValueError) as error:
        likelihood(name, SHAPE, **settings)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    "name", ["bernoulli", "gaussian", "gaussian_learned", "logistic_mixture", "categorical"]
)
def test_samples_and_means_keep_the_type_of_the_outputs(name):
    """Where noise is of 64 bits unless told otherwise."""
    with tiny.x64():
        pixel = likelihood(name, (1, 1, 1), levels=4, mixtures=2)
        outputs = jnp.zeros((3, pixel.channels), jnp.float32)
        assert pixel.sample(outputs, jax.random.key(0)).dtype == jnp.float32
        assert pixel.mean(outputs).dtype == jnp.float32


def test_a_gaussians_scale_is_one_unless_told():
    """-log N(1; 0, 1) = 1/2 + log(2 pi) / 2."""
    nll = likelihood("gaussian", (1, 1, 1)).nll(jnp.zeros((1, 1, 1)), jnp.ones((1, 1, 1)))
    np.testing.assert_allclose(nll, 0.5 + 0.5 * math.log(2 * math.pi), rtol=1e-6)
