"""NVAE's layers and cells: weight-normalised convolutions, residual cells, a step of a flow.

Vahdat & Kautz 2020, arXiv:2007.03898; facts from NVlabs/NVAE. All inputs are x [B,H,W,C]. A cell
adds a tenth of its result to its input. Each convolution stores the weights that it uses, after
normalisation and masks, in the collection `weights`, which the spectral penalty reads.
Kernels are initialised to zero here; `init_kernels` samples all of them at once, because one
random generator for each of a hundred kernels takes a CPU a minute to compile.
"""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype

from jaxae.nets.mlp import batch_norm, bias_init

RESIDUAL_SCALE = 0.1  # factor of a cell's result before it is added to the input


def init_kernels(rng: jax.Array, params: Any) -> Any:
    """The tree with every `kernel` [..., inputs, outputs] sampled from N(0, 1 / fan-in)."""
    leaves, shape = jax.tree_util.tree_flatten_with_path(params)
    sizes = [leaf.size if path[-1].key == "kernel" else 0 for path, leaf in leaves]
    noise = jnp.split(jax.random.normal(rng, (sum(sizes),)), np.cumsum(sizes)[:-1])
    values = [
        part.reshape(leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1])) if size else leaf
        for part, size, (_, leaf) in zip(noise, sizes, leaves, strict=True)
    ]
    return jax.tree_util.tree_unflatten(shape, values)


def _used_weights(conv: nn.Module, w: jax.Array) -> jax.Array:
    """The kernel [k, k, C, features] that `conv` uses, stored as a matrix [k k C, features]."""
    if conv.normalised:
        length = jnp.sqrt(jnp.sum(jnp.square(w), axis=(0, 1, 2)) + 1e-12)  # finite gradient at 0
        log_gain = conv.param("log_gain", nn.initializers.constant(np.log(conv.gain)), length.shape)
        w = (jnp.exp(log_gain) / (length + 1e-5))[None, None, None] * w
    conv.sow("weights", "matrix", w.reshape(-1, w.shape[-1]))
    return w


