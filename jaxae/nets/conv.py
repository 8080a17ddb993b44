"""Convolutional encoder and decoder for images of any size from 8x8 up.

x [B,H,W,C] -> vector [B,out] -> [B,H,W,channels]. The encoder halves the sides (rounding up) with
4x4 convolutions of stride 2 until the smaller one is at most 7, and doubles the width each time
after the first; residual blocks and a dense layer follow. The decoder mirrors it: it has the same
sizes in reverse, and crops the last row or column where a side was odd.
"""

from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from jaxae.nets.mlp import Norm, activation, bias_init, linear, normalise


def pyramid(image_shape: Sequence[int]) -> list[tuple[int, int]]:
    """The (height, width) pairs from the image down to the input of the dense layer.

    Sides are halved, rounding up, until the smaller is at most 7 (28 -> 14 -> 7, 32 -> 16 -> 8
    -> 4), so that it ends in 4..7.

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
    width: int = 0
    """channels between the two convolutions; 0: as the input"""
    norm: Norm = "none"
    """spectral: of both convolutions; other values have no effect here"""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        act = activation(self.activation)
        h = linear(nn.Conv(self.width or x.shape[-1], (3, 3)), self.norm, train)(act(x))
        return x + linear(nn.Dense(x.shape[-1]), self.norm, train)(act(h))


class ConvEncoder(nn.Module):
    """Images to vectors: `[B, H, W, C] -> [B, out]`, H and W at least 8."""

    width: int
    """channels after the first convolution"""
    out: int
    blocks: int = 2
    """residual blocks at the smallest size"""
    activation: str = "relu"
    norm: Norm = "none"
    """of the outputs of each convolution of stride 2 but the first; spectral: of all weights"""

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        act = activation(self.activation)
        for level in range(len(pyramid(x.shape[1:])) - 1):
            conv = nn.Conv(self.width * 2**level, (4, 4), strides=(2, 2))
            x = linear(conv, self.norm, train)(x if level == 0 else act(x))
            if level:
                x = normalise(x, self.norm, train, axis_name)
        for _ in range(self.blocks):
            x = Residual(self.activation, norm=self.norm)(x, train)
        return linear(nn.Dense(self.out), self.norm, train)(act(x).reshape(x.shape[0], -1))


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
    """initial value of the output bias, `[channels]`; None: zeros"""
    norm: Literal["none", "batch", "layer"] = "none"
    """of the outputs of the dense layer and of each up-sampling but the last"""

    @nn.compact
    def __call__(
        self, z: jax.Array, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        act = activation(self.activation)
        norm = lambda x: normalise(x, self.norm, train, axis_name)
        *sizes, (height, width) = pyramid(self.image_shape)
        features = self.width * 2 ** (len(sizes) - 1)
        x = norm(nn.Dense(height * width * features)(z).reshape(-1, height, width, features))
        for _ in range(self.blocks):
            x = Residual(self.activation)(x)
        for level, (height, width) in reversed(list(enumerate(sizes))):
            if level:
                x = norm(Upsample(self.width * 2 ** (level - 1))(act(x)))
            else:
                x = Upsample(self.channels, out_bias=self.out_bias)(act(x))
            x = x[:, :height, :width]
        return x


def upsample_nearest(x: jax.Array) -> jax.Array:
    """Nearest-neighbour up-sampling, `[B,H,W,C] -> [B,2H,2W,C]`: each pixel becomes four."""
    b, h, w, c = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c))
    return x.reshape(b, 2 * h, 2 * w, c)


def downsample_mean(x: jax.Array) -> jax.Array:
    """Average pooling, `[B,2H,2W,C] -> [B,H,W,C]`: the mean of each square of four pixels."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))


class Upsample(nn.Module):
    """A 4x4 transposed convolution of stride 2: `[B, H, W, C] -> [B, 2H, 2W, features]`.

    Two forms with the same parameters, values and gradients. `lax` is XLA's transposed
    convolution, whose gradient is several times slower on a CPU than it need be. `phases` is one
    matrix product, from each 2x2 square of inputs to the 2x2 outputs between them.
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
        upsample = {"phases": _upsample_by_phases, "lax": _upsample_by_lax}[form]
        return upsample(x, kernel) + bias[None, None, None]


def _upsample_by_lax(x: jax.Array, kernel: jax.Array) -> jax.Array:
    x, kernel = promote_dtype(x, kernel)  # `lax` requires equal dtypes
    return jax.lax.conv_transpose(
        x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _upsample_by_phases(x: jax.Array, kernel: jax.Array) -> jax.Array:
    batch, height, width, channels = x.shape
    features = kernel.shape[-1]
    # Output rows 2m+1 and 2m+2 read input rows m and m+1: the first with taps 1 and 3, the second
    # with taps 0 and 2. With the columns, each 2x2 square of inputs gives a 2x2 square of outputs.
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    squares = jnp.concatenate(
        [x[:, i : i + height + 1, j : j + width + 1] for i in (0, 1) for j in (0, 1)], axis=-1
    )
    taps = kernel.reshape(2, 2, 2, 2, channels, features)[:, ::-1, :, ::-1]
    taps = taps.transpose(0, 2, 4, 1, 3, 5).reshape(4 * channels, 4 * features)
    out = (squares @ taps).reshape(batch, height + 1, width + 1, 2, 2, features)
    out = out.transpose(0, 1, 3, 2, 4, 5)
    out = out.reshape(batch, 2 * height + 2, 2 * width + 2, features)
    return out[:, 1:-1, 1:-1]
