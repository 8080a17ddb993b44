"""Messages of the checks: the function, the argument, what it is and what it should be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxae import losses
from jaxae.losses import _check

X = np.zeros((3, 4), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: losses.gaussian_nll(X, X[0], 0.0),
            ValueError,
            "gaussian_nll: x and mean must have the same shape, are [3, 4] and [4]; nothing is "
            "broadcast here",
        ),
        (
            lambda: losses.gaussian_nll(X, X, X[0], 1),
            ValueError,
            "gaussian_nll: log_scale must have shape [3, 4] for x of shape [3, 4], has [4]",
        ),
        (
            lambda: losses.kl_diagonal_gaussians(X, X, X, X[:, :1]),
            ValueError,
            "kl_diagonal_gaussians: mean_q, log_var_q, mean_p and log_var_p must have the same "
            "shape, are [3, 4], [3, 4], [3, 4] and [3, 1]; nothing is broadcast here",
        ),
        (
            lambda: losses.mixture_log_prob(X, X, X, X),
            ValueError,
            "mixture_log_prob: logits must have shape [3, 4, M] for z of shape [3, 4], has [3, 4]",
        ),
        (
            lambda: losses.kl_to_standard_normal(1.0, 2.0),
            ValueError,
            "kl_to_standard_normal: mean must have at least 1 axes, has shape []",
        ),
        (
            lambda: losses.half_squared_error(X, X),
            ValueError,
            "half_squared_error: event_ndim for x of 2 axes must be from 0 to 2, is 3",
        ),
        (
            lambda: losses.half_squared_error(X, X, 1.0),
            TypeError,
            "half_squared_error: event_ndim for x of 2 axes must be an integer, is 1.0",
        ),
        (
            lambda: losses.bernoulli_nll(X, np.zeros((3, 4), bool)),
            TypeError,
            "bernoulli_nll: targets must be an array of floats, is bool of shape [3, 4]; convert "
            "it, as jnp.float32(...) does",
        ),
        (
            lambda: losses.bernoulli_nll(None, X),
            TypeError,
            "bernoulli_nll: logits must be an array of floats, is NoneType, which cannot be "
            "converted to an array",
        ),
        (
            lambda: losses.words_nll([[1.0], [1.0, 2.0]], X),
            TypeError,
            "words_nll: logits must be an array of floats, is list, which cannot be converted "
            "to an array",
        ),
        (
            lambda: losses.logistic_mixture_nll(X, X[:, :3], 1, 1),
            ValueError,
            "logistic_mixture_nll: levels must be at least 2, is 1",
        ),
        (
            lambda: losses.logistic_mixture_nll(X, X[:, :3], 4, 1),
            ValueError,
            "logistic_mixture_nll: params must have a multiple of 10 numbers in the last axis for "
            "3 channels, has shape [3, 4]",
        ),
        (
            lambda: losses.logistic_mixture_mean(np.zeros((3, 0), np.float32), 1),
            ValueError,
            "logistic_mixture_mean: params must have a multiple of 3 numbers in the last axis for "
            "1 channels, has shape [3, 0]",
        ),
        (
            lambda: losses.logistic_mixture_sample(X[:, :3], jax.random.key(0), 1, 1),
            ValueError,
            "logistic_mixture_sample: levels must be at least 2, is 1",
        ),
        (
            lambda: losses.categorical_nll(X[..., None], X, 1),
            ValueError,
            "categorical_nll: the last axis of logits must be at least 2, is 1",
        ),
        (
            lambda: losses.kl_unit_gaussian_to_mixture(X[0], X.T, X.T, X.T, nodes=1),
            ValueError,
            "kl_unit_gaussian_to_mixture: nodes must be at least 2, is 1",
        ),
        (
            lambda: losses.kl_to_standard_normal_per_dimension(X, X[0]),
            ValueError,
            "kl_to_standard_normal_per_dimension: mean and log_var must have the same shape, "
            "are [3, 4] and [4]; nothing is broadcast here",
        ),
        (
            lambda: losses.free_bits_per_example(np.float32(1), 0.1),
            ValueError,
            "free_bits_per_example: kl must have at least 1 axes, has shape []",
        ),
        (
            lambda: losses.mean_squared_gradient_norm(lambda x: x, np.float32(1)),
            ValueError,
            "mean_squared_gradient_norm: inputs must have at least 1 axes, has shape []",
        ),
        (
            lambda: losses.free_bits(np.float32(1), 0.1),
            ValueError,
            "free_bits: kl must have shape [B, G], has []",
        ),
        (
            lambda: losses.feature_matching(X[0], X[0]),
            ValueError,
            "feature_matching: real_features must have shape [B, F], has [4]",
        ),
        (
            lambda: losses.feature_matching(X, X[:, :3]),
            ValueError,
            "feature_matching: fake_features must have shape [B', 4] for real_features of shape "
            "[3, 4], has [3, 3]",
        ),
        (
            lambda: losses.squared_gradient_norms(lambda: 0.0),
            ValueError,
            "squared_gradient_norms: inputs must be at least one array",
        ),
        (
            lambda: losses.r1_penalty(lambda x: x, X),
            ValueError,
            "r1_penalty: critic must return one logit per example, returned shape [1, 4] for one "
            "example",
        ),
        (
            lambda: losses.mean_squared_gradient_norm(lambda x: x, X),
            ValueError,
            "mean_squared_gradient_norm: the critic's logits must have shape [3] for inputs of "
            "shape [3, 4], has [12]",
        ),
        (
            lambda: losses.importance_weighted_bound(X, axis=2),
            ValueError,
            "importance_weighted_bound: axis must be from -2 to 1, is 2",
        ),
        (
            lambda: losses.importance_weighted_bound(X[:0]),
            ValueError,
            "importance_weighted_bound: the number of samples must be at least 1, is 0",
        ),
        (
            lambda: losses.extend_bound(losses.empty_bound((4,)), X[:0]),
            ValueError,
            "extend_bound: the number of samples must be at least 1, is 0",
        ),
        (
            lambda: losses.bits_per_dim(3.0, 0),
            ValueError,
            "bits_per_dim: dims must be at least 1, is 0",
        ),
        (
            lambda: losses.bits_per_dim([1, 2], 3),
            TypeError,
            "bits_per_dim: nats must be an array of floats, is int32 of shape [2]; convert it, as "
            "jnp.float32(...) does",
        ),
        (
            lambda: losses.free_bits(X[0], 1.0),
            ValueError,
            "free_bits: kl must have shape [B, G], has [4]",
        ),
        (
            lambda: losses.kl_balance(X, X[0, :3]),
            ValueError,
            "kl_balance: alpha must have shape [4] for kl of shape [3, 4], has [3]",
        ),
        (
            lambda: losses.gan_loss("saturating").generator_loss([1, 2]),
            TypeError,
            "gan_loss 'saturating': logits must be an array of floats, is int32 of shape [2]; "
            "convert it, as jnp.float32(...) does",
        ),
        (
            lambda: losses.likelihood("gaussian", (2, 2, 3)).mean(X),
            ValueError,
            "likelihood: outputs must have shape [3, 3], has [3, 4]",
        ),
        (
            lambda: losses.gradient_penalty(jnp.sum, X[0, 0], X[0, 0], X[0]),
            ValueError,
            "gradient_penalty: real must have at least 1 axes, has shape []",
        ),
        (
            lambda: losses.gradient_penalty(jnp.sum, X, X, X[0]),
            ValueError,
            "gradient_penalty: alpha must have shape [3] for real of shape [3, 4], has [4]",
        ),
        (
            lambda: losses.gradient_penalty(lambda x: x, X, X, X[:, 0]),
            ValueError,
            "gradient_penalty: critic must return one logit per example, returned shape [1, 4] for "
            "one example",
        ),
        (
            lambda: losses.extend_bound(losses.empty_bound((4,)), X[:, :3]),
            ValueError,
            "extend_bound: log_weights must have shape [n, 4] for carry of shape [4], has [3, 3]",
        ),
        (
            lambda: losses.logistic_mixture_mean([1, 2, 3], 1),
            TypeError,
            "logistic_mixture_mean: params must be an array of floats, is int32 of shape [3]; "
            "convert it, as jnp.float32(...) does",
        ),
        (
            lambda: losses.logistic_mixture_sample([1, 2, 3], jax.random.key(0), 1, 4),
            TypeError,
            "logistic_mixture_sample: params must be an array of floats, is int32 of shape [3]; "
            "convert it, as jnp.float32(...) does",
        ),
        (
            lambda: losses.kl_monte_carlo(X[0, 0], X[0, 0]),
            ValueError,
            "kl_monte_carlo: log_q must have at least 1 axes, has shape []",
        ),
        (
            lambda: losses.kl_unit_gaussian_to_mixture_sampled(X[:, :3], X, *[X[..., None]] * 3),
            ValueError,
            "kl_unit_gaussian_to_mixture_sampled: code and z must have the same shape, are [3, 3] "
            "and [3, 4]; nothing is broadcast here",
        ),
        (
            lambda: losses.likelihood("gaussian", (2, 2, 0)),
            ValueError,
            "likelihood: the number of channels must be at least 1, is 0",
        ),
        (
            lambda: losses.likelihood("gaussian", ()),
            ValueError,
            "likelihood: image_shape must be (H, W, C), is ()",
        ),
        (
            lambda: losses.likelihood("logistic_mixture", (2, 2, 1), levels=4, mixtures=0),
            ValueError,
            "likelihood: mixtures must be at least 1, is 0",
        ),
        (
            lambda: losses.likelihood("logistic_mixture", (2, 2, 1), levels=0),
            ValueError,
            "likelihood: logistic_mixture needs data on a grid of at least 2 values, but this data "
            "has levels=0; use gaussian, or data that is not dequantised or standardised",
        ),
        (
            lambda: losses.kl_diagonal_gaussians_per_dimension(X, X, X[0], X),
            ValueError,
            "kl_diagonal_gaussians_per_dimension: mean_q, log_var_q, mean_p and log_var_p must "
            "have the same shape, are [3, 4], [3, 4], [4] and [3, 4]; nothing is broadcast here",
        ),
        (
            lambda: losses.categorical_nll(X, X[:, 0]),
            ValueError,
            "categorical_nll: event_ndim for x of 1 axes must be from 0 to 1, is 3",
        ),
        (
            lambda: losses.gan_loss("hinge"),
            ValueError,
            "gan_loss: name 'hinge' is unknown; choose from non_saturating, saturating, "
            "least_squares, wasserstein",
        ),
    ],
)
def test_messages(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


def test_one_axis_is_enough():
    np.testing.assert_allclose(
        losses.mean_squared_gradient_norm(lambda x: 3 * x, X[0]), 9.0, rtol=1e-6
    )
    np.testing.assert_allclose(losses.free_bits_per_example(X[0] + 0.5, 1.0), 4 * 1.0)


def test_single_numbers_have_a_penalty_each():
    """A critic of numbers, 3 x: its slope is 3 anywhere."""
    penalty = losses.gradient_penalty(lambda x: 3 * x, X[0], X[1], jnp.full(4, 0.5))
    np.testing.assert_allclose(penalty, np.full(4, 4.0), rtol=1e-6)


def test_both_ends_of_an_integer_range_are_allowed():
    for value in (2, np.int64(3), 5):
        assert _check.integer("f", "n", value, 2, 5) == value
    for value in (1, 6):
        with pytest.raises(ValueError, match=r"^f: n must be from 2 to 5, is "):
            _check.integer("f", "n", value, 2, 5)


def test_only_half_precision_is_converted():
    a, b, c = _check.floats("f", a=jnp.float16([1]), b=jnp.bfloat16(2), c=[3.0])
    assert a.dtype == b.dtype == c.dtype == jnp.float32
    assert (a[0], b, c[0]) == (1, 2, 3)


def test_nan_unless_spoils_gradients_too_and_nothing_else():
    value = lambda x: _check.nan_unless(jnp.array([True, False]), 3 * x)
    np.testing.assert_array_equal(value(jnp.ones(2)), [3, np.nan])
    np.testing.assert_array_equal(jax.grad(lambda x: value(x).sum())(jnp.ones(2)), [3, np.nan])
