"""Five distributions over images given a decoder's outputs, with one interface."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxae.losses import _check, reconstruction

NAMES = ("bernoulli", "gaussian", "gaussian_learned", "logistic_mixture", "categorical")
MIN_LOG_SCALE = -6.0
"""Floor of a learned Gaussian's log-scale; the density of constant pixels is unbounded without."""


class Likelihood(NamedTuple):
    """A family of distributions over pixels, as functions of a decoder's outputs.

    All take outputs `[..., H, W, channels]`, or `[..., channels]` for one pixel.
    """

    channels: int
    """outputs per pixel that the decoder must give"""
    nll: Callable[..., jax.Array]
    """outputs, x `[..., H, W, C]`, event_ndim=3 -> `[...]` nats, summed over the last axes of x"""
    mean: Callable[[jax.Array], jax.Array]
    """outputs -> x `[..., H, W, C]`, float32 at least"""
    sample: Callable[[jax.Array, jax.Array], jax.Array]
    """outputs, rng -> x `[..., H, W, C]`, float32 at least"""


def likelihood(
    name: str,
    image_shape: tuple[int, ...],
    *,
    levels: int = 256,
    scale: float = 1.0,
    mixtures: int = 5,
) -> Likelihood:
    """The likelihood called `name`, for images of `image_shape`.

    Args:
        name: `bernoulli` (logits), `gaussian` (means; one fixed scale), `gaussian_learned` (means,
            then log-scales, floored at `MIN_LOG_SCALE`), `logistic_mixture` (a distribution over
            a grid of values in [0, 1], see `logistic_mixture_nll`) or `categorical` (a softmax
            over that grid, independently for each colour channel).
        image_shape: `(H, W, C)`; only C is read.
        levels: values a pixel can take, for `logistic_mixture` and `categorical`.
        scale: standard deviation, for `gaussian`.
        mixtures: components, for `logistic_mixture`.
    Raises:
        TypeError: `levels` or `mixtures` is not an integer.
        ValueError: unknown name, or a setting that this likelihood cannot take.
    """
    if not image_shape:
        raise ValueError("likelihood: image_shape must be (H, W, C), is ()")
    channels = _check.integer("likelihood", "the number of channels", image_shape[-1], 1)
    if name == "bernoulli":
        return _bernoulli(channels)
    if name == "gaussian":
        if not 0 < scale < math.inf:
            raise ValueError(
                f"likelihood: scale must be above 0 and finite for gaussian, is {scale}"
            )
        return _gaussian(channels, scale)
    if name == "gaussian_learned":
        return _gaussian_learned(channels)
    if name in ("logistic_mixture", "categorical"):
        if _check.integer("likelihood", "levels", levels, 0) < 2:
            raise ValueError(
                f"likelihood: {name} needs data on a grid of at least 2 values, but this "
                f"data has levels={levels}; use gaussian, or data that is not dequantised or "
                "standardised"
            )
        if name == "categorical":
            return _categorical(channels, levels)
        mixtures = _check.integer("likelihood", "mixtures", mixtures, 1)
        return _logistic_mixture(channels, levels, mixtures)
    raise ValueError(f"likelihood: name {name!r} is not one of {', '.join(NAMES)}")


def _bundle(
    channels: int,
    nll: Callable[..., jax.Array],
    mean: Callable[[jax.Array], jax.Array],
    sample: Callable[[jax.Array, jax.Array], jax.Array],
) -> Likelihood:
    """The three functions, with a check of their outputs (float, `channels` per pixel)."""

    def checked(outputs):
        (outputs,) = _check.floats("likelihood", outputs=outputs)
        _check.axes("likelihood", 1, outputs=outputs)
        _check.shape("likelihood", "outputs", outputs, (*outputs.shape[:-1], channels))
        return outputs

    return Likelihood(
        channels,
        lambda outputs, x, event_ndim=3: nll(checked(outputs), x, event_ndim),
        lambda outputs: mean(checked(outputs)),
        lambda outputs, rng: sample(checked(outputs), rng),
    )


def _bernoulli(channels: int) -> Likelihood:
    def sample(outputs, rng):
        return jax.random.bernoulli(rng, jax.nn.sigmoid(outputs)).astype(outputs.dtype)

    return _bundle(channels, reconstruction.bernoulli_nll, jax.nn.sigmoid, sample)


def _gaussian(channels: int, scale: float) -> Likelihood:
    def nll(outputs, x, event_ndim):
        return reconstruction.gaussian_nll(x, outputs, math.log(scale), event_ndim)

    def sample(outputs, rng):
        return outputs + scale * jax.random.normal(rng, outputs.shape, outputs.dtype)

    return _bundle(channels, nll, lambda outputs: outputs, sample)


def _gaussian_learned(channels: int) -> Likelihood:
    def split(outputs):
        mean, log_scale = outputs[..., :channels], outputs[..., channels:]
        return mean, jnp.maximum(log_scale, MIN_LOG_SCALE)

    def nll(outputs, x, event_ndim):
        return reconstruction.gaussian_nll(x, *split(outputs), event_ndim)

    def sample(outputs, rng):
        mean, log_scale = split(outputs)
        return mean + jnp.exp(log_scale) * jax.random.normal(rng, mean.shape, mean.dtype)

    return _bundle(2 * channels, nll, lambda outputs: split(outputs)[0], sample)


def _logistic_mixture(channels: int, levels: int, mixtures: int) -> Likelihood:
    def nll(outputs, x, event_ndim):
        return reconstruction.logistic_mixture_nll(outputs, x, levels, event_ndim)

    def mean(outputs):
        return reconstruction.logistic_mixture_mean(outputs, channels)

    def sample(outputs, rng):
        return reconstruction.logistic_mixture_sample(outputs, rng, channels, levels)

    width = reconstruction.logistic_mixture_width(channels, mixtures)
    return _bundle(width, nll, mean, sample)


def _categorical(channels: int, levels: int) -> Likelihood:
    split = lambda outputs: outputs.reshape(*outputs.shape[:-1], channels, levels)

    def nll(outputs, x, event_ndim):
        return reconstruction.categorical_nll(split(outputs), x, event_ndim)

    def mean(outputs):
        values = jnp.arange(levels, dtype=outputs.dtype) / (levels - 1)
        return jax.nn.softmax(split(outputs)) @ values

    def sample(outputs, rng):
        index = jax.random.categorical(rng, split(outputs))
        return index.astype(outputs.dtype) / (levels - 1)

    return _bundle(channels * levels, nll, mean, sample)
