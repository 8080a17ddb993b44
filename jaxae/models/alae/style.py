"""StyleALAE: a generator that a latent steers at every level, and an encoder that reads it there.

Pidhorskyi, Adjeroh & Doretto 2020, arXiv:2004.04467, on the generator of Karras, Laine & Aila 2019,
arXiv:1812.04948 (StyleGAN); podgorskiy/ALAE: net.py.

Levels are the sides 4, 8, ..., S of a square image. G starts at a learnt 4x4 picture; at each level
two convolutions (at the first, one) are followed by noise, a rectifier, and a renormalisation of
each channel to a deviation and a mean that w decides: the styles, two for each level. E is its
mirror: at each level it reads mean and deviation of its channels twice, and

    w = sum over all readings i of C_i [mean; deviation]

The networks are trained at their final size from the first step, and not grown level by level.
Growing is a schedule of the optimisation that saves time at 256 pixels and more; at 32 it has
nothing to save, and without it one compiled step, one batch size and one optimiser state serve a
whole run. The levels are those of the grown network at the end of its schedule.

Departures: sides above 64 are doubled and halved in two steps (nearest neighbours and a
convolution, a convolution and means) like the others, where the code fuses them; one rectifier
after the first 1x1 convolution of E, where the code has two; E keeps 4x4 at its last level, the
mirror of G's first.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxae.models.alae.networks import SLOPE
from jaxae.nets.conv import downsample_mean, upsample_nearest
from jaxae.nets.equalised import (
    EqualConv,
    EqualDense,
    blur,
    channel_statistics,
)

FIRST = 4  # side of the first level


def levels(image_shape: tuple[int, int, int]) -> int:
    """How many levels an image has: 2 for 8x8, 4 for 32x32, 9 for 1024x1024.

    Raises:
        ValueError: not square, or the side is no power of two from 8 up.
    """
    height, width, _ = image_shape
    count = max(height.bit_length() - 2, 0)
    if height != width or count < 2 or FIRST << (count - 1) != height:
        raise ValueError(
            f"network=style needs square images whose side is a power of two, at least 8, not "
            f"{height}x{width}; for MNIST take --data mnist32, for folder: set image_size"
        )
    return count


def noise_shapes(image_shape: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """Shapes `(side, side, 1)` of the noise that G takes for one image, two for each level."""
    sides = [FIRST << level for level in range(levels(image_shape))]
    return [(side, side, 1) for side in sides for _ in range(2)]


def channels(image_shape: tuple[int, int, int], width: int, most: int) -> list[int]:
    """Channels by level, from 4x4 up: `width` at the full side, doubled at each halving."""
    count = levels(image_shape)
    return [min(most, width << (count - 1 - level)) for level in range(count)]


def stylise(x: jax.Array, style: jax.Array, floor: float) -> jax.Array:
    """Adaptive instance normalisation: x normalised per image and channel, then (1 + s) x + b.

    Args:
        x: `[B,H,W,C]`.
        style: `[B, 2C]`, s and b side by side.
        floor: added to the variance.
    """
    mean, deviation = channel_statistics(x, floor)
    scale, shift = jnp.split(style[:, None, None], 2, axis=-1)
    return (x - mean) / deviation * (1 + scale) + shift


class StyleGenerator(nn.Module):
    """G: styles `[B, 2 * levels, Z]` and noise -> image `[B,H,W,C]`, before any squashing."""

    image_shape: tuple[int, int, int]
    width: int
    most: int
    last_gain: float
    """gain of the last layer"""
    out_bias: Any = None
    """start of the last layer's bias, `[C]`; None: zeros"""
    floor: float = 1e-8

    @nn.compact
    def __call__(self, styles: jax.Array, *noise: jax.Array) -> jax.Array:
        """`noise`: `[B, *shape]` for each of `noise_shapes`."""
        wide = channels(self.image_shape, self.width, self.most)
        shape = (1, FIRST, FIRST, wide[0])
        x = self.param("start", nn.initializers.ones, shape)
        x = jnp.broadcast_to(x, (styles.shape[0], *shape[1:]))
        for level, features in enumerate(wide):
            first, second = 2 * level, 2 * level + 1
            if level:
                x = blur(EqualConv(features, bias=False)(upsample_nearest(x)))
            x = self._painted(x, noise[first], styles[:, first], first)
            x = EqualConv(features, bias=False)(x)
            x = self._painted(x, noise[second], styles[:, second], second)
        colours = self.image_shape[2]
        return EqualConv(colours, size=1, gain=self.last_gain, out_bias=self.out_bias)(x)

    def _painted(self, x: jax.Array, noise: jax.Array, w: jax.Array, number: int) -> jax.Array:
        """Noise, a bias, a rectifier, and the style."""
        features = x.shape[-1]
        strength, bias = (
            self.param(f"{name}_{number}", nn.initializers.zeros, (features,))[None, None, None]
            for name in ("noise", "bias")
        )
        x = nn.leaky_relu(x + noise * strength + bias, SLOPE)
        return stylise(x, EqualDense(2 * features, gain=1.0)(w), self.floor)


class StyleEncoder(nn.Module):
    """E: image `[B,H,W,C]` -> latent w `[B, out]`."""

    image_shape: tuple[int, int, int]
    width: int
    most: int
    out: int
    floor: float = 1e-8

    @nn.compact
    def __call__(self, x: jax.Array, hidden: bool = False) -> jax.Array:
        """With `hidden` all means and deviations that it reads, `[B, F]`."""
        wide = channels(self.image_shape, self.width, self.most)[::-1]
        x = nn.leaky_relu(EqualConv(wide[0], size=1)(x), SLOPE)
        readings = []
        for level, features in enumerate(wide):
            last = level + 1 == len(wide)
            x = nn.leaky_relu(EqualConv(features)(x), SLOPE)
            x = self._read(x, readings)
            x = EqualConv(features if last else wide[level + 1])(blur(x))
            x = nn.leaky_relu(x if last else downsample_mean(x), SLOPE)
            x = self._read(x, readings)
        if hidden:
            return jnp.concatenate(readings, axis=-1)
        return sum(EqualDense(self.out, gain=1.0)(reading) for reading in readings)

    def _read(self, x: jax.Array, readings: list[jax.Array]) -> jax.Array:
        """Notes mean and deviation of the channels, and takes them out of x."""
        mean, deviation = channel_statistics(x, self.floor)
        readings.append(jnp.concatenate([mean, deviation], axis=-1)[:, 0, 0])
        return (x - mean) / deviation
