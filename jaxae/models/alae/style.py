"""StyleALAE: a generator with a style input at every resolution, and an encoder that mirrors it.

Pidhorskyi, Adjeroh & Doretto 2020, arXiv:2004.04467, with the generator of Karras, Laine & Aila
2019, arXiv:1812.04948 (StyleGAN); podgorskiy/ALAE: net.py.

The levels are the sides 4, 8, ..., S of a square image. G starts from a learned constant of 4x4. At
each level it has two convolutions (one at the first level), each followed by noise, a bias, a leaky
ReLU and adaptive instance normalisation, whose scale and shift are a linear map of w (a style). So
there are two styles for each level. E is the mirror image: at each level it computes mean and
standard deviation of its channels twice, and

    w = sum over all levels and both times i of C_i [mean_i; deviation_i]

Deviations: the networks are trained at their final size from the first step, not grown level by
level. (Growing saves time at 256 pixels and more, and nothing at 32; without it one compiled step,
one batch size and one optimiser state serve a whole run. The levels are those of the grown network
at the end of its schedule.) Sides above 64 are doubled and halved in two operations, as below 64
(nearest neighbours and a convolution; a convolution and averages), where the official code fuses
the two. E has one leaky ReLU after its first 1x1 convolution, where the official code has two. E
keeps 4x4 at its last level, the mirror image of G's first level.
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

FIRST_SIDE = 4  # of the first level


def num_levels(image_shape: tuple[int, int, int]) -> int:
    """The number of levels of an image: 2 for 8x8, 4 for 32x32, 9 for 1024x1024.

    Raises:
        ValueError: the image is not square, or its side is not a power of two, at least 8.
    """
    height, width, _ = image_shape
    count = max(height.bit_length() - 2, 0)
    if height != width or count < 2 or FIRST_SIDE << (count - 1) != height:
        raise ValueError(
            f"network=style needs square images whose side is a power of two, at least 8, not "
            f"{height}x{width}; for MNIST take --data mnist32, for folder: set image_size"
        )
    return count


def noise_shapes(image_shape: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """Shapes `(side, side, 1)` of the noise inputs of G for one image, two for each level."""
    sides = [FIRST_SIDE << level for level in range(num_levels(image_shape))]
    return [(side, side, 1) for side in sides for _ in range(2)]


def level_channels(image_shape: tuple[int, int, int], width: int, most: int) -> list[int]:
    """Channels of each level, from 4x4 up: `width` at the full side, doubled at each halving."""
    count = num_levels(image_shape)
    return [min(most, width << (count - 1 - level)) for level in range(count)]


def adaptive_instance_norm(x: jax.Array, style: jax.Array, floor: float) -> jax.Array:
    """Each channel of each image normalised to mean 0 and deviation 1, then (1 + s) x + b.

    Args:
        x: `[B,H,W,C]`.
        style: `[B, 2C]`, the concatenation of s and b.
        floor: added to the variance.
    """
    mean, deviation = channel_statistics(x, floor)
    scale, shift = jnp.split(style[:, None, None], 2, axis=-1)
    return (x - mean) / deviation * (1 + scale) + shift


class StyleGenerator(nn.Module):
    """G: styles `[B, 2 * levels, Z]` and noise -> image `[B,H,W,C]`, before any activation."""

    image_shape: tuple[int, int, int]
    width: int
    most: int
    last_gain: float
    """gain of the last layer"""
    out_bias: Any = None
    """initial bias of the last layer, `[C]`; None: zeros"""
    floor: float = 1e-8

    @nn.compact
    def __call__(self, styles: jax.Array, *noise: jax.Array) -> jax.Array:
        """`noise`: `[B, *shape]` for each of `noise_shapes`."""
        widths = level_channels(self.image_shape, self.width, self.most)
        shape = (1, FIRST_SIDE, FIRST_SIDE, widths[0])
        x = self.param("start", nn.initializers.ones, shape)
        x = jnp.broadcast_to(x, (styles.shape[0], *shape[1:]))
        for level, features in enumerate(widths):
            first, second = 2 * level, 2 * level + 1
            if level:
                x = blur(EqualConv(features, bias=False)(upsample_nearest(x)))
            x = self._modulate(x, noise[first], styles[:, first], first)
            x = EqualConv(features, bias=False)(x)
            x = self._modulate(x, noise[second], styles[:, second], second)
        channels = self.image_shape[2]
        return EqualConv(channels, size=1, gain=self.last_gain, out_bias=self.out_bias)(x)

    def _modulate(self, x: jax.Array, noise: jax.Array, w: jax.Array, number: int) -> jax.Array:
        """Noise, a bias, a leaky ReLU, and the style w."""
        features = x.shape[-1]
        strength, bias = (
            self.param(f"{name}_{number}", nn.initializers.zeros, (features,))[None, None, None]
            for name in ("noise", "bias")
        )
        x = nn.leaky_relu(x + noise * strength + bias, SLOPE)
        return adaptive_instance_norm(x, EqualDense(2 * features, gain=1.0)(w), self.floor)


class StyleEncoder(nn.Module):
    """E: image `[B,H,W,C]` -> latent w `[B, out]`."""

    image_shape: tuple[int, int, int]
    width: int
    most: int
    out: int
    floor: float = 1e-8

    @nn.compact
    def __call__(self, x: jax.Array, hidden: bool = False) -> jax.Array:
        """With `hidden` all means and deviations `[B, F]`, as features for probes."""
        widths = level_channels(self.image_shape, self.width, self.most)[::-1]
        x = nn.leaky_relu(EqualConv(widths[0], size=1)(x), SLOPE)
        statistics = []
        for level, features in enumerate(widths):
            last = level + 1 == len(widths)
            x = nn.leaky_relu(EqualConv(features)(x), SLOPE)
            x = self._normalise(x, statistics)
            x = EqualConv(features if last else widths[level + 1])(blur(x))
            x = nn.leaky_relu(x if last else downsample_mean(x), SLOPE)
            x = self._normalise(x, statistics)
        if hidden:
            return jnp.concatenate(statistics, axis=-1)
        return sum(EqualDense(self.out, gain=1.0)(pair) for pair in statistics)

    def _normalise(self, x: jax.Array, statistics: list[jax.Array]) -> jax.Array:
        """x normalised per image and channel; mean and deviation are appended to `statistics`."""
        mean, deviation = channel_statistics(x, self.floor)
        statistics.append(jnp.concatenate([mean, deviation], axis=-1)[:, 0, 0])
        return (x - mean) / deviation
