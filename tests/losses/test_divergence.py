"""Divergences: by hand, by quadrature, by Monte Carlo, and their digits near zero."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from jaxae import losses

MEAN, LOG_VAR = np.float32([[0, 0], [1, -2]]), np.float32(np.log([[1, 1], [4, 0.25]]))
NATS = [0.0, 3.625]  # by hand: (1 + 4 - 1 - ln 4)/2 + (4 + 1/4 - 1 + ln 4)/2


@pytest.mark.parametrize("via", [lambda f: f, jax.jit, jax.vmap])
def test_kl_to_standard_normal_by_hand(via):
    np.testing.assert_allclose(via(losses.kl_to_standard_normal)(MEAN, LOG_VAR), NATS, rtol=1e-6)


def test_kl_per_dimension_sums_to_kl():
    parts = losses.kl_to_standard_normal_per_dimension(MEAN, LOG_VAR)
    assert parts.shape == (2, 2)
    by_hand = [(1 + 4 - 1 - math.log(4)) / 2, (4 + 0.25 - 1 + math.log(4)) / 2]
    np.testing.assert_allclose(parts[1], by_hand, rtol=1e-6)
    same = losses.kl_diagonal_gaussians_per_dimension(MEAN, LOG_VAR, 0 * MEAN, 0 * MEAN)
    np.testing.assert_allclose(same, parts, rtol=1e-6)


def test_gradient_at_unit_variance_is_the_mean():
    mean = jnp.array([3.0, -1.0])
    gradient = jax.grad(losses.kl_to_standard_normal, argnums=(0, 1))(mean, jnp.zeros(2))
    np.testing.assert_allclose(gradient, [[3.0, -1.0], [0.0, 0.0]], rtol=1e-6)


@pytest.mark.parametrize("q", [(0.3, 0.7), (-1.0, 0.2)])
@pytest.mark.parametrize("p", [(0.0, 1.0), (0.5, 2.0)])
def test_kl_against_quadrature_and_monte_carlo(q, p):
    (a, s), (b, t) = q, p
    log_ratio = lambda z: stats.norm.logpdf(z, a, s) - stats.norm.logpdf(z, b, t)
    integral, _ = integrate.quad(
        lambda z: stats.norm.pdf(z, a, s) * log_ratio(z), a - 12 * s, a + 12 * s
    )
    column = lambda value: np.float32([value])
    kl = losses.kl_diagonal_gaussians(
        column(a), column(2 * math.log(s)), column(b), column(2 * math.log(t))
    )
    np.testing.assert_allclose(kl, integral, rtol=1e-5)
    if p == (0.0, 1.0):
        closed = losses.kl_to_standard_normal(column(a), column(2 * math.log(s)))
        np.testing.assert_allclose(closed, integral, rtol=1e-5)

    z = np.random.default_rng(0).normal(a, s, size=(1_000_000, 1)).astype(np.float32)
    density = lambda mean, std: losses.gaussian_log_prob(
        z, np.full_like(z, mean), np.full_like(z, 2 * math.log(std))
    )
    estimate = losses.kl_monte_carlo(density(a, s), density(b, t))
    standard_error = log_ratio(z).std() / 1000
    assert abs(estimate - integral) < 4 * standard_error


def test_kl_is_zero_at_the_prior_and_nowhere_below():
    generator = np.random.default_rng(1)
    mean, log_var = generator.normal(size=(2, 1000, 4)).astype(np.float32)
    zero = np.zeros_like(mean)
    np.testing.assert_array_equal(losses.kl_to_standard_normal(zero, zero), 0.0)
    np.testing.assert_array_equal(losses.kl_diagonal_gaussians(mean, log_var, mean, log_var), 0.0)
    for size in (1e-6, 1e-3, 0.49, 0.51, 3.0, 20.0):
        assert (losses.kl_to_standard_normal(size * mean, size * log_var) >= 0).all()


def test_digits_near_the_prior():
    # In float64 by the series; exp(v) - 1 - v in float32 would keep none of them.
    log_var = np.float32([1e-8, 1e-6, 1e-4, -1e-4, 1e-2, -0.3, 0.4999, 0.5001, -0.6, 2.0])
    v = np.float64(log_var)
    exact = 0.5 * sum(v**n / math.factorial(n) for n in range(2, 30))
    kl = losses.kl_to_standard_normal_per_dimension(np.zeros_like(log_var), log_var)
    np.testing.assert_allclose(kl, exact, rtol=1e-6)
    rate = lambda w: losses.kl_to_standard_normal(jnp.zeros_like(w), w)
    gradient = jax.jit(jax.grad(rate))(log_var)
    np.testing.assert_allclose(gradient, 0.5 * np.expm1(v), rtol=1e-6)


def test_free_bits_by_hand():
    # Groups cost 1 and 5 on average; the first is under the floor of 2.
    kl = jnp.array([[0.5, 4.0], [1.5, 6.0]])
    assert losses.free_bits(kl, 2.0) == 2.0 + 5.0
    np.testing.assert_array_equal(jax.grad(losses.free_bits)(kl, 2.0), [[0, 0.5], [0, 0.5]])
    # Per example the maximum comes first: another objective wherever a batch straddles the floor.
    np.testing.assert_array_equal(losses.free_bits_per_example(kl, 1.0), [1 + 4, 1.5 + 6])
    each = jax.grad(lambda k: losses.free_bits_per_example(k, 1.0).sum())(kl)
    np.testing.assert_array_equal(each, [[0, 1], [1, 1]])


def test_free_bits_needs_a_batch_and_groups():
    with pytest.raises(ValueError, match="free_bits: kl"):
        losses.free_bits(jnp.ones(3), 1.0)


def test_capacity_pulls_from_both_sides():
    penalty = functools.partial(losses.capacity_penalty, gamma=100.0)
    rate = jnp.array([3.0, 8.0])
    np.testing.assert_array_equal(penalty(rate, 5.0), [200.0, 300.0])
    slope = jax.grad(lambda r: penalty(r, jnp.float32(5.0)).sum())(rate)
    np.testing.assert_array_equal(slope, [-100, 100])
    with pytest.raises(ValueError, match="capacity_penalty: capacity"):
        penalty(rate, rate)


TIGHT = [-50.0, -100.0, -1000.0, -1e4]  # exp(100) is no number of float32


@pytest.mark.parametrize("log_var", TIGHT)
def test_equal_gaussians_have_zero_kl_at_any_scale(log_var):
    mean, log_vars = jnp.float32([[0.0, 2.0]]), jnp.full((1, 2), log_var)
    value_and_grads = jax.value_and_grad(
        lambda *q_and_p: losses.kl_diagonal_gaussians(*q_and_p).sum(), argnums=(0, 1, 2, 3)
    )
    value, gradients = value_and_grads(mean, log_vars, mean, log_vars)
    assert value == 0
    assert not np.any(gradients)
    # Also where the compiler knows the variances and reckons with them beforehand.
    known = jax.jit(lambda m: losses.kl_diagonal_gaussians(m, log_vars, m, log_vars))
    np.testing.assert_array_equal(known(mean), [0])


@pytest.mark.parametrize("log_var", TIGHT)
def test_a_tight_gaussian_is_densest_at_its_mean(log_var):
    mean, log_vars = jnp.float32([0.0, 2.0]), jnp.full(2, log_var)
    density = jax.value_and_grad(losses.gaussian_log_prob, argnums=(0, 1, 2))
    for via in (density, jax.jit(density)):
        value, (of_z, of_mean, of_log_var) = via(mean, mean, log_vars)
        np.testing.assert_allclose(value, -log_var - math.log(2 * math.pi), rtol=1e-6)
        assert not of_z.any()
        assert not of_mean.any()
        np.testing.assert_array_equal(of_log_var, [-0.5, -0.5])


def test_tight_gaussians_close_together():
    """|difference|^2 alone is below float32, and 1 / variance above."""
    z, mean, log_var = (jnp.float32([number]) for number in (1e-22, 0.0, -100.0))
    scaled = 1e-44 * math.exp(100)  # 0.27
    log_prob = -0.5 * (scaled - 100 + math.log(2 * math.pi))
    np.testing.assert_allclose(losses.gaussian_log_prob(z, mean, log_var), log_prob, rtol=1e-6)
    kl = losses.kl_diagonal_gaussians(z, log_var, mean, log_var)
    np.testing.assert_allclose(kl, 0.5 * scaled, rtol=2e-5)


def test_curvature_at_equal_means_is_the_precision():
    kl = lambda mean: losses.kl_diagonal_gaussians(mean, jnp.zeros(1), jnp.zeros(1), jnp.ones(1))
    np.testing.assert_allclose(jax.hessian(kl)(jnp.zeros(1)), [[math.exp(-1)]], rtol=1e-6)
