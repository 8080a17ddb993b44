"""NVAE's layers and cells: weight-normalised convolutions, residual cells, a flow's step.

Vahdat & Kautz 2020, arXiv:2007.03898; facts from NVlabs/NVAE. x [B,H,W,C] throughout. A cell adds
a tenth of what it computes to its input. Each convolution notes the weights it really used, after
normalisation and masks, in the collection `weights`, where the spectral penalty reads them.
Kernels begin at zero here: `drawn_kernels` draws them all at once, since a generator for each of
a hundred takes a CPU a minute to compile.
"""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype

from jaxae.nets.mlp import batch_norm, bias_init

SHARE = 0.1  # of a cell's result that joins its input


def drawn_kernels(rng: jax.Array, params: Any) -> Any:
    """The tree with every `kernel` [..., inputs, outputs] drawn from N(0, 1 / fan-in)."""
    leaves, shape = jax.tree_util.tree_flatten_with_path(params)
    sizes = [leaf.size if path[-1].key == "kernel" else 0 for path, leaf in leaves]
    parts = jnp.split(jax.random.normal(rng, (sum(sizes),)), np.cumsum(sizes)[:-1])
    values = [
        part.reshape(leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1])) if size else leaf
        for part, size, (_, leaf) in zip(parts, sizes, leaves, strict=True)
    ]
    return jax.tree_util.tree_unflatten(shape, values)


def _weights(of: nn.Module, w: jax.Array) -> jax.Array:
    """The kernel [k, k, C, features] that `of` uses, noted as a matrix [k k C, features]."""
    if of.normalised:
        length = jnp.sqrt(jnp.sum(jnp.square(w), axis=(0, 1, 2)) + 1e-12)  # sqrt' is finite at 0
        log_gain = of.param("log_gain", nn.initializers.constant(np.log(of.gain)), length.shape)
        w = (jnp.exp(log_gain) / (length + 1e-5))[None, None, None] * w
    of.sow("weights", "matrix", w.reshape(-1, w.shape[-1]))
    return w


class Conv(nn.Module):
    """A convolution `[B,H,W,C] -> [B,H/stride,W/stride,features]`, padded as torch pads.

    With `normalised` the weights of each output channel are exp(g) V / |V|.
    """

    features: int
    kernel: int = 3
    stride: int = 1
    normalised: bool = True
    mask: np.ndarray | None = None
    """zeros and ones of the kernel's shape [k, k, C, features]"""
    gain: float = 1.0
    """length of an output channel's weights at the start, where they are normalised"""
    out_bias: Any = None
    """start of the bias; None: zeros"""
    bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        k = self.kernel
        shape = (k, k, x.shape[-1], self.features)
        w = self.param("kernel", nn.initializers.zeros, shape)
        w = _weights(self, w if self.mask is None else w * self.mask)
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
    """Every channel convolved with a 5x5 filter of its own: `[B,H,W,C] -> [B,H,W,C]`.

    Two forms with the same parameters and values. `lax` is the compiler's grouped convolution,
    which XLA computes channel by channel on a CPU; `matrix` multiplies each channel's pixels by a
    matrix [HW, HW] made of its filter, on small maps several times as fast there.
    """

    form: Literal["auto", "matrix", "lax"] = "auto"
    """auto: matrix where the default backend is the CPU and the map has at most 256 places"""
    causal: bool = False
    """see only what comes before in raster order, and the place itself"""
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
        x, w = promote_dtype(x, _weights(self, w))
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
            matrix = taps[_tap_between(height, width)]  # [from, to, C]
            y = jnp.einsum("bic,ioc->boc", x.reshape(-1, height * width, channels), matrix)
            y = y.reshape(x.shape)
        if not self.bias:
            return y
        return y + self.param("bias", nn.initializers.zeros, (channels,))[None, None, None]


def _tap_between(height: int, width: int) -> np.ndarray:
    """[HW, HW]: by which of the 25 taps one place reads another; 25 where it does not."""
    rows, columns = (
        np.arange(side)[:, None] - np.arange(side)[None] + 2 for side in (height, width)
    )
    rows, columns = rows[:, None, :, None], columns[None, :, None, :]
    seen = (rows >= 0) & (rows < 5) & (columns >= 0) & (columns < 5)
    return np.where(seen, 5 * rows + columns, 25).reshape(height * width, height * width)


