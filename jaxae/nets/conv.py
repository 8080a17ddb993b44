"""Convolutional encoder and decoder for images of any size from 8x8 up.

x [B,H,W,C] -> vector [B,out] -> [B,H,W,channels]. The encoder halves the sides (rounding up) with
4x4 convolutions of stride 2 until the smaller one is at most 7, and doubles the width each time
after the first; residual blocks and a dense layer follow. The decoder is its mirror: it passes
through the same sizes, and where a side was odd it cuts off the last row or column.
"""

from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxae.nets.mlp import activation, bias_init


def pyramid(image_shape: Sequence[int]) -> list[tuple[int, int]]:
    """The (height, width) pairs from the image down to where the dense layer sits.

    Sides are halved, rounding up, until the smaller is at most 7 (28 -> 14 -> 7, 32 -> 16 -> 8
    -> 4), so it ends in 4..7.

    Raises:
        ValueError: a side under 8.
    """
    height, width = image_shape[:2]
    if min(height, width) < 8:
        raise ValueError(
            f"image shape {tuple(image_shape)} is too small for convolutions: both sides must be "
            "at least 8; use dense networks or larger images"
        )
    sizes = [(height, width)]
    while min(sizes[-1]) > 7:
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    return sizes


class Residual(nn.Module):
    """x + conv1x1(act(conv3x3(act(x)))), as wide as its input."""

    activation: str = "relu"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        act = activation(self.activation)
        h = nn.Conv(x.shape[-1], (3, 3))(act(x))
        return x + nn.Dense(x.shape[-1])(act(h))


class ConvEncoder(nn.Module):
    """Images to vectors: `[B, H, W, C] -> [B, out]`, H and W at least 8."""

    width: int
    """channels after the first convolution"""
    out: int
    blocks: int = 2
    """residual blocks at the smallest size"""
    activation: str = "relu"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        act = activation(self.activation)
        for level in range(len(pyramid(x.shape[1:])) - 1):
            x = nn.Conv(self.width * 2**level, (4, 4), strides=(2, 2))(x if level == 0 else act(x))
        for _ in range(self.blocks):
            x = Residual(self.activation)(x)
        return nn.Dense(self.out)(act(x).reshape(x.shape[0], -1))


class ConvDecoder(nn.Module):
    """Vectors to images: `[B, Z] -> [B, H, W, channels]`, the mirror of `ConvEncoder`."""

    image_shape: tuple[int, int, int]
    channels: int
    """outputs per pixel, as the likelihood needs"""
    width: int
    """channels before the last up-sampling"""
    blocks: int = 2
    activation: str = "relu"
    out_bias: Any = None
    """start of the output bias, `[channels]`; None: zeros"""

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        act = activation(self.activation)
        *sizes, (height, width) = pyramid(self.image_shape)
        features = self.width * 2 ** (len(sizes) - 1)
        x = nn.Dense(height * width * features)(z).reshape(-1, height, width, features)
        for _ in range(self.blocks):
            x = Residual(self.activation)(x)
        for level, (height, width) in reversed(list(enumerate(sizes))):
            if level:
                x = Upsample(self.width * 2 ** (level - 1))(act(x))
            else:
                x = Upsample(self.channels, out_bias=self.out_bias)(act(x))
            x = x[:, :height, :width]
        return x


class Upsample(nn.Module):
    """A 4x4 transposed convolution of stride 2: `[B, H, W, C] -> [B, 2H, 2W, features]`.

    Two forms with the same parameters, values and gradients. `lax` is the compiler's own, whose
    gradient XLA computes some 7 to 50 times too slowly on a CPU. `phases` is one matrix product,
    to the 4x4 values that every input pixel sends out, and the sum of what overlaps.
    """

    features: int
    form: Literal["auto", "phases", "lax"] = "auto"
    """auto: phases where the default backend is the CPU"""
    out_bias: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (4, 4, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", bias_init(self.out_bias), (self.features,))
        form = self.form
        if form == "auto":
            form = "phases" if jax.default_backend() == "cpu" else "lax"
        transposed = {"phases": _upsample_by_phases, "lax": _upsample_by_lax}[form]
        return transposed(x, kernel) + bias[None, None, None]


def _upsample_by_lax(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_transpose(
        x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _upsample_by_phases(x: jax.Array, kernel: jax.Array) -> jax.Array:
    batch, height, width, _ = x.shape
    features = kernel.shape[-1]
    # Pixel i sends tap a to row 2i + 2 - a: taps 2 and 1 stay in its own pair of rows, tap 0 goes
    # to the even row of the next pair, tap 3 to the odd row of the one before. Columns likewise.
    sent = jnp.einsum("bhwc,yxcf->bhwyxf", x, kernel)

    def overlap(taps: jax.Array, axis: int) -> jax.Array:
        first, second, third, fourth = (
            jax.lax.index_in_dim(taps, a, 3, keepdims=False) for a in range(4)
        )
        pad = [(0, 0)] * first.ndim
        pad[axis] = (1, 0)
        even = third + jax.lax.slice_in_dim(jnp.pad(first, pad), 0, taps.shape[axis], axis=axis)
        pad[axis] = (0, 1)
        odd = second + jax.lax.slice_in_dim(jnp.pad(fourth, pad), 1, None, axis=axis)
        return jnp.stack([even, odd], axis=-2)

    rows = overlap(sent, 1)  # [B, h, w, 4 taps of the column, 2 rows, f]
    both = overlap(rows, 2)  # [B, h, w, 2 rows, 2 columns, f]
    both = jnp.moveaxis(both, 3, 2)  # [B, h, 2, w, 2, f]
    return both.reshape(batch, 2 * height, 2 * width, features)
