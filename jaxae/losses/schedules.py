"""Weights that change with the step.

A beta-VAE trains on `distortion + beta * rate`. A constant beta needs no schedule; a warm-up
raises it, `beta * linear_warmup(step, steps)`, or raises a capacity, `linear_warmup(step, steps,
0.0, capacity)`. The weight belongs to training alone: what is reported is always the unweighted
rate, distortion and their sum.
"""

import jax
import jax.numpy as jnp


def linear_warmup(
    step: int | jax.Array, steps: int, start: float = 0.0, end: float = 1.0
) -> jax.Array:
    """`start` at step 0, `end` from step `steps` on, a straight line between.

    Args:
        step: scalar, may be traced.
        steps: length of the line; 0 gives `end` from the first step.
    Returns:
        float32 scalar.
    Raises:
        ValueError: `steps` is negative.
    Source: Sønderby et al. 2016, arXiv:1602.02282.
    """
    if steps < 0:
        raise ValueError(f"linear_warmup: steps must not be negative, is {steps}")
    done = jnp.clip(jnp.float32(step) / steps, 0.0, 1.0) if steps else jnp.float32(1.0)
    # Not start + (end - start) * done, which can miss `end` by a rounding.
    return start * (1.0 - done) + end * done