class SqueezeExcite(nn.Module):
    """Channels scaled by a gate that sees their means: `[B,H,W,C] -> [B,H,W,C]`."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        dense = lambda n: nn.Dense(n, kernel_init=nn.initializers.zeros)
        h = nn.relu(dense(max(channels // 16, 4))(jnp.mean(x, axis=(1, 2))))
        return x * nn.sigmoid(dense(channels)(h))[:, None, None]


class EncoderCell(nn.Module):
    """Twice batch norm, swish and a 3x3 convolution; `down` halves the sides, doubles the width."""

    momentum: float
    """share of themselves that the batch statistics keep"""
    down: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, axis_name: str | None) -> jax.Array:
        features = x.shape[-1] * (2 if self.down else 1)
        norm = lambda h: nn.swish(batch_norm(train, axis_name, self.momentum)(h))
        h = Conv(features, stride=2 if self.down else 1)(norm(x))
        h = Conv(features)(norm(h))
        return (SkipDown()(x) if self.down else x) + SHARE * SqueezeExcite()(h)


class DecoderCell(nn.Module):
    """A wide, channel-wise convolution between two 1x1 ones; `up` doubles the sides, halves the
    width."""

    expansion: int
    momentum: float
    """share of themselves that the batch statistics keep"""
    up: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, axis_name: str | None) -> jax.Array:
        features = x.shape[-1] // (2 if self.up else 1)
        norm = lambda h: batch_norm(train, axis_name, self.momentum)(h)
        plain = lambda out: Conv(out, 1, normalised=False, bias=False)
        h = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2) if self.up else x
        h = plain(features * self.expansion)(norm(h))
        h = Depthwise()(nn.swish(norm(h)))
        h = norm(plain(features)(nn.swish(norm(h))))
        skip = Conv(features, 1)(bilinear_double(x)) if self.up else x
        return skip + SHARE * SqueezeExcite()(h)


class SkipDown(nn.Module):
    """Swish, then four 1x1 convolutions of the four phases: `[B,H,W,C] -> [B,H/2,W/2,2C]`."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x, quarter = nn.swish(x), x.shape[-1] // 2
        sizes = (quarter, quarter, quarter, 2 * x.shape[-1] - 3 * quarter)
        phases = ((0, 0), (1, 1), (0, 1), (1, 0))
        return jnp.concatenate(
            [Conv(n, 1)(x[:, i::2, j::2]) for n, (i, j) in zip(sizes, phases, strict=True)],
            axis=-1,
        )


def bilinear_double(x: jax.Array) -> jax.Array:
    """Sides doubled by linear interpolation that keeps the corners: `[B,H,W,C] -> [B,2H,2W,C]`.

    jax.image.resize keeps the edges of pixels instead, which is another map.
    """
    rows, columns = (_interpolation(side) for side in x.shape[1:3])
    return jnp.einsum("ih,bhwc,jw->bijc", rows, x, columns)


def _interpolation(side: int) -> np.ndarray:
    """[2 side, side]: the weights of the old positions at the new ones."""
    place = np.linspace(0, side - 1, 2 * side)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(side)[None])).astype(np.float32)


class FlowCell(nn.Module):
    """z -> z - m(z) with m of what comes before only: volume is preserved, `[B,H,W,C]` twice.

    The order is rows, columns, channels; `mirrored` reverses it. The official cell is given
    features of the image as well and does not use them; so they are left out here.
    """

    mirrored: bool = False
    expansion: int = 6

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        turned = (lambda x: x[:, ::-1, ::-1, ::-1]) if self.mirrored else (lambda x: x)
        z = turned(z)
        channels = z.shape[-1]
        wide = channels * self.expansion
        degree = np.arange(wide) // self.expansion  # the channel whose shift a feature may serve
        before = np.ones((3, 3, channels, wide), np.float32)
        before[2] = before[1, 2] = 0
        before[1, 1] = np.arange(channels)[:, None] < degree[None]
        upto = (degree[:, None] <= np.arange(channels)[None]).astype(np.float32)[None, None]
        h = nn.elu(Conv(wide, mask=before)(z))
        h = nn.elu(Depthwise(causal=True, bias=True, normalised=True)(h))
        return turned(z - Conv(channels, 1, mask=upto, gain=0.1)(h))