class Conv(nn.Module):
    """A convolution `[B,H,W,C] -> [B,H/stride,W/stride,features]`, padded as in torch.

    With `normalised` the weights of each output channel are exp(g) V / |V|.
    """

    features: int
    kernel: int = 3
    stride: int = 1
    normalised: bool = True
    mask: np.ndarray | None = None
    """zeros and ones of the kernel's shape [k, k, C, features]"""
    gain: float = 1.0
    """initial length of an output channel's weights, where they are normalised"""
    out_bias: Any = None
    """initial bias; None: zeros"""
    bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        k = self.kernel
        shape = (k, k, x.shape[-1], self.features)
        w = self.param("kernel", nn.initializers.zeros, shape)
        w = _used_weights(self, w if self.mask is None else w * self.mask)
        x, w = promote_dtype(x, w)  # `lax` convolves no float32 with a float64
        if k == 1:
            y = x[:, :: self.stride, :: self.stride] @ w[0, 0]
        else:
            pad = ((k // 2, k // 2),) * 2
            y = jax.lax.conv_general_dilated(
                x, w, (self.stride,) * 2, pad, dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        if not self.bias:
            return y
        return y + self.param("bias", bias_init(self.out_bias), (self.features,))[None, None, None]


class Depthwise(nn.Module):
    """A depthwise 5x5 convolution: `[B,H,W,C] -> [B,H,W,C]`.

    Two forms have the same parameters and values. `lax` is the compiler's grouped convolution,
    which XLA computes channel by channel on a CPU. `matrix` multiplies each channel's pixels by a
    matrix [HW, HW] of its filter; on a CPU this is several times as fast for small maps.
    """

    form: Literal["auto", "matrix", "lax"] = "auto"
    """auto: matrix where the default backend is the CPU and the map has at most 256 positions"""
    causal: bool = False
    """read only earlier positions in raster order and the position itself"""
    bias: bool = False
    normalised: bool = False
    gain: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        _, height, width, channels = x.shape
        w = self.param("kernel", nn.initializers.zeros, (5, 5, 1, channels))
        if self.causal:
            mask = np.ones((5, 5, 1, 1), np.float32)
            mask[3:] = mask[2, 3:] = 0
            w = w * mask
        x, w = promote_dtype(x, _used_weights(self, w))
        form = self.form
        if form == "auto":
            on_cpu = jax.default_backend() == "cpu"
            form = "matrix" if on_cpu and height * width <= 256 else "lax"
        if form == "lax":
            y = jax.lax.conv_general_dilated(
                x, w, (1, 1), ((2, 2),) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"),
                feature_group_count=channels,
            )  # fmt: skip
        else:
            taps = jnp.concatenate([w.reshape(25, channels), jnp.zeros((1, channels))])
            matrix = taps[_tap_index(height, width)]  # [from, to, C]
            y = jnp.einsum("bic,ioc->boc", x.reshape(-1, height * width, channels), matrix)
            y = y.reshape(x.shape)
        if not self.bias:
            return y
        return y + self.param("bias", nn.initializers.zeros, (channels,))[None, None, None]


def _tap_index(height: int, width: int) -> np.ndarray:
    """[HW, HW]: which of the 25 taps connects two positions; 25 where none does."""
    rows, columns = (
        np.arange(side)[:, None] - np.arange(side)[None] + 2 for side in (height, width)
    )
    rows, columns = rows[:, None, :, None], columns[None, :, None, :]
    connected = (rows >= 0) & (rows < 5) & (columns >= 0) & (columns < 5)
    return np.where(connected, 5 * rows + columns, 25).reshape(height * width, height * width)


class SqueezeExcite(nn.Module):
    """Channels scaled by a gate that depends on all channels' means: `[B,H,W,C] -> [B,H,W,C]`."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        dense = lambda n: nn.Dense(n, kernel_init=nn.initializers.zeros)
        h = nn.relu(dense(max(channels // 16, 4))(jnp.mean(x, axis=(1, 2))))
        return x * nn.sigmoid(dense(channels)(h))[:, None, None]


class EncoderCell(nn.Module):
    """Twice batch norm, swish, 3x3 convolution; `down` halves the sides and doubles the width."""

    momentum: float
    """decay of the moving averages of the batch statistics"""
    down: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, axis_name: str | None) -> jax.Array:
        features = x.shape[-1] * (2 if self.down else 1)
        norm = lambda h: nn.swish(batch_norm(train, axis_name, self.momentum)(h))
        h = Conv(features, stride=2 if self.down else 1)(norm(x))
        h = Conv(features)(norm(h))
        return (SkipDown()(x) if self.down else x) + RESIDUAL_SCALE * SqueezeExcite()(h)


class DecoderCell(nn.Module):
    """A wide depthwise convolution between two 1x1 ones; `up` doubles the sides and halves the
    width."""

    expansion: int
    momentum: float
    """decay of the moving averages of the batch statistics"""
    up: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, axis_name: str | None) -> jax.Array:
        features = x.shape[-1] // (2 if self.up else 1)
        norm = lambda h: batch_norm(train, axis_name, self.momentum)(h)
        conv_1x1 = lambda out: Conv(out, 1, normalised=False, bias=False)
        h = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2) if self.up else x
        h = conv_1x1(features * self.expansion)(norm(h))
        h = Depthwise()(nn.swish(norm(h)))
        h = norm(conv_1x1(features)(nn.swish(norm(h))))
        skip = Conv(features, 1)(double_bilinear(x)) if self.up else x
        return skip + RESIDUAL_SCALE * SqueezeExcite()(h)


class SkipDown(nn.Module):
    """Swish, then a 1x1 convolution of each of the four phases: `[B,H,W,C] -> [B,H/2,W/2,2C]`."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x, quarter = nn.swish(x), x.shape[-1] // 2
        sizes = (quarter, quarter, quarter, 2 * x.shape[-1] - 3 * quarter)
        phases = ((0, 0), (1, 1), (0, 1), (1, 0))
        return jnp.concatenate(
            [Conv(n, 1)(x[:, i::2, j::2]) for n, (i, j) in zip(sizes, phases, strict=True)],
            axis=-1,
        )


def double_bilinear(x: jax.Array) -> jax.Array:
    """Sides doubled by linear interpolation with aligned corners: `[B,H,W,C] -> [B,2H,2W,C]`.

    jax.image.resize aligns the edges of pixels instead, with another result.
    """
    rows, columns = (_interpolation(side) for side in x.shape[1:3])
    return jnp.einsum("ih,bhwc,jw->bijc", rows, x, columns)


def _interpolation(side: int) -> np.ndarray:
    """[2 side, side]: the weights of the old positions at the new ones."""
    position = np.linspace(0, side - 1, 2 * side)
    return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(side)[None])).astype(np.float32)


class FlowCell(nn.Module):
    """z `[B,H,W,C]` -> z - m(z), where m reads earlier components only: volume is preserved.

    The order is rows, columns, channels; `mirrored` reverses it. The official cell has features of
    the image as a second input, which it does not use; they are left out here.
    """

    mirrored: bool = False
    expansion: int = 6

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        mirror = (lambda x: x[:, ::-1, ::-1, ::-1]) if self.mirrored else (lambda x: x)
        z = mirror(z)
        channels = z.shape[-1]
        wide = channels * self.expansion
        degree = np.arange(wide) // self.expansion  # the lowest channel that may read a feature
        earlier = np.ones((3, 3, channels, wide), np.float32)
        earlier[2] = earlier[1, 2] = 0
        earlier[1, 1] = np.arange(channels)[:, None] < degree[None]
        may_read = (degree[:, None] <= np.arange(channels)[None]).astype(np.float32)[None, None]
        h = nn.elu(Conv(wide, mask=earlier)(z))
        h = nn.elu(Depthwise(causal=True, bias=True, normalised=True)(h))
        return mirror(z - Conv(channels, 1, mask=may_read, gain=0.1)(h))
