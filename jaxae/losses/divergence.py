"""Divergences between diagonal Gaussians, in nats, and what a VAE makes of its rate.

Functions named `..._per_dimension` keep the last axis; the others sum over it. None averages
over a batch, except `free_bits`, whose definition does.
"""

import math

import chex
import jax
import jax.numpy as jnp


def kl_to_standard_normal(mean: jax.Array, log_var: jax.Array) -> jax.Array:
    """KL(N(mean, diag exp(log_var)) || N(0, I)), one number per example.

    Args:
        mean: `[..., Z]` float.
        log_var: `[..., Z]` float, natural logarithm of the variances.
    Returns:
        `[...]` nats, summed over Z; >= 0.
    Raises:
        AssertionError: shapes differ (no silent broadcasting) or not float.
    Source: Kingma & Welling 2014, arXiv:1312.6114, appendix B.
    """
    return jnp.sum(kl_to_standard_normal_per_dimension(mean, log_var), axis=-1)


def kl_to_standard_normal_per_dimension(mean: jax.Array, log_var: jax.Array) -> jax.Array:
    """`kl_to_standard_normal` before the sum: `[..., Z]` nats, each >= 0."""
    chex.assert_equal_shape([mean, log_var])
    chex.assert_type([mean, log_var], float)
    return 0.5 * (jnp.square(mean) + _expm1_minus_itself(log_var))


def kl_diagonal_gaussians(
    mean_q: jax.Array, log_var_q: jax.Array, mean_p: jax.Array, log_var_p: jax.Array
) -> jax.Array:
    """KL(N(mean_q, diag exp(log_var_q)) || N(mean_p, diag exp(log_var_p))) per example.

    Args:
        mean_q, log_var_q, mean_p, log_var_p: `[..., Z]` float, all of one shape.
    Returns:
        `[...]` nats, summed over Z; >= 0.
    Raises:
        AssertionError: shapes differ (no silent broadcasting) or not float.
    """
    per_dimension = kl_diagonal_gaussians_per_dimension(mean_q, log_var_q, mean_p, log_var_p)
    return jnp.sum(per_dimension, axis=-1)


def kl_diagonal_gaussians_per_dimension(
    mean_q: jax.Array, log_var_q: jax.Array, mean_p: jax.Array, log_var_p: jax.Array
) -> jax.Array:
    """`kl_diagonal_gaussians` before the sum: `[..., Z]` nats, each >= 0."""
    chex.assert_equal_shape([mean_q, log_var_q, mean_p, log_var_p])
    chex.assert_type([mean_q, log_var_q, mean_p, log_var_p], float)
    distance = jnp.square(mean_q - mean_p) * jnp.exp(-log_var_p)
    return 0.5 * (distance + _expm1_minus_itself(log_var_q - log_var_p))


def gaussian_log_prob(z: jax.Array, mean: jax.Array, log_var: jax.Array) -> jax.Array:
    """log N(z; mean, diag exp(log_var)), constants kept.

    Args:
        z, mean, log_var: `[..., Z]` float, all of one shape.
    Returns:
        `[...]` nats, summed over Z.
    Raises:
        AssertionError: shapes differ (no silent broadcasting) or not float.
    """
    chex.assert_equal_shape([z, mean, log_var])
    chex.assert_type([z, mean, log_var], float)
    squares = jnp.square(z - mean) * jnp.exp(-log_var)
    return -0.5 * jnp.sum(squares + log_var + math.log(2 * math.pi), axis=-1)


def kl_monte_carlo(log_q: jax.Array, log_p: jax.Array) -> jax.Array:
    """KL(q || p) estimated from samples of q: unbiased, and negative at times.

    Args:
        log_q, log_p: `[S, ...]` float, both log-densities at the same S samples of q.
    Returns:
        `[...]` nats, the mean over the samples.
    Raises:
        AssertionError: shapes differ or not float.
    """
    chex.assert_equal_shape([log_q, log_p])
    chex.assert_type([log_q, log_p], float)
    return jnp.mean(log_q - log_p, axis=0)


def free_bits(kl: jax.Array, floor: float) -> jax.Array:
    """Rate in which every group costs at least `floor`, however little it says.

    The mean over the batch is taken inside the maximum, so this is one number for a batch (for
    this device's share of it under `pmap`). A group below the floor gets exactly no gradient, and
    the loss is no longer a bound: report the true rate beside it.

    Args:
        kl: `[B, G]` float, nats by example and group (a latent dimension or channel).
        floor: nats per group.
    Returns:
        scalar nats, summed over groups.
    Raises:
        AssertionError: `kl` is not of rank 2 or not float.
    Source: Kingma et al. 2016, arXiv:1606.04934.
    """
    chex.assert_rank(kl, 2)
    chex.assert_type(kl, float)
    return jnp.sum(jnp.maximum(jnp.mean(kl, axis=0), floor))


def free_bits_per_example(kl: jax.Array, floor: float) -> jax.Array:
    """As `free_bits`, with the maximum taken for every example on its own: another objective.

    Args:
        kl: `[..., G]` float, nats by group.
        floor: nats per group.
    Returns:
        `[...]` nats, summed over groups.
    Raises:
        AssertionError: not float.
    """
    chex.assert_type(kl, float)
    return jnp.sum(jnp.maximum(kl, floor), axis=-1)


def capacity_penalty(rate: jax.Array, capacity: float | jax.Array, gamma: float) -> jax.Array:
    """gamma |rate - capacity|: holds the rate at a capacity that a schedule raises.

    Args:
        rate: `[...]` float, nats per example.
        capacity: scalar, nats.
        gamma: weight.
    Returns:
        `[...]`, in place of beta times the rate.
    Raises:
        AssertionError: `rate` is not float or `capacity` is not a scalar.
    Source: Burgess et al. 2018, arXiv:1804.03599.
    """
    chex.assert_type(rate, float)
    chex.assert_rank(capacity, 0)
    return gamma * jnp.abs(rate - capacity)


def _expm1_minus_itself(x: jax.Array) -> jax.Array:
    """exp(x) - 1 - x >= 0 with all its digits, also where the terms cancel."""
    small = jnp.abs(x) < 0.5
    # Taylor: x^2 (1/2! + x/3! + ... + x^8/10!); the first term left out is below 1e-10 of it.
    series, near = 0.0, jnp.where(small, x, 0.0)
    for n in range(10, 1, -1):
        series = series * near + 1 / math.factorial(n)
    return jnp.where(small, jnp.square(near) * series, jnp.expm1(x) - x)
