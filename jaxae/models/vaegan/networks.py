"""The networks of VAE/GAN, dense and convolutional.

Larsen et al. 2016; andersbll/autoencoding_beyond_pixels: architectures.py. The convolutional
networks are those of the 64x64 and 32x32 scripts for any image: 5x5 kernels, one halving of the
sides (rounded up) for each of the encoder's channels, and transposed convolutions in the decoder,
which drop the last row or column where a side was odd. With batch normalisation and the default
channels they have as many parameters as the originals. Deviations: initial weights from LeCun's
normal distribution, theirs uniform; the initial bias of the decoder's last layer is the mean image
(dense) or colour, theirs zero; batch normalisation has eps 1e-5, theirs 1e-6. The recipes of the
paper keep all three.

x [B,H,W,C] image; y [B,K] attributes, or None. Attributes are appended to the input of the last
hidden dense layer: "the top fully connected layer" of the paper (from memory).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxae import nets
from jaxae.models.shared.gaussian import output_start
from jaxae.models.vaegan.config import Config
from jaxae.nets.custom import replace_networks
from jaxae.nets.mlp import Norm, activation, bias_init, linear, needs_bias, normalise
from jaxae.training.state import Spec

KERNEL = (5, 5)


def build_networks(
    config: Config, spec: Spec, own: Mapping[str, nn.Module] | None = None
) -> nets.Bundle:
    """enc, dis: x, y -> [B, out] and hidden layers; dec, gen: z (and y) -> [B, ...]."""
    start = output_start(
        "bernoulli" if config.output == "sigmoid" else "gaussian", spec, spec.image_shape[2]
    )
    act, out = config.activation, 2 * config.latent
    enc_norm, dec_norm = config.encoder_norm, config.generator_norm
    dis_norm = config.discriminator_norm
    if config.network == "mlp":
        enc = DenseLayers(config.widths, out, act, enc_norm)
        dis = DenseLayers(config.widths, 1, act, dis_norm)
        dec = nets.MLP(config.widths[::-1], start.size, act, start.reshape(-1), dec_norm)
    else:
        halved_sizes(spec.image_shape, len(config.enc_channels))  # raises for too small images
        enc = ConvLayers(config.enc_channels, config.enc_dense, out, act, enc_norm)
        dis = ConvLayers(config.dis_channels, config.dis_dense, 1, act, dis_norm, full_size=True)
        dec = ConvImage(
            spec.image_shape, config.dec_channels, config.enc_channels[-1], act,
            start.mean((0, 1)), dec_norm,
        )  # fmt: skip
    networks = {"enc": enc, "dec": dec, "gen": dec, "dis": dis}
    names = {"vaegan": ("enc", "dec", "dis"), "vae": ("enc", "dec"), "gan": ("dec", "dis"),
             "vae_dis_l": tuple(networks)}[config.variant]  # fmt: skip
    defaults = {name: networks[name] for name in names}
    examples = example_inputs(config, spec)
    return nets.Bundle(**replace_networks(defaults, own, examples, with_batch_stats=defaults))


def example_inputs(config: Config, spec: Spec) -> dict[str, Any]:
    """An input, or a tuple of inputs, of each network, by name."""
    num_labels = spec.classes if config.conditional else 0
    x, z = jnp.zeros((1, *spec.image_shape)), jnp.zeros((1, config.latent + num_labels))
    y = jnp.zeros((1, num_labels)) if num_labels else None
    return {"enc": (x, y), "dec": z, "gen": z, "dis": (x, y)}


class DenseLayers(nn.Module):
    """Dense encoder or discriminator: `x, y -> [B, out]`, and its hidden layers.

    The hidden layers are a list of `[B, width]`, before normalisation and activation.
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
        h, hidden = x.reshape(x.shape[0], -1), []
        top = max(len(self.widths) - 1, 0)
        for level, width in enumerate(self.widths):
            h = concatenate([h, y], axis=-1) if level == top else h
            h = linear(nn.Dense(width, use_bias=needs_bias(self.norm)), self.norm, train)(h)
            hidden.append(h)
            h = _norm_and_act(h, self, train, axis_name)
        last = linear(nn.Dense(self.out), self.norm, train)
        return last(h if self.widths else concatenate([h, y], axis=-1)), hidden


class ConvLayers(nn.Module):
    """Convolutional encoder or discriminator: `x, y -> [B, out]`, and its convolutions' outputs.

    The outputs are a list of `[B,h,w,c]`, before normalisation and activation.
    """

    channels: tuple[int, ...]
    dense: int
    """width of the hidden layer between the convolutions and the output"""
    out: int
    activation: str = "relu"
    norm: Norm = "none"
    full_size: bool = False
    """the first convolution has stride 1 and no normalisation (discriminator)"""

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        y: jax.Array | None = None,
        train: bool = False,
        axis_name: str | None = None,
    ) -> tuple[jax.Array, list[jax.Array]]:
        hidden = []
        for level, channels in enumerate(self.channels):
            plain = self.full_size and level == 0
            bias = plain or needs_bias(self.norm)
            stride = (1, 1) if plain else (2, 2)
            x = linear(nn.Conv(channels, KERNEL, stride, use_bias=bias), self.norm, train)(x)
            hidden.append(x)
            x = (
                activation(self.activation)(x)
                if plain
                else _norm_and_act(x, self, train, axis_name)
            )
        h = concatenate([x.reshape(x.shape[0], -1), y], axis=-1)
        dense = nn.Dense(self.dense, use_bias=needs_bias(self.norm))
        h = _norm_and_act(linear(dense, self.norm, train)(h), self, train, axis_name)
        return linear(nn.Dense(self.out), self.norm, train)(h), hidden


class ConvImage(nn.Module):
    """Convolutional decoder: `z [B, Z] -> [B, H, W, C]`."""

    image_shape: tuple[int, int, int]
    channels: tuple[int, ...]
    """after each upsampling"""
    base: int
    """channels of the smallest feature map, the output of the dense layer"""
    activation: str = "relu"
    out_bias: float | Sequence[float] | None = None
    """initial bias of the output, `[C]`; None: zeros"""
    norm: Literal["none", "batch", "layer"] = "none"

    @nn.compact
    def __call__(
        self, z: jax.Array, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        (height, width), *larger = halved_sizes(self.image_shape, len(self.channels))[::-1]
        bias = needs_bias(self.norm)
        h = nn.Dense(height * width * self.base, use_bias=bias)(z)
        x = _norm_and_act(h, self, train, axis_name).reshape(-1, height, width, self.base)
        for channels, (height, width) in zip(self.channels, larger, strict=True):
            x = nn.ConvTranspose(channels, KERNEL, (2, 2), use_bias=bias)(x)
            x = _norm_and_act(x[:, :height, :width], self, train, axis_name)
        return nn.Conv(self.image_shape[-1], KERNEL, bias_init=bias_init(self.out_bias))(x)


def halved_sizes(image_shape: Sequence[int], times: int) -> list[tuple[int, int]]:
    """The (height, width) of the image and after each of `times` halvings, rounded up.

    Raises:
        ValueError: a side is one pixel before the last halving.
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


def concatenate(parts: Sequence[jax.Array | None], axis: int = 0) -> jax.Array | None:
    """The concatenation of the parts that are not None; None if the first part is None."""
    if parts[0] is None:
        return None
    return jnp.concatenate([part for part in parts if part is not None], axis=axis)


def _norm_and_act(h: jax.Array, module: nn.Module, train: bool, axis_name: str | None) -> jax.Array:
    """The normalisation and activation after a layer's linear map."""
    return activation(module.activation)(normalise(h, module.norm, train, axis_name))
