"""The importance-weighted bound, at once or chunk by chunk, and bits per dimension."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.losses import _check


def importance_weighted_bound(log_weights: jax.Array, axis: int = 0) -> jax.Array:
    """log of the mean of k importance weights, per example.

    In expectation over the samples a lower bound of log p(x); it rises with k and is the ELBO at
    k = 1. Compute it per example, then average over examples, not the other way round. Its gradient
    is the sum of softmax(log_weights) times the gradients of the log-weights.

    Args:
        log_weights: float, log p(x, z_i) - log q(z_i | x) in nats, with the k samples along `axis`.
        axis: axis of the samples.
    Returns:
        nats, without `axis`; -inf (and a NaN gradient) where every weight is -inf.
    Raises:
        TypeError: not float.
        ValueError: no such axis, or no sample along it.
    Source: Burda et al. 2016, arXiv:1509.00519, section 3.
    """
    (log_weights,) = _check.floats("importance_weighted_bound", log_weights=log_weights)
    last = log_weights.ndim - 1
    _check.axes("importance_weighted_bound", 1, log_weights=log_weights)
    axis = _check.integer("importance_weighted_bound", "axis", axis, -1 - last, last)
    samples = log_weights.shape[axis]
    _check.integer("importance_weighted_bound", "the number of samples", samples, 1)
    return jax.nn.logsumexp(log_weights, axis=axis) - math.log(samples)


class BoundCarry(NamedTuple):
    """Running sum of the importance weights so far: their total is sum * exp(max)."""

    max: jax.Array  # [...] largest log-weight
    sum: jax.Array  # [...] sum of exp(log-weight - max)
    count: jax.Array  # int32 scalar


def empty_bound(shape: tuple[int, ...]) -> BoundCarry:
    """The carry before the first sample, for examples `[*shape]`."""
    return BoundCarry(jnp.full(shape, -jnp.inf), jnp.zeros(shape), jnp.int32(0))


def extend_bound(carry: BoundCarry, log_weights: jax.Array) -> BoundCarry:
    """The carry after one more chunk of samples, of any size.

    Args:
        carry: from `empty_bound` or an earlier chunk.
        log_weights: `[n, ...]` float, n samples for each of the carry's examples.
    Raises:
        TypeError: not float.
        ValueError: shapes do not match the carry, or no sample.
    """
    (log_weights,) = _check.floats("extend_bound", log_weights=log_weights)
    _check.shape(
        "extend_bound", "log_weights", log_weights, ("n", *carry.max.shape), carry=carry.max
    )
    _check.integer("extend_bound", "the number of samples", log_weights.shape[0], 1)
    # The maximum only sets the unit of the sum; no gradient flows through it.
    largest = jax.lax.stop_gradient(jnp.maximum(carry.max, jnp.max(log_weights, axis=0)))
    unit = jnp.where(jnp.isfinite(largest), largest, 0.0)
    chunk = jnp.sum(jnp.exp(log_weights - unit[None]), axis=0)
    total = carry.sum * jnp.exp(carry.max - unit) + chunk
    return BoundCarry(largest, total, carry.count + log_weights.shape[0])


def finish_bound(carry: BoundCarry) -> jax.Array:
    """`importance_weighted_bound` of all samples added to the carry.

    The same for any chunk size, up to rounding: `[...]` nats, -inf where every weight was -inf, NaN
    if no sample was added.
    """
    unit = jnp.where(jnp.isfinite(carry.max), carry.max, 0.0)
    return unit + jnp.log(carry.sum) - jnp.log(carry.count.astype(carry.sum.dtype))


def bits_per_dim(nats: float | jax.Array, dims: int) -> float | jax.Array:
    """Nats per example as bits per dimension, for examples of `dims` numbers.

    For data dequantised and scaled to [0, 1] add log2 of the number of levels to the result.

    Raises:
        TypeError: `nats` is an array that is not float, or `dims` not an integer.
        ValueError: `dims` is below 1.
    """
    dims = _check.integer("bits_per_dim", "dims", dims, 1)
    if not isinstance(nats, int | float | np.number | np.ndarray):  # their type is kept
        (nats,) = _check.floats("bits_per_dim", nats=nats)
    return nats / (dims * math.log(2))
