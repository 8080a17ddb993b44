"""The importance-weighted bound on a linear-Gaussian model whose log p(x) scipy knows."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxae import losses

# x = W z + noise of variance 1/2, with z ~ N(0, I): 2 latents, 3 observed numbers.
W, NOISE, X = np.array([[1.0, 0.3], [-0.5, 0.8], [0.2, 1.1]]), 0.5, np.array([0.7, -1.2, 1.5])
LOG_P = stats.multivariate_normal.logpdf(X, np.zeros(3), W @ W.T + NOISE * np.eye(3))
PRECISION = np.eye(2) + W.T @ W / NOISE
POSTERIOR_MEAN, POSTERIOR_COV = (
    np.linalg.solve(PRECISION, W.T @ X / NOISE),
    np.linalg.inv(PRECISION),
)


def log_weights(mean, cov, shape, seed=0):
    """log p(x, z) - log q(z), z ~ q = N(mean, cov), and KL(q || posterior)."""
    z = np.random.default_rng(seed).multivariate_normal(mean, cov, size=shape)
    log_joint = stats.norm.logpdf(z).sum(-1) + stats.norm.logpdf(X, z @ W.T, NOISE**0.5).sum(-1)
    away = POSTERIOR_MEAN - mean
    kl = 0.5 * (
        np.trace(PRECISION @ cov)
        - 2
        + away @ PRECISION @ away
        - np.linalg.slogdet(PRECISION @ cov)[1]
    )
    log_q = stats.multivariate_normal.logpdf(z, mean, cov)
    return (log_joint - log_q).astype(np.float32), kl


@pytest.mark.parametrize(("shift", "stretch"), [(0.0, 1.0), (0.5, 1.3)])
def test_bound_starts_at_the_elbo_rises_with_k_and_ends_at_log_p(shift, stretch):
    sigma = np.sqrt(1 / np.diag(PRECISION))
    q = POSTERIOR_MEAN + shift * sigma, np.diag((stretch * sigma) ** 2)
    weights, kl = log_weights(*q, (100, 2000))
    previous, spread = -math.inf, 0.0
    for k in (1, 5, 50, 500):
        chunks = weights.T.reshape(-1, k)  # 200,000 / k estimates from k samples each
        bounds = np.float64(losses.importance_weighted_bound(chunks, axis=1))
        mean, error = bounds.mean(), bounds.std() / math.sqrt(len(bounds))
        if k == 1:
            assert abs(mean - (LOG_P - kl)) < 5 * error
        assert mean > previous - 5 * math.hypot(error, spread)
        assert mean < LOG_P + 5 * error
        previous, spread = mean, error
    assert abs(previous - LOG_P) < 0.005


def test_exact_posterior_leaves_no_variance():
    weights, kl = log_weights(POSTERIOR_MEAN, POSTERIOR_COV, (50, 7))
    assert abs(kl) < 1e-12
    np.testing.assert_allclose(weights, LOG_P, rtol=1e-6)
    for k in (1, 3, 50):
        bound = losses.importance_weighted_bound(weights[:k])
        np.testing.assert_allclose(bound, np.full(7, LOG_P), rtol=1e-6)


def test_samples_are_averaged_inside_the_logarithm_and_examples_outside():
    weights = np.log(np.float32([[1, 5], [3, 5]]))  # two samples of two examples
    bound = losses.importance_weighted_bound(weights)
    np.testing.assert_allclose(bound, np.log([2, 5]), rtol=1e-6)
    assert np.mean(bound) == pytest.approx(0.5 * math.log(10))  # not log 3.5, not the mean of logs
    bound = losses.importance_weighted_bound(weights.T, axis=1)
    np.testing.assert_allclose(bound, np.log([2, 5]), rtol=1e-6)


def test_gradient_is_the_weighted_sum_of_the_log_weights_gradients():
    generator = np.random.default_rng(0)
    slopes, offsets = generator.normal(size=(2, 6, 3)).astype(np.float32)
    theta = jnp.float32(0.7)
    gradient = jax.jacobian(lambda t: losses.importance_weighted_bound(t * slopes + offsets))(theta)
    shares = special.softmax(0.7 * slopes + offsets, axis=0)
    np.testing.assert_allclose(gradient, (shares * slopes).sum(0), rtol=1e-5)


@functools.partial(jax.jit, static_argnums=1)
def in_chunks(log_weights, sizes):
    carry = losses.empty_bound(log_weights.shape[1:])
    for chunk in jnp.split(log_weights, np.cumsum(sizes)[:-1]):
        carry = losses.extend_bound(carry, chunk)
    return losses.finish_bound(carry)


@pytest.mark.parametrize("sizes", [(12,), (1,) * 12, (1, 5, 6), (11, 1)])
@pytest.mark.parametrize("spread", [1.0, 1e3])
def test_chunks_change_nothing(sizes, spread):
    values = spread * np.random.default_rng(3).normal(size=(12, 2, 2)).astype(np.float32)
    expected = special.logsumexp(np.float64(values), axis=0) - math.log(12)
    np.testing.assert_allclose(in_chunks(values, sizes), expected, rtol=1e-6, atol=1e-6)
    gradient = jax.grad(lambda w: in_chunks(w, sizes).sum())(values)
    np.testing.assert_allclose(gradient, special.softmax(values, axis=0), rtol=1e-4, atol=1e-6)


def test_carry_goes_through_a_scan():
    values = np.random.default_rng(4).normal(size=(5, 4, 3)).astype(np.float32)
    carry, _ = jax.jit(
        lambda w: jax.lax.scan(
            lambda c, x: (losses.extend_bound(c, x), None), losses.empty_bound((3,)), w
        )
    )(values)
    assert carry.count == 20
    expected = special.logsumexp(np.float64(values).reshape(20, 3), axis=0) - math.log(20)
    np.testing.assert_allclose(losses.finish_bound(carry), expected, rtol=1e-5, atol=1e-6)


def test_impossible_samples_count_but_weigh_nothing():
    never = jnp.full((3, 2), -jnp.inf)
    some = jnp.array([[0.0, -1e4]])
    expected = [-math.log(4), -1e4 - math.log(4)]
    for order in ([never, some], [some, never]):
        values = jnp.concatenate(order)
        np.testing.assert_allclose(losses.importance_weighted_bound(values), expected, rtol=1e-6)
        np.testing.assert_allclose(in_chunks(values, (2, 2)), expected, rtol=1e-6)
    for bound in (losses.importance_weighted_bound(never), in_chunks(never, (1, 2))):
        np.testing.assert_array_equal(bound, [-np.inf, -np.inf])


def test_a_chunk_of_other_examples_is_refused():
    with pytest.raises(ValueError, match="log_weights"):
        losses.extend_bound(losses.empty_bound((3,)), jnp.zeros((4, 1)))
    with pytest.raises(TypeError, match="log_weights"):
        losses.extend_bound(losses.empty_bound((3,)), jnp.zeros((4, 3), jnp.int32))


def test_no_sample_is_no_number():
    assert np.isnan(losses.finish_bound(losses.empty_bound((2,)))).all()


def test_bits_per_dim_by_hand():
    assert losses.bits_per_dim(math.log(2) * 784, 784) == pytest.approx(1.0)
    np.testing.assert_allclose(
        losses.bits_per_dim(jnp.array([8 * math.log(16)]), 8), [4.0], rtol=1e-6
    )
    np.testing.assert_allclose(losses.bits_per_dim([math.log(2), 0.0], 2), [0.5, 0.0], rtol=1e-6)
    assert losses.bits_per_dim(np.float64(0.3), 1).dtype == np.float64  # whatever jax holds
    assert losses.bits_per_dim(jnp.ones(1, jnp.bfloat16), 2).dtype == jnp.float32


def test_a_nan_in_any_chunk_gives_nan():
    values = np.zeros((4, 2), np.float32)
    values[1, 0] = np.nan
    for bound in (losses.importance_weighted_bound(values), in_chunks(values, (1, 3))):
        np.testing.assert_array_equal(bound, [np.nan, 0])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_the_axis_of_the_samples_may_be_counted_from_either_end(axis):
    weights = np.log(np.float32([[1, 2, 3], [3, 2, 1]]))
    wanted = np.log(np.exp(np.float64(weights)).mean(axis))
    np.testing.assert_allclose(losses.importance_weighted_bound(weights, axis), wanted, rtol=1e-6)
