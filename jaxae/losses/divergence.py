"""Divergences between diagonal Gaussians, in nats, and penalties of a VAE's rate.

Functions named `..._per_dimension` keep the last axis; the others sum over it. None averages
over a batch, except `free_bits`, whose definition does.
"""

import math

import jax
import jax.numpy as jnp

from jaxae.losses import _check
from jaxae.losses._numerics import divide_by_scale, expm1_minus_x


def kl_to_standard_normal(mean: jax.Array, log_var: jax.Array) -> jax.Array:
    """KL(N(mean, diag exp(log_var)) || N(0, I)), one number per example.

    Args:
        mean: `[..., Z]` float.
        log_var: `[..., Z]` float, natural logarithm of the variances.
    Returns:
        `[...]` nats, summed over Z; >= 0.
    Raises:
        TypeError: not float.
        ValueError: shapes differ (no silent broadcasting).
    Source: Kingma & Welling 2014, arXiv:1312.6114, appendix B.
    """
    return jnp.sum(_to_standard_normal("kl_to_standard_normal", mean, log_var), axis=-1)


def kl_to_standard_normal_per_dimension(mean: jax.Array, log_var: jax.Array) -> jax.Array:
    """`kl_to_standard_normal` before the sum: `[..., Z]` nats, each >= 0."""
    return _to_standard_normal("kl_to_standard_normal_per_dimension", mean, log_var)


def _to_standard_normal(function: str, mean: jax.Array, log_var: jax.Array) -> jax.Array:
    mean, log_var = _check.same_shape(function, mean=mean, log_var=log_var)
    _check.axes(function, 1, mean=mean)
    return 0.5 * (jnp.square(mean) + expm1_minus_x(log_var))


def kl_diagonal_gaussians(
    mean_q: jax.Array, log_var_q: jax.Array, mean_p: jax.Array, log_var_p: jax.Array
) -> jax.Array:
    """KL(N(mean_q, diag exp(log_var_q)) || N(mean_p, diag exp(log_var_p))) per example.

    Args:
        mean_q, log_var_q, mean_p, log_var_p: `[..., Z]` float, all of one shape.
    Returns:
        `[...]` nats, summed over Z; >= 0.
    Raises:
        TypeError: not float.
        ValueError: shapes differ (no silent broadcasting).
    """
    moments = mean_q, log_var_q, mean_p, log_var_p
    return jnp.sum(_diagonal_gaussians("kl_diagonal_gaussians", *moments), axis=-1)


def kl_diagonal_gaussians_per_dimension(
    mean_q: jax.Array, log_var_q: jax.Array, mean_p: jax.Array, log_var_p: jax.Array
) -> jax.Array:
    """`kl_diagonal_gaussians` before the sum: `[..., Z]` nats, each >= 0."""
    moments = mean_q, log_var_q, mean_p, log_var_p
    return _diagonal_gaussians("kl_diagonal_gaussians_per_dimension", *moments)


def _diagonal_gaussians(
    function: str,
    mean_q: jax.Array,
    log_var_q: jax.Array,
    mean_p: jax.Array,
    log_var_p: jax.Array,
) -> jax.Array:
    mean_q, log_var_q, mean_p, log_var_p = _check.same_shape(
        function, mean_q=mean_q, log_var_q=log_var_q, mean_p=mean_p, log_var_p=log_var_p
    )
    _check.axes(function, 1, mean_q=mean_q)
    distance = jnp.square(divide_by_scale(mean_q - mean_p, 0.5 * log_var_p))
    return 0.5 * (distance + expm1_minus_x(log_var_q - log_var_p))


def gaussian_log_prob(z: jax.Array, mean: jax.Array, log_var: jax.Array) -> jax.Array:
    """log N(z; mean, diag exp(log_var)), with constants.

    Args:
        z, mean, log_var: `[..., Z]` float, all of one shape.
    Returns:
        `[...]` nats, summed over Z.
    Raises:
        TypeError: not float.
        ValueError: shapes differ (no silent broadcasting).
    """
    z, mean, log_var = _check.same_shape("gaussian_log_prob", z=z, mean=mean, log_var=log_var)
    _check.axes("gaussian_log_prob", 1, z=z)
    squares = jnp.square(divide_by_scale(z - mean, 0.5 * log_var))
    return -0.5 * jnp.sum(squares + log_var + math.log(2 * math.pi), axis=-1)


def kl_monte_carlo(log_q: jax.Array, log_p: jax.Array) -> jax.Array:
    """KL(q || p) estimated from samples of q: unbiased, may be negative.

    Args:
        log_q, log_p: `[S, ...]` float, log-densities at the same S samples of q.
    Returns:
        `[...]` nats, the mean over the samples.
    Raises:
        TypeError: not float.
        ValueError: shapes differ (no silent broadcasting).
    """
    log_q, log_p = _check.same_shape("kl_monte_carlo", log_q=log_q, log_p=log_p)
    _check.axes("kl_monte_carlo", 1, log_q=log_q)
    return jnp.mean(log_q - log_p, axis=0)


def free_bits(kl: jax.Array, floor: float) -> jax.Array:
    """Rate in which every group counts at least `floor` nats: sum_g max(mean_b kl, floor).

    The mean over the batch is inside the maximum, so this is one number per batch (under `pmap`:
    per device). A group below the floor gets zero gradient, and the loss is no longer a bound:
    report the true rate too.

    Args:
        kl: `[B, G]` float, nats per example and group (a latent dimension or channel).
        floor: nats per group.
    Returns:
        scalar nats, summed over groups.
    Raises:
        TypeError: `kl` is not float.
        ValueError: `kl` does not have two axes.
    Source: Kingma et al. 2016, arXiv:1606.04934.
    """
    (kl,) = _check.floats("free_bits", kl=kl)
    _check.shape("free_bits", "kl", kl, ("B", "G"))
    return jnp.sum(jnp.maximum(jnp.mean(kl, axis=0), floor))


def free_bits_per_example(kl: jax.Array, floor: float) -> jax.Array:
    """As `free_bits`, but with the maximum taken per example, which is another objective.

    Args:
        kl: `[..., G]` float, nats per group.
        floor: nats per group.
    Returns:
        `[...]` nats, summed over groups.
    Raises:
        TypeError: not float.
        ValueError: `kl` has no axis.
    """
    (kl,) = _check.floats("free_bits_per_example", kl=kl)
    _check.axes("free_bits_per_example", 1, kl=kl)
    return jnp.sum(jnp.maximum(kl, floor), axis=-1)


def capacity_penalty(rate: jax.Array, capacity: float | jax.Array, gamma: float) -> jax.Array:
    """gamma |rate - capacity|: keeps the rate near a capacity that a schedule raises.

    Args:
        rate: `[...]` float, nats per example.
        capacity: scalar, nats.
        gamma: weight.
    Returns:
        `[...]` nats; it replaces beta times the rate.
    Raises:
        TypeError: `rate` is not float.
        ValueError: `capacity` is not a scalar.
    Source: Burgess et al. 2018, arXiv:1804.03599.
    """
    (rate,) = _check.floats("capacity_penalty", rate=rate)
    _check.shape("capacity_penalty", "capacity", jnp.asarray(capacity), ())
    return gamma * jnp.abs(rate - capacity)
