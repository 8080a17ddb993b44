"""Arithmetic that keeps digits, zeros and gradients where the plain formula loses them."""

import math

import jax
import jax.numpy as jnp


def expm1_minus_itself(x: jax.Array) -> jax.Array:
    """exp(x) - 1 - x >= 0 with all its digits, also where the terms cancel."""
    small = jnp.abs(x) < 0.5
    # Taylor: x^2 (1/2! + x/3! + ... + x^14/16!); the first term left out is below 1e-18 of it.
    series, near = 0.0, jnp.where(small, x, 0.0)
    for n in range(16, 1, -1):
        series = series * near + 1 / math.factorial(n)
    return jnp.where(small, jnp.square(near) * series, jnp.expm1(x) - x)


def in_scales(difference: jax.Array, log_scale: jax.Array) -> jax.Array:
    """difference / exp(log_scale): 0 for no difference, however small the scale.

    The scale is left out there as soon as its inverse square is beyond all numbers, since XLA
    squares what it knows of a product before it multiplies.
    """
    largest = float(jnp.finfo(jnp.result_type(difference, log_scale)).max)
    beyond = log_scale < -math.floor(0.5 * math.log(largest))
    return difference * jnp.exp(-jnp.where(beyond & (difference == 0), 0.0, log_scale))


def times(weight: jax.Array, nats: jax.Array) -> jax.Array:
    """weight * nats, where nothing times infinity is nothing: what never occurs costs nothing."""
    nothing = (weight == 0) & jnp.isinf(nats)
    return weight * jnp.where(nothing, 0.0, nats)
