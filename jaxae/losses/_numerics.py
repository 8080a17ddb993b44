"""Formulas that stay accurate, and keep zeros and gradients, where the plain form does not."""

import math

import jax
import jax.numpy as jnp


def expm1_minus_x(x: jax.Array) -> jax.Array:
    """exp(x) - 1 - x >= 0, accurate also near 0, where the terms cancel."""
    small = jnp.abs(x) < 0.5
    # Taylor: x^2 (1/2! + x/3! + ... + x^14/16!); the first omitted term is below 1e-18 of the sum.
    series, near = 0.0, jnp.where(small, x, 0.0)
    for n in range(16, 1, -1):
        series = series * near + 1 / math.factorial(n)
    return jnp.where(small, jnp.square(near) * series, jnp.expm1(x) - x)


def divide_by_scale(difference: jax.Array, log_scale: jax.Array) -> jax.Array:
    """difference / exp(log_scale), and 0 for a zero difference at any scale.

    For a zero difference the scale is replaced by 1 where 1 / scale^2 would overflow, since XLA may
    square the factors of a product before it multiplies them.
    """
    largest = float(jnp.finfo(jnp.result_type(difference, log_scale)).max)
    overflows = log_scale < -math.floor(0.5 * math.log(largest))
    return difference * jnp.exp(-jnp.where(overflows & (difference == 0), 0.0, log_scale))


def multiply(weight: jax.Array, nats: jax.Array) -> jax.Array:
    """weight * nats, with 0 * inf = 0: an outcome of weight 0 adds nothing."""
    zero = (weight == 0) & jnp.isinf(nats)
    return weight * jnp.where(zero, 0.0, nats)
