"""Gaussian posteriors, and the initial value of a decoder's output bias."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.training.state import Spec

LOG_VAR_BOUND = 10.0
DENSE_FLOOR = 0.05  # `floor` of `output_start` for dense decoders


def mean_and_log_var(out: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Splits an encoder's output `[..., 2Z]` into mean and log-variance, `[..., Z]` each.

    The log-variance is bounded smoothly to (-LOG_VAR_BOUND, LOG_VAR_BOUND).
    """
    mean, raw_log_var = jnp.split(out, 2, axis=-1)
    return mean, LOG_VAR_BOUND * jnp.tanh(raw_log_var / LOG_VAR_BOUND)


def reparameterise(mean: jax.Array, log_var: jax.Array, noise: jax.Array) -> jax.Array:
    """A sample of N(mean, exp(log_var)) from noise of N(0, I): mean + exp(log_var / 2) noise."""
    return mean + jnp.exp(0.5 * log_var) * noise


def output_start(likelihood: str, spec: Spec, channels: int, floor: float = 0.001) -> np.ndarray:
    """Initial output bias of a decoder, `[H,W,channels]`: it decodes to the mean training image.

    The logits of a Bernoulli start at the logit of the mean, clipped to [floor, 1 - floor]; the
    means of a Gaussian start at the mean; the parameters of a logistic mixture start at zero.

    A floor of 0.001 is that of yburda/iwae. It is too low for a dense VAE: where pixels are black
    from the start, a code can only increase the loss, so training first switches the code off. On
    MNIST with 64 dimensions the rate is zero after 50 steps and stays zero. With a floor of 0.05
    this does not happen.
    """
    mean = np.asarray(spec.mean, np.float32)
    if likelihood == "bernoulli":
        mean = np.clip(mean, floor, 1 - floor)
        return np.log(mean) - np.log1p(-mean)
    if likelihood == "logistic_mixture":
        return np.zeros((*spec.image_shape[:2], channels), np.float32)
    return mean
