"""Likelihoods of word counts: accurate for long documents, finite for impossible words."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from scipy import special, stats

from jaxae import losses
from jaxae.losses.counts import _remainder

MASSES = (losses.multinomial_nll, losses.constrained_poisson_nll)


@pytest.mark.parametrize("words", [300, 300_000, 3_000_000])
@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])
def test_long_documents_keep_their_digits(words, spread):
    generator = np.random.default_rng(words)
    logits = np.float32(spread * generator.normal(size=2000))
    p = special.softmax(np.float64(logits))
    counts = generator.multinomial(words, p)
    # scipy's gammaln and logarithms in float64.
    multinomial = -stats.multinomial.logpmf(counts, words, p)
    poisson = -stats.poisson.logpmf(counts, words * p).sum()
    for loss, exact in zip(MASSES, (multinomial, poisson), strict=True):
        assert abs(float(loss(logits, np.float32(counts))) - exact) < 0.005
    gradient = jax.grad(losses.multinomial_nll)(jnp.asarray(logits), np.float32(counts))
    np.testing.assert_allclose(gradient, words * p - counts, rtol=1e-4, atol=2e-6 * words)


def test_stirlings_remainder_against_the_factorial():
    n = np.array([*range(60), 1000, 12345, 10**6])
    exact = [math.lgamma(k + 1) - k * math.log(k) + k if k else 0.0 for k in n.tolist()]
    np.testing.assert_allclose(_remainder(jnp.float32(n)), exact, rtol=2e-6)


def test_stirlings_remainder_in_double_precision():
    """By recurrence, r(n) - r(n-1) = 1 - (n-1) ln(n / (n-1)), across the table's end."""
    jax.config.update("jax_enable_x64", True)
    try:
        found = np.asarray(_remainder(jnp.arange(15.0, 60.0)))
    finally:
        jax.config.update("jax_enable_x64", False)
    n = np.arange(16.0, 60.0)
    np.testing.assert_allclose(np.diff(found), 1 - (n - 1) * np.log1p(1 / (n - 1)), atol=3e-14)


def test_the_nll_of_a_document_of_one_word():
    logits, p = np.float32([0.5, -1.0, 0.2]), special.softmax(np.float64([0.5, -1.0, 0.2]))
    one = np.float32([0, 1, 0])
    np.testing.assert_allclose(losses.multinomial_nll(logits, one), -np.log(p[1]), rtol=1e-6)
    # Poisson(1; p_1), and 0 for the others: sum p - ln p_1.
    poisson = losses.constrained_poisson_nll(logits, one)
    np.testing.assert_allclose(poisson, 1 - np.log(p[1]), rtol=1e-6)


@tiny.x64()
def test_probabilities_of_all_documents_of_three_words_sum_to_one():
    every = [v for v in itertools.product(range(4), repeat=3) if sum(v) == 3]
    logits = np.tile([0.3, -1.2, 0.8], (len(every), 1))
    total = np.exp(-losses.multinomial_nll(logits, np.float64(every))).sum()
    np.testing.assert_allclose(total, 1, rtol=1e-12)


@pytest.mark.parametrize("loss", [losses.words_nll, *MASSES])
@tiny.x64()
def test_a_word_of_probability_zero_adds_nothing_until_it_occurs(loss):
    logits, without = jnp.float64([0.4, -jnp.inf, -0.7]), jnp.float64([0.4, -0.7])
    value, gradient = jax.value_and_grad(loss)(logits, jnp.float64([2, 0, 1]))
    wanted, slopes = jax.value_and_grad(loss)(without, jnp.float64([2, 1]))
    np.testing.assert_allclose(value, wanted, rtol=1e-12)
    np.testing.assert_allclose(gradient, [slopes[0], 0, slopes[1]], rtol=1e-12)
    assert loss(logits, jnp.float64([2, 1, 1])) == np.inf


def test_words_have_the_price_of_a_choice_that_is_certain():
    logits, counts = jnp.float32([0.0, -jnp.inf]), jnp.float32([3, 0])
    for loss in (losses.words_nll, losses.multinomial_nll):
        assert loss(logits, counts) == 0.0
    # Poisson(3; 3), by hand: 3 - 3 ln 3 + ln 6.
    poisson = losses.constrained_poisson_nll(logits, counts)
    np.testing.assert_allclose(poisson, 3 - 3 * math.log(3) + math.log(6), rtol=1e-6)


@pytest.mark.parametrize("loss", [losses.words_nll, *MASSES])
def test_the_nll_of_a_document_without_words_is_zero(loss):
    value, gradient = jax.value_and_grad(loss)(jnp.float32([1.0, 2.0]), jnp.zeros(2))
    assert value == 0
    np.testing.assert_array_equal(gradient, [0, 0])


def test_words_may_have_weights():
    logits, weights = np.float32([1.0, -1.0]), np.float32([0.5, 0.25])
    log_p = np.log(special.softmax(np.float64(logits)))
    np.testing.assert_allclose(losses.words_nll(logits, weights), -weights @ log_p, rtol=1e-6)


@pytest.mark.parametrize("loss", MASSES)
def test_whole_numbers_have_no_gradient(loss):
    counts = jnp.float32([2, 0, 5])
    assert not np.any(jax.grad(loss, argnums=1)(jnp.float32([0.1, 0.2, 0.3]), counts))
