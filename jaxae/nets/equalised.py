"""Layers with an equalised learning rate, and fixed operations of style networks.

Weights start at N(0, 1 / rate^2) and are scaled at run time by rate * gain / sqrt(fan in), where
rate is a multiplier of the layer's learning rate, 1 by default. With an optimiser whose steps do
not depend on the scale of a gradient (Adam), the relative change of the weights per step is then
the same for layers of any width. Karras, Aila, Laine & Lehtinen 2018, arXiv:1710.10196; the rate
multiplier of Karras, Laine & Aila 2019, arXiv:1812.04948.

An implicit form has the same dynamics (podgorskiy/ALAE: lreq.py): weights start at
N(0, (gain / sqrt(fan in))^2) and are not scaled; Adam's steps are multiplied by
rate * gain / sqrt(fan in), those of biases by rate.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from jaxae.nets.mlp import bias_init

ROOT_TWO = math.sqrt(2.0)


class EqualDense(nn.Module):
    """A linear layer with an equalised learning rate: `[..., in] -> [..., features]`."""

    features: int
    gain: float = ROOT_TWO
    """standard deviation of an output at the start, for inputs of mean square 1"""
    rate: float = 1.0
    """multiplies the layer's learning rate; the initial output does not depend on it"""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = _kernel(self, (x.shape[-1], self.features), self.gain, self.rate)
        bias = self.rate * self.param("bias", nn.initializers.zeros, (self.features,))
        return x @ kernel + bias.reshape(*[1] * (x.ndim - 1), -1)


class EqualConv(nn.Module):
    """A convolution with an equalised learning rate: `[B,H,W,C] -> [B,H,W,features]`."""

    features: int
    size: int = 3
    """side of the kernel, odd; zero padding keeps the image's size"""
    gain: float = ROOT_TWO
    rate: float = 1.0
    bias: bool = True
    out_bias: Any = None
    """initial value of the bias, `[features]`; None: zeros"""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.size, self.size, x.shape[-1], self.features)
        x, kernel = promote_dtype(x, _kernel(self, shape, self.gain, self.rate))
        numbers = ("NHWC", "HWIO", "NHWC")
        out = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)
        if not self.bias:
            return out
        bias = self.rate * self.param("bias", bias_init(self.out_bias), (self.features,))
        return out + bias[None, None, None]


def _kernel(layer: nn.Module, shape: tuple[int, ...], gain: float, rate: float) -> jax.Array:
    """The scaled kernel."""
    stored = layer.param("kernel", nn.initializers.normal(1 / rate), shape)
    return stored * (rate * gain / math.sqrt(math.prod(shape[:-1])))


def pixel_norm(x: jax.Array, floor: float = 1e-8) -> jax.Array:
    """x / sqrt(mean of squares + floor) over the last axis: vectors with mean square 1."""
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + floor)


def channel_statistics(x: jax.Array, floor: float = 1e-8) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation of each channel of one image: `[B,H,W,C] -> two [B,1,1,C]`.

    Args:
        floor: added to the (biased) variance before the square root.
    """
    mean = jnp.mean(x, axis=(1, 2), keepdims=True)
    variance = jnp.mean(jnp.square(x - mean), axis=(1, 2), keepdims=True)
    return mean, jnp.sqrt(variance + floor)


def blur(x: jax.Array) -> jax.Array:
    """Each channel of `[B,H,W,C]` smoothed by [1 2 1] / 4 along both axes, zero padding."""
    for axis in (1, 2):
        x = jnp.moveaxis(x, axis, 1)
        padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))
        x = (padded[:, :-2] + 2 * x + padded[:, 2:]) / 4
        x = jnp.moveaxis(x, 1, axis)
    return x
