"""Gaussian posteriors, and where a decoder begins."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.training.state import Spec

LOG_VAR_BOUND = 10.0
DENSE_FLOOR = 0.05  # of the mean image at which dense decoders begin


def mean_and_log_var(out: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What an encoder gives, `[..., 2Z]`, as mean and log-variance `[..., Z]`, the latter bounded
    to +-LOG_VAR_BOUND."""
    mean, raw = jnp.split(out, 2, axis=-1)
    return mean, LOG_VAR_BOUND * jnp.tanh(raw / LOG_VAR_BOUND)


def gaussian_draw(mean: jax.Array, log_var: jax.Array, noise: jax.Array) -> jax.Array:
    """mean + exp(log_var / 2) noise, for noise from N(0, I)."""
    return mean + jnp.exp(0.5 * log_var) * noise


def output_start(likelihood: str, spec: Spec, channels: int, floor: float = 0.001) -> np.ndarray:
    """Where a decoder's output bias begins, `[H,W,channels]`: at the mean training image.

    A Bernoulli's logits begin at the logit of the mean clipped to [floor, 1 - floor], a Gaussian's
    means at the mean, a logistic mixture's parameters at zero. 0.001 is yburda/iwae's floor. A
    dense VAE that begins there, however, learns first of all to silence its units, since at the
    many pixels that are black already a code can only do harm: on MNIST with 64 dimensions the
    rate is zero after fifty steps and stays there. From 0.05 on it does not.
    """
    mean = np.asarray(spec.mean, np.float32)
    if likelihood == "bernoulli":
        mean = np.clip(mean, floor, 1 - floor)
        return np.log(mean) - np.log1p(-mean)
    if likelihood == "logistic_mixture":
        return np.zeros((*spec.image_shape[:2], channels), np.float32)
    return mean
