"""ACN's coding costs: closed form, quadrature, sampling and upper bound against each other."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from scipy import special, stats

from jaxae import losses

D, M = 4, 3
# Compiled whole: one compilation each instead of one for every operation.
quadrature = jax.jit(losses.kl_unit_gaussian_to_mixture, static_argnums=4)
upper_bound = jax.jit(losses.kl_mixture_upper_bound)


def random_mixture(seed, m=M, examples=(), tight=1.0):
    generator = np.random.default_rng(seed)
    code = 1.5 * generator.normal(size=(*examples, D))
    logits, means = generator.normal(size=(2, *examples, D, m))
    log_scales = 0.5 * tight * generator.normal(size=(*examples, D, m))
    return [np.float32(part) for part in (code, logits, means, log_scales)]


@tiny.x64()
def test_closed_form_is_quadrature_is_bound_for_one_component():
    code, logits, means, log_scales = map(np.float64, random_mixture(0, m=1, examples=(20,)))
    closed = losses.kl_unit_gaussian_to_gaussian(code, means[..., 0], log_scales[..., 0])
    s = np.exp(log_scales[..., 0])
    by_hand = np.log(s) + (1 + (code - means[..., 0]) ** 2) / (2 * s**2) - 0.5
    np.testing.assert_allclose(closed, by_hand.sum(-1), rtol=1e-12)
    for nodes in (2, 16):
        kl = quadrature(code, logits, means, log_scales, nodes)
        np.testing.assert_allclose(kl, closed, rtol=1e-12, atol=1e-12)
    bound = upper_bound(code, logits, means, log_scales)
    np.testing.assert_allclose(bound, closed, rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_quadrature_and_single_samples_agree_with_monte_carlo(seed):
    n, (code, logits, means, log_scales) = 400_000, random_mixture(seed)
    z = code + np.random.default_rng(100 + seed).normal(size=(n, D))
    log_prior = 0.0
    for j in range(D):
        density = sum(
            weight * stats.norm.pdf(z[:, j], mean, scale)
            for weight, mean, scale in zip(
                special.softmax(logits[j]), means[j], np.exp(log_scales[j]), strict=True
            )
        )
        log_prior = log_prior + np.log(density)
    costs = stats.norm.logpdf(z, code).sum(-1) - log_prior
    error = costs.std() / math.sqrt(n)
    kl = quadrature(code, logits, means, log_scales)
    assert abs(kl - costs.mean()) < 4 * error
    single = jax.vmap(losses.kl_unit_gaussian_to_mixture_sampled, (None, 0, None, None, None))
    sampled = jax.jit(single)(code, np.float32(z[:1000]), logits, means, log_scales)
    np.testing.assert_allclose(sampled, costs[:1000], rtol=1e-4, atol=1e-4)
    assert upper_bound(code, logits, means, log_scales) > kl


@pytest.mark.parametrize(("nodes", "error"), [(8, 4e-3), (16, 4e-4), (32, 4e-5)])
def test_nodes_converge_to_the_integral(nodes, error):
    mixture = random_mixture(7, examples=(200,), tight=0.3)
    code, logits, means, log_scales = (np.float64(part) for part in mixture)
    noise = np.linspace(-9, 9, 201)
    q, exact = stats.norm.pdf(noise), 0.0
    for e, density in zip(noise, q, strict=True):
        parts = stats.norm.pdf((code + e)[..., None], means, np.exp(log_scales))
        log_p = np.log((special.softmax(logits, axis=-1) * parts).sum(-1))
        exact = exact + density * (np.log(density) - log_p).sum(-1) * (noise[1] - noise[0])
    kl = quadrature(*mixture, nodes)
    assert np.abs(kl - exact).mean() < error


def test_never_negative_and_below_the_bound():
    mixture = random_mixture(1, examples=(500,))
    kl = quadrature(*mixture)
    bound = upper_bound(*mixture)
    assert (kl >= 0).all()
    assert (bound >= kl).all()


def test_nothing_to_pay_when_the_prior_is_the_posterior():
    code, logits, means, _ = random_mixture(2)
    same = np.broadcast_to(code[:, None], means.shape)
    for cost in (quadrature, upper_bound):
        np.testing.assert_allclose(cost(code, logits, same, np.zeros_like(same)), 0.0, atol=2e-6)
    assert losses.kl_unit_gaussian_to_gaussian(code, code, np.zeros_like(code)) == 0.0


def test_mixture_density_integrates_to_one():
    _, logits, means, log_scales = random_mixture(3)
    z = np.linspace(-30, 30, 6001, dtype=np.float32)
    log_prob = jax.jit(losses.mixture_log_prob)
    for j in range(D):
        part = [np.broadcast_to(p[j], (z.size, 1, M)) for p in (logits, means, log_scales)]
        density = np.exp(log_prob(z[:, None], *part))
        assert abs(np.trapezoid(density, z) - 1) < 1e-5


def test_order_credit_of_published_sizes():
    assert losses.order_credit(1) == 0.0
    assert losses.order_credit(4) == pytest.approx(math.log(24) / 4)
    for n, nats in ((360, 4.897), (10_000, 8.211), (50_000, 9.820), (1_281_167, 13.063)):
        assert losses.order_credit(n) == pytest.approx(nats, abs=6e-4)
    with pytest.raises(ValueError, match="order_credit: n must be at least 1"):
        losses.order_credit(0)


@pytest.mark.parametrize("log_scale", [-43.0, -44.0, -50.0, -100.0, -1e4])
def test_a_component_out_of_reach_takes_no_part(log_scale):
    """Two of weight 1/2, N(0, 1) and a needle at 0, one from the code: only the first counts."""
    zeros = jnp.zeros((1, 2))
    code, scales = jnp.ones(1), jnp.float32([[0, log_scale]])
    log_normal = -0.5 - 0.5 * math.log(2 * math.pi)
    for cost, wanted, of_code, of_scale in (
        # log N(1; 0, 1) - ln 2; KL(N(1, 1) || N(0, 1)) + ln 2 for both.
        (losses.mixture_log_prob, log_normal - math.log(2), -1.0, 0.0),
        (losses.kl_unit_gaussian_to_mixture, 0.5 + math.log(2), 1.0, -1.0),
        (losses.kl_mixture_upper_bound, 0.5 + math.log(2), 1.0, -1.0),
    ):
        of = jax.jit(jax.value_and_grad(cost, argnums=(0, 1, 2, 3)))
        value, (code_grad, logits_grad, means_grad, scales_grad) = of(code, zeros, zeros, scales)
        np.testing.assert_allclose(value, wanted, rtol=1e-5)
        np.testing.assert_allclose(code_grad, [of_code], rtol=1e-5)
        np.testing.assert_allclose(np.abs(logits_grad), [[0.5, 0.5]], rtol=1e-5)
        np.testing.assert_allclose(means_grad, [[-of_code, 0]], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(scales_grad, [[of_scale, 0]], rtol=1e-5, atol=1e-5)


def test_a_needle_counts_where_it_stands():
    zeros, scales = jnp.zeros((1, 2)), jnp.float32([[0, -100]])
    log_prob = losses.mixture_log_prob(jnp.zeros(1), zeros, zeros, scales)
    np.testing.assert_allclose(log_prob, 100 - math.log(2) - 0.5 * math.log(2 * math.pi), rtol=1e-6)


def test_out_of_every_reach_is_no_number():
    zeros, scales = jnp.zeros((1, 1)), jnp.full((1, 1), -100.0)
    assert losses.mixture_log_prob(jnp.ones(1), zeros, zeros, scales) == -np.inf
    assert losses.kl_mixture_upper_bound(jnp.ones(1), zeros, zeros, scales) == np.inf
