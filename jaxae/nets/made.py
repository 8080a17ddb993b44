"""A masked MLP: every pixel's distribution given the pixels before it, in one dense pass.

Germain, Gregor, Murray & Larochelle 2015 (MADE), arXiv:1502.03509, in raster order with fixed
masks. A unit of degree m sees the pixels 0..m-1; a unit feeds units of its own degree and above,
and the outputs of pixel p read units of degree p and below. The channels of a pixel are one
position; dependence between them is left to the likelihood.
Deviations: a code z may be added to every hidden layer and to the output, and degrees start at 0
(units that see only z), so that the first pixels depend on z through hidden units too.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxae.nets.mlp import activation, bias_init, conditioning_layer

Draw = Callable[[jax.Array, jax.Array], jax.Array]
"""outputs [B, channels], key -> pixel [B, C]: a sample from one pixel's distribution"""


class MaskedDense(nn.Module):
    """A dense layer whose kernel `[in, out]` is multiplied by a constant mask of zeros and ones."""

    mask: np.ndarray
    out_bias: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), self.mask.shape)
        bias = self.param("bias", bias_init(self.out_bias), self.mask.shape[1:])
        return x @ (kernel * self.mask) + bias[None]


class MaskedMLP(nn.Module):
    """Autoregressive dense network over images: `x, z -> [B, H, W, channels]`.

    The outputs at a pixel depend on z and on the pixels before it in raster order only. Without
    `direct`, if a hidden layer is narrower than H*W, a pixel may not see the ones just before it:
    there are fewer degrees than pixels.
    """

    image_shape: tuple[int, int, int]
    channels: int
    """outputs per pixel, as the likelihood needs"""
    widths: tuple[int, ...]
    activation: str = "relu"
    direct: bool = False
    """add a masked linear map from the pixels to the outputs"""
    out_bias: Any = None
    """initial value of the output bias: `[channels]`, or per pixel `[H, W, channels]`"""
    zero_init_condition: bool = False
    """the code has no effect at the start, see `conditioning_layer`"""

    @nn.compact
    def __call__(self, x: jax.Array, z: jax.Array | None = None) -> jax.Array:
        """x [B,H,W,C] float, z [B,Z] float or None."""
        height, width, colours = self.image_shape
        if x.shape[1:] != self.image_shape:
            raise ValueError(f"MaskedMLP: image_shape is {self.image_shape}, x is {x.shape[1:]}")
        act, pixels = activation(self.activation), height * width
        # The largest degree whose units see a pixel is the pixel's own degree, plus one.
        position = np.repeat(np.arange(pixels), colours)
        target = np.repeat(np.arange(pixels), self.channels)
        inputs, h, degree = x.reshape(x.shape[0], -1), x.reshape(x.shape[0], -1), position + 1
        from_z = lambda size: (
            0.0 if z is None else conditioning_layer(size, self.zero_init_condition)(z)
        )
        for size in self.widths:
            unit = np.arange(size) * pixels // size
            mask = np.float32(degree[:, None] <= unit)
            h, degree = act(MaskedDense(mask)(h) + from_z(size)), unit
        bias = self.out_bias
        if bias is not None:
            bias = np.broadcast_to(bias, (height, width, self.channels)).reshape(-1)
        outputs = MaskedDense(np.float32(degree[:, None] <= target), bias)(h) + from_z(target.size)
        if self.direct:
            mask = np.float32(position[:, None] < target)
            outputs += inputs @ (self.param("direct", nn.initializers.zeros, mask.shape) * mask)
        return outputs.reshape(-1, height, width, self.channels)

    @nn.nowrap
    def sample(
        self,
        variables: Any,
        shape: tuple[int, int, int, int],
        z: jax.Array | None,
        rng: jax.Array,
        draw: Draw,
    ) -> jax.Array:
        """Ancestral samples; H*W passes of the whole network, one after another.

        Args:
            variables: `{"params": ...}` of this network.
            shape: (n, H, W, C) of the result.
            z: `[n, Z]`, or None for a network without a code.
            rng: a key; pixel p is sampled with `fold_in(rng, p)`.
            draw: a sample from one pixel's outputs.
        Returns:
            `[n, H, W, C]` float32.
        """
        return sample_by_passes(lambda x: self.apply(variables, x, z), shape, rng, draw)


def sample_by_passes(
    apply: Callable[[jax.Array], jax.Array],
    shape: tuple[int, int, int, int],
    rng: jax.Array,
    draw: Draw,
) -> jax.Array:
    """Ancestral samples from any autoregressive network, by H*W full passes in sequence.

    Args:
        apply: x `[n,H,W,C]` -> outputs `[n,H,W,channels]`, causal in raster order.
        shape: (n, H, W, C) of the result.
        rng: a key; pixel p (of H*W) is sampled with `fold_in(rng, p)`.
        draw: a sample from one pixel's outputs.
    Returns:
        `[n, H, W, C]` float32.
    """
    n, height, width, colours = shape

    def pixel(p: jax.Array, x: jax.Array) -> jax.Array:
        outputs = apply(x.reshape(shape)).reshape(n, height * width, -1)
        return x.at[:, p].set(draw(outputs[:, p], jax.random.fold_in(rng, p)))

    x = jax.lax.fori_loop(0, height * width, pixel, jnp.zeros((n, height * width, colours)))
    return x.reshape(shape)
