"""Gated PixelCNN: every pixel's distribution given the pixels above and to the left, and a code.

van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves & Kavukcuoglu 2016, arXiv:1606.05328.
x [B,H,W,C], z [B,Z] -> outputs [B,H,W,channels]. Two stacks of layers. The vertical one reads
whole rows: its features at row i depend on the rows up to i and enter the horizontal stack one row
further down. The horizontal one reads to the left, in the first layer without the pixel itself
(mask A), later with it (mask B). Together they cover all earlier pixels, without a blind spot:

    gate(a) = tanh(a_1 + V_1 z) * sigmoid(a_2 + V_2 z)
    v' = gate(K_v * v)     h' = h + W gate(K_h * h + L (K_v * v, one row down))

The first layer, whose h is the image, has no residual. The order is over pixels; dependence between
the channels of a pixel is left to the likelihood. V z is a bias of each channel or, if the code is
first mapped to an image, depends on the position; the paper has both (from memory). For a code that
is added to a network already trained without it, V starts at zero. Deviation: optional dropout.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from jaxae.nets.made import Draw
from jaxae.nets.mlp import bias_init, conditioning_layer

Form = Literal["lax", "patches"]


class CausalConv(nn.Module):
    """A convolution over the rows up to the pixel's own: `[B,H,W,C] -> [B,H,W,features]`.

    Two forms with the same parameters, values and gradients. `lax` is XLA's convolution. `patches`
    is one matrix product from the concatenated shifted inputs: a training step on a CPU takes 1.1
    to 1.3 times as long (measured by experiments/speed_conv.py), but contains no convolution, which
    is slow inside loops there. Kernels that end before the pixel always use patches.
    """

    features: int
    kernel: tuple[int, int]
    """rows and columns; the last row is the pixel's own"""
    left: int
    """columns of the kernel to the left of the pixel's own"""
    form: Form = "lax"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        rows, columns = self.kernel
        shape = (rows, columns, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x, kernel, bias = promote_dtype(x, kernel, bias)  # `lax` requires equal dtypes
        # A kernel that ends before the pixel needs negative padding, for which XLA computes wrong
        # gradients on a CPU: for some sizes it reads uninitialised memory (jaxlib 0.10.2).
        if self.form == "lax" and self.left < columns:
            padding = ((rows - 1, 0), (self.left, columns - 1 - self.left))
            numbers = ("NHWC", "HWIO", "NHWC")
            out = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), padding, dimension_numbers=numbers
            )
        else:
            above = jnp.pad(x, ((0, 0), (rows - 1, 0), (0, 0), (0, 0)))
            out = _convolve_by_patches(above, kernel, self.left)
        return out + bias[None, None, None]


def _convolve_by_patches(x: jax.Array, kernel: jax.Array, left: int) -> jax.Array:
    """x `[B, H + rows - 1, W, C]`, kernel `[rows, columns, C, F]` -> `[B, H, W, F]`."""
    rows, columns, channels, features = kernel.shape
    height, width = x.shape[1] - rows + 1, x.shape[2]
    x = jnp.pad(x, ((0, 0), (0, 0), (left, max(columns - 1 - left, 0)), (0, 0)))
    shifted = [x[:, i : i + height, j : j + width] for i in range(rows) for j in range(columns)]
    return jnp.concatenate(shifted, axis=-1) @ kernel.reshape(rows * columns * channels, features)


def _gate(pre: jax.Array) -> jax.Array:
    first, second = jnp.split(pre, 2, axis=-1)
    return jnp.tanh(first) * nn.sigmoid(second)


