"""Schedules: weights that change with the training step.

A beta-VAE trains on `distortion + beta * rate`. A constant beta needs no schedule; a warm-up raises
it, `beta * linear_warmup(step, num_steps)`, or raises a capacity, `linear_warmup(step, num_steps,
0.0, capacity)`. Weights are used in training only; reported are always the unweighted rate,
distortion and their sum.
"""

import jax
import jax.numpy as jnp


def linear_warmup(
    step: int | jax.Array, num_steps: int, start: float = 0.0, end: float = 1.0
) -> jax.Array:
    """`start` at step 0, `end` from step `num_steps` on, linear between.

    Args:
        step: scalar, may be traced.
        num_steps: length of the warm-up; 0 gives `end` from the first step.
    Returns:
        float32 scalar.
    Raises:
        ValueError: `num_steps` is negative.
    Source: Sønderby et al. 2016, arXiv:1602.02282.
    """
    if num_steps < 0:
        raise ValueError(f"linear_warmup: num_steps must not be negative, is {num_steps}")
    progress = jnp.clip(jnp.float32(step) / num_steps, 0.0, 1.0) if num_steps else jnp.float32(1.0)
    # Not start + (end - start) * progress, which can differ from `end` by rounding.
    return start * (1.0 - progress) + end * progress
