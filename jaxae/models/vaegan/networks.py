"""The three networks of VAE/GAN, dense and convolutional.

Larsen et al. 2016; andersbll/autoencoding_beyond_pixels: architectures.py. The convolutional ones
are those of the 64x64 and 32x32 scripts for any image: 5x5 kernels throughout, one halving of the
sides (rounding up) for each of the encoder's channels, and the way back with transposed
convolutions, which cut off the last row or column where a side was odd. Normalised over the batch
and with the default channels their parameters are as many as the original's. Deviations: weights
start from LeCun's normal distribution, where theirs is uniform; the decoder's last bias starts at
the mean image (dense) or colour, theirs at zero; batch normalisation has eps 1e-5, theirs 1e-6.
Presets of the paper keep all three.

x [B,H,W,C] image; y [B,K] attributes, or None. Attributes join the input of the last hidden dense
layer: "the top fully connected layer" of the paper, recalled.
"""

from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxae import nets
from jaxae.models.shared.gaussian import output_start
from jaxae.nets.mlp import Norm, activation, bias_init, linear, needs_bias, normalise
from jaxae.training.state import Spec

KERNEL = (5, 5)


def networks(config: Any, spec: Spec) -> nets.Bundle:
    """enc, dis: x, y -> [B, out] and hidden layers; dec, gen: z (and y) -> [B, ...]."""
    start = output_start(
        "bernoulli" if config.output == "sigmoid" else "gaussian", spec, spec.image_shape[2]
    )
    act, out = config.activation, 2 * config.latent
    of_enc, of_dec = config.encoder_norm, config.generator_norm
    of_dis = config.discriminator_norm
    if config.network == "mlp":
        enc = DenseLayers(config.widths, out, act, of_enc)
        dis = DenseLayers(config.widths, 1, act, of_dis)
        dec = nets.MLP(config.widths[::-1], start.size, act, start.reshape(-1), of_dec)
    else:
        halvings(spec.image_shape, len(config.enc_channels))  # refuses what is too small
        enc = ConvLayers(config.enc_channels, config.enc_dense, out, act, of_enc)
        dis = ConvLayers(config.dis_channels, config.dis_dense, 1, act, of_dis, full_size=True)
        dec = ConvImage(
            spec.image_shape, config.dec_channels, config.enc_channels[-1], act,
            start.mean((0, 1)), of_dec,
        )  # fmt: skip
    found = {"enc": enc, "dec": dec, "gen": dec, "dis": dis}
    there = {"vaegan": ("enc", "dec", "dis"), "vae": ("enc", "dec"), "gan": ("dec", "dis"),
             "vae_dis_l": tuple(found)}[config.variant]  # fmt: skip
    return nets.Bundle(**{name: found[name] for name in there})


class DenseLayers(nn.Module):
    """Encoder or discriminator: `x, y -> [B, out]`, and what its hidden layers compute.

    These are the layers' outputs before normalisation and activation, `[B, width]` each.
    """

    widths: tuple[int, ...]
    out: int
    activation: str = "relu"
    norm: Norm = "none"

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        y: jax.Array | None = None,
        train: bool = False,
        axis_name: str | None = None,
    ) -> tuple[jax.Array, list[jax.Array]]:
        h, shown = x.reshape(x.shape[0], -1), []
        top = max(len(self.widths) - 1, 0)
        for level, width in enumerate(self.widths):
            h = joined([h, y], axis=-1) if level == top else h
            h = linear(nn.Dense(width, use_bias=needs_bias(self.norm)), self.norm, train)(h)
            shown.append(h)
            h = _rest(h, self, train, axis_name)
        last = linear(nn.Dense(self.out), self.norm, train)
        return last(h if self.widths else joined([h, y], axis=-1)), shown


class ConvLayers(nn.Module):
    """Encoder or discriminator: `x, y -> [B, out]`, and what its convolutions compute.

    These are the convolutions' outputs before normalisation and activation, `[B,h,w,c]` each.
    """

    channels: tuple[int, ...]
    dense: int
    """width of the hidden layer between the convolutions and the output"""
    out: int
    activation: str = "relu"
    norm: Norm = "none"
    full_size: bool = False
    """the first convolution has stride 1, and what it gives is not normalised (discriminator)"""

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        y: jax.Array | None = None,
        train: bool = False,
        axis_name: str | None = None,
    ) -> tuple[jax.Array, list[jax.Array]]:
        shown = []
        for level, channels in enumerate(self.channels):
            plain = self.full_size and level == 0
            bias = plain or needs_bias(self.norm)
            stride = (1, 1) if plain else (2, 2)
            x = linear(nn.Conv(channels, KERNEL, stride, use_bias=bias), self.norm, train)(x)
            shown.append(x)
            x = activation(self.activation)(x) if plain else _rest(x, self, train, axis_name)
        h = joined([x.reshape(x.shape[0], -1), y], axis=-1)
        dense = nn.Dense(self.dense, use_bias=needs_bias(self.norm))
        h = _rest(linear(dense, self.norm, train)(h), self, train, axis_name)
        return linear(nn.Dense(self.out), self.norm, train)(h), shown


class ConvImage(nn.Module):
    """Decoder: `z [B, Z] -> [B, H, W, C]`."""

    image_shape: tuple[int, int, int]
    channels: tuple[int, ...]
    """after each up-sampling"""
    base: int
    """channels of the smallest map, which the dense layer makes"""
    activation: str = "relu"
    out_bias: float | Sequence[float] | None = None
    """start of the output bias, `[C]`; None: zeros"""
    norm: Literal["none", "batch", "layer"] = "none"

    @nn.compact
    def __call__(
        self, z: jax.Array, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        (height, width), *larger = halvings(self.image_shape, len(self.channels))[::-1]
        bias = needs_bias(self.norm)
        h = nn.Dense(height * width * self.base, use_bias=bias)(z)
        x = _rest(h, self, train, axis_name).reshape(-1, height, width, self.base)
        for channels, (height, width) in zip(self.channels, larger, strict=True):
            x = nn.ConvTranspose(channels, KERNEL, (2, 2), use_bias=bias)(x)
            x = _rest(x[:, :height, :width], self, train, axis_name)
        return nn.Conv(self.image_shape[-1], KERNEL, bias_init=bias_init(self.out_bias))(x)


def halvings(image_shape: Sequence[int], times: int) -> list[tuple[int, int]]:
    """The (height, width) pairs from the image through so many halvings, rounding up.

    Raises:
        ValueError: a side has shrunk to one pixel before the last halving.
    """
    sizes = [tuple(image_shape[:2])]
    for _ in range(times):
        if min(sizes[-1]) < 2:
            raise ValueError(
                f"image shape {tuple(image_shape)} cannot be halved {times} times: shorten "
                "enc_channels, dec_channels and dis_channels, or take network=mlp"
            )
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    return sizes


def joined(parts: Sequence[jax.Array | None], axis: int = 0) -> jax.Array | None:
    """The parts that are there as one array; None where the first is None."""
    if parts[0] is None:
        return None
    return jnp.concatenate([part for part in parts if part is not None], axis=axis)


def _rest(h: jax.Array, of: nn.Module, train: bool, axis_name: str | None) -> jax.Array:
    """What follows a layer's linear map."""
    return activation(of.activation)(normalise(h, of.norm, train, axis_name))