class GatedLayer(nn.Module):
    """One layer of both stacks: v, h `[B,H,W,*]` -> v, h `[B,H,W,width]`.

    z is `[B,Z]`, a map `[B,H,W,Z]`, or None.
    """

    width: int
    kernel: int
    first: bool = False
    """mask A, and no residual"""
    dropout: float = 0.0
    form: Form = "lax"
    zero_init_condition: bool = False

    @nn.compact
    def __call__(
        self, v: jax.Array, h: jax.Array, z: jax.Array | None, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        half, gates = self.kernel // 2, 2 * self.width
        rows = CausalConv(gates, (half + 1, self.kernel), half, self.form, name="vertical")(v)
        link = nn.Dense(gates, use_bias=False, name="link")(rows)
        link = jnp.pad(link, ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :-1]
        reach = half if self.first else half + 1
        pixels = CausalConv(gates, (1, reach), half, self.form, name="horizontal")(h) + link
        if z is not None:
            z = z if z.ndim == 4 else z[:, None, None]
            code = lambda name: conditioning_layer(gates, self.zero_init_condition, name)(z)
            rows, pixels = rows + code("vertical_z"), pixels + code("horizontal_z")
        gated = nn.Dropout(self.dropout, deterministic=not train)(_gate(pixels))
        mixed = nn.Dense(self.width, name="mix")(gated)
        return _gate(rows), mixed if self.first else h + mixed


class GatedPixelCNN(nn.Module):
    """Autoregressive convolutional network: `x, z -> [B, H, W, channels]`.

    The outputs at a pixel depend on z and on the pixels before it in raster order only. x may be
    any `[B,H,W,C]` float, an image or a map of codes.
    """

    channels: int
    """outputs per pixel, as the likelihood needs"""
    width: int
    """features of each stack; the gates are twice as wide"""
    layers: int
    first_kernel: int = 7
    kernel: int = 3
    head: int = 0
    """features between the two 1x1 layers at the end; 0: as `width`"""
    dropout: float = 0.0
    """rate of dropout of gated features if `train` is True (needs the `dropout` stream)"""
    form: Form = "lax"
    """how convolutions are computed, see `CausalConv`"""
    map_channels: int = 0
    """0: the code is the same bias at all positions; otherwise a dense layer first maps it to an
    image of this many channels, and each position has its own bias (this layer has the usual start:
    with two factors that start at zero both gradients would be zero)"""
    out_bias: Any = None
    """initial value of the output bias, `[channels]`; None: zeros"""
    zero_init_condition: bool = False
    """the code has no effect at the start, see `conditioning_layer`"""

    @nn.compact
    def __call__(self, x: jax.Array, z: jax.Array | None = None, train: bool = False) -> jax.Array:
        """x [B,H,W,C] float, z [B,Z] float or None.

        Raises:
            ValueError: a kernel is even or below 3, or there is no layer.
        """
        v = h = x
        if z is not None and self.map_channels:
            z = nn.Dense(x.shape[1] * x.shape[2] * self.map_channels, name="map")(z)
            z = z.reshape(*x.shape[:3], self.map_channels)
        for number, kernel in enumerate(self._kernels()):
            first = number == 0
            layer = GatedLayer(
                self.width,
                kernel,
                first,
                self.dropout,
                self.form,
                self.zero_init_condition,
                name=f"layer_{number}",
            )
            v, h = layer(v, h, z, train)
        h = nn.Dense(self.head or self.width, name="head")(nn.relu(h))
        bias = bias_init(self.out_bias)
        return nn.Dense(self.channels, bias_init=bias, name="out")(nn.relu(h))

    @nn.nowrap
    def _kernels(self) -> list[int]:
        kernels = [self.first_kernel] + [self.kernel] * (self.layers - 1)
        if self.layers < 1 or any(kernel < 3 or kernel % 2 == 0 for kernel in kernels):
            raise ValueError(
                "GatedPixelCNN needs at least one layer and odd kernels of at least 3, got "
                f"layers {self.layers}, first_kernel {self.first_kernel}, kernel {self.kernel}"
            )
        return kernels

    @nn.nowrap
    def sample(
        self,
        variables: Any,
        shape: tuple[int, int, int, int],
        z: jax.Array | None,
        rng: jax.Array,
        draw: Draw,
        embed: Callable[[jax.Array], jax.Array] = lambda values: values,
    ) -> jax.Array:
        """Ancestral samples that compute every feature once.

        The vertical stack runs once per row and the horizontal one once per pixel, on the rows
        and pixels within their kernels. All n images need about the arithmetic of one pass of the
        whole network, in H*W sequential steps; one pass of the whole network per pixel would need
        H*W times as much.

        Args:
            variables: `{"params": ...}` of this network.
            shape: (n, H, W, C) of the result.
            z: `[n, Z]`, or None for a network without a code.
            rng: a key; pixel p (of H*W) is sampled with `fold_in(rng, p)`.
            draw: a sample from one pixel's outputs.
            embed: maps sampled pixels to inputs of the network, `[..., C] -> [..., inputs]`; if x
                is an embedding of codes, the result is the codes.
        Returns:
            `[n, H, W, C]`, of the dtype that `draw` returns.
        """
        n, height, width, _ = shape
        params, kernels = variables["params"], self._kernels()
        dtype = jnp.result_type(*jax.tree.leaves(params), *([] if z is None else [z]))
        zeros = functools.partial(jnp.zeros, dtype=dtype)  # of the loops' carries
        layers = [params[f"layer_{number}"] for number in range(self.layers)]
        inputs = [layer["vertical"]["kernel"].shape[2] for layer in layers]
        code_map = None
        if z is not None and self.map_channels:
            code_map = _dense(params["map"], z).reshape(n, height * width, -1)

        def code(name: str, first: jax.Array, count: int) -> list:
            """The code's contribution to each layer's gates at positions first..first+count-1."""
            if z is None:
                return [0.0] * self.layers
            local = z[:, None]
            if code_map is not None:
                local = jax.lax.dynamic_slice_in_dim(code_map, first, count, axis=1)
            return [local @ layer[name]["kernel"] for layer in layers]  # [n, count or 1, gates]

        def pixel(before: list, step: tuple) -> tuple[list, jax.Array]:
            """before: per layer the last inputs `[n, half, C]`; links: per layer `[n, gates]`."""
            position, links = step
            h, after, pixel_code = None, [], code("horizontal_z", position, 1)
            for number, layer in enumerate(layers):
                # The first layer's window ends before the pixel, which is not known yet.
                window = before[number]
                if number:
                    window = jnp.concatenate([window, h[:, None]], axis=1)
                    after.append(window[:, 1:])
                pixels = _dense(layer["horizontal"], window) + links[number]
                if z is not None:
                    pixels = pixels + pixel_code[number][:, 0]
                mixed = _dense(layer["mix"], _gate(pixels))
                h = h + mixed if number else mixed
            outputs = _dense(params["out"], nn.relu(_dense(params["head"], nn.relu(h))))
            values = draw(outputs, jax.random.fold_in(rng, position))
            embedded = embed(values)[:, None].astype(dtype)
            embedded = jnp.concatenate([before[0][:, 1:], embedded], axis=1)
            return [embedded, *after], values

        def row(carry: tuple, number: jax.Array) -> tuple[tuple, jax.Array]:
            """above: per layer the last inputs `[n, half, W, C]`; links: `[W, n, gates]`."""
            above, links = carry
            start = [zeros((n, k // 2, c)) for k, c in zip(kernels, inputs, strict=True)]
            positions = number * width + jnp.arange(width)
            _, values = jax.lax.scan(pixel, start, (positions, links))
            v, below, links = embed(values).swapaxes(0, 1)[:, None].astype(dtype), [], []
            row_code = code("vertical_z", number * width, width)
            for layer, rows, k, bias in zip(layers, above, kernels, row_code, strict=True):
                rows = jnp.concatenate([rows, v], axis=1)
                below.append(rows[:, 1:])
                pre = _convolve_by_patches(rows, layer["vertical"]["kernel"], k // 2)
                pre = pre + layer["vertical"]["bias"][None, None, None]
                links.append((pre @ layer["link"]["kernel"])[:, 0].swapaxes(0, 1))
                v = _gate(pre if z is None else pre + bias[:, None])
            return (below, links), values

        above = [zeros((n, k // 2, width, c)) for k, c in zip(kernels, inputs, strict=True)]
        links = [zeros((width, n, 2 * self.width))] * self.layers
        _, values = jax.lax.scan(row, (above, links), jnp.arange(height))  # [H, W, n, C]
        return jnp.moveaxis(values, 2, 0)


def _dense(params: Any, x: jax.Array) -> jax.Array:
    """A 1x1 layer, or a convolution applied to its one window `[n, columns, C]`."""
    kernel = params["kernel"].reshape(-1, params["bias"].shape[0])
    return x.reshape(x.shape[0], -1) @ kernel + params["bias"][None]
