"""ACN's networks: encoder c = e(x), prior network p(z|c^), decoder r(x|z).

x [B,H,W,C] image; c and z [B,d]. Encoders and decoders come from `jaxae.nets`, except an
experimental decoder that passes z through a codebook.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxae import nets
from jaxae.models.acn.config import Config
from jaxae.models.shared.gaussian import DENSE_FLOOR, output_start
from jaxae.nets import codebook
from jaxae.training.state import Spec

# Bounds of the log-scales of the prior's components. z has unit noise, so narrower components are
# of no use; but they could lie between the nodes of the quadrature, and training would exploit it.
LOG_SCALE_BOUNDS = (-0.5, 5.0)
COMMITMENT = 0.25


def encoder(config: Config, out: int) -> nn.Module:
    """x `[B,H,W,C]` -> `[B,out]`."""
    if config.encoder == "mlp":
        return nets.MLP(config.widths, out, config.activation)
    return nets.ConvEncoder(config.conv_width, out, config.conv_blocks, config.activation)


class PriorNetwork(nn.Module):
    """p(z|c): c `[B,d]` -> logits, means, log_scales of Gaussian mixtures, `[B,d,M]` each.

    The code is an input of every hidden layer, and every hidden layer is an input of the output
    (johannah/ACN: acn_models.py). The initial prior is broad: means from -1.5 to 1.5, unit scales.
    """

    latent: int
    components: int
    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, code: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        hidden: list[jax.Array] = []
        for width in self.widths:
            inputs = jnp.concatenate([*hidden[-1:], code], axis=-1)
            hidden.append(jnp.tanh(nn.Dense(width)(inputs)))
        start = np.zeros((3, self.latent, self.components), np.float32)
        start[1] = np.linspace(-1.5, 1.5, self.components) if self.components > 1 else 0.0
        out = nn.Dense(
            start.size,
            kernel_init=nn.initializers.variance_scaling(0.01, "fan_in", "normal"),
            bias_init=lambda key, shape, dtype=jnp.float32: jnp.asarray(start.reshape(-1), dtype),
        )(jnp.concatenate(hidden or [code], axis=-1))
        logits, means, raw = jnp.moveaxis(out.reshape(-1, *start.shape), 1, 0)
        bound = jnp.where(raw < 0, *np.abs(LOG_SCALE_BOUNDS))
        return logits, means, bound * jnp.tanh(raw / bound)


def decoder(config: Config, spec: Spec, channels: int) -> nn.Module:
    """z, or x and z where the decoder is autoregressive -> `channels` outputs per pixel.

    `[B,H,W,channels]`, for mlp flattened. The initial outputs are the mean training image.

    Raises:
        ValueError: images of a size that the network cannot decode to, or a `latent` that does not
            divide into positions (vq).
    """
    height, width, _ = spec.image_shape
    dense = config.decoder in ("mlp", "made")
    start = output_start(config.likelihood, spec, channels, DENSE_FLOOR if dense else 0.001)
    if config.decoder == "mlp":
        features = config.widths[::-1]
        return nets.MLP(features, height * width * channels, config.activation, start.reshape(-1))
    if config.decoder == "conv":
        return nets.ConvDecoder(
            spec.image_shape,
            channels,
            config.conv_width,
            config.conv_blocks,
            config.activation,
            start.mean((0, 1)),
        )
    if config.decoder == "vq":
        rows, columns = halved(halved((height, width)))
        if config.latent % (rows * columns):
            raise ValueError(
                f"latent={config.latent} must be a multiple of {rows * columns}: decoder=vq "
                f"reshapes the code of a {height}x{width} image to {rows}x{columns} vectors; take "
                f"for example latent={2 * rows * columns}"
            )
        return VQDecoder(
            (height, width),
            channels,
            config.vq_codes,
            config.vq_width,
            config.conv_width,
            config.conv_blocks,
            config.activation,
            start.mean((0, 1)),
        )
    if config.decoder == "made":
        return nets.MaskedMLP(
            spec.image_shape,
            channels,
            config.widths,
            config.activation,
            out_bias=start,
            zero_init_condition=config.decoder_first > 0,
        )
    return nets.GatedPixelCNN(
        channels,
        config.pixelcnn_width,
        config.pixelcnn_layers,
        map_channels=config.pixelcnn_map,
        out_bias=start.mean((0, 1)),
        zero_init_condition=config.decoder_first > 0,
    )


class VQDecoder(nn.Module):
    """z `[B,d]` -> `[B,H,W,channels]` through a codebook of `codes` vectors; experimental.

    z is reshaped to [h,w,d/(hw)], h and w the image's sides halved twice, rounded up. Dense layers
    at each position give z_e [B,h,w,width]; each z_e is replaced by the nearest row e of the
    codebook, with a straight-through gradient; residual blocks and two up-samplings give the image.

    Source: johannah/ACN: acn_models.py (not in the paper as far as known); the codebook is that of
    van den Oord, Vinyals & Kavukcuoglu 2017, arXiv:1711.00937. Deviation: weighted sums, not means.
    """

    image_size: tuple[int, int]
    channels: int
    """outputs per pixel, as the likelihood needs"""
    codes: int
    width: int
    """length of a vector of the codebook"""
    conv_width: int
    """channels before the last up-sampling"""
    blocks: int = 2
    activation: str = "relu"
    out_bias: Any = None

    def setup(self):
        self.hidden, self.to_table = nn.Dense(self.width), nn.Dense(self.width)
        start = nn.initializers.variance_scaling(1.0, "fan_out", "normal")  # rows of length 1
        self.table = self.param("table", start, (self.codes, self.width))
        self.from_table = nn.Dense(2 * self.conv_width)
        self.residual = [nets.Residual(self.activation) for _ in range(self.blocks)]
        self.up = nets.Upsample(self.conv_width)
        self.out = nets.Upsample(self.channels, out_bias=self.out_bias)

    def encode_map(self, z: jax.Array) -> jax.Array:
        """z_e `[B,h,w,width]`, which is quantised."""
        maps = z.reshape(z.shape[0], *halved(halved(self.image_size)), -1)
        return self.to_table(nets.activation(self.activation)(self.hidden(maps)))

    def quantise(self, z_e: jax.Array) -> jax.Array:
        """e `[B,h,w,width]`, the nearest rows; their gradient is that of the codebook alone."""
        return self.table[codebook.nearest_row(z_e, self.table)]

    def __call__(self, z: jax.Array) -> jax.Array:
        act = nets.activation(self.activation)
        z_e = self.encode_map(z)
        h = self.from_table(codebook.straight_through(z_e, self.quantise(z_e)))
        for block in self.residual:
            h = block(h)
        rows, columns = halved(self.image_size)
        h = self.up(act(h))[:, :rows, :columns]
        rows, columns = self.image_size
        return self.out(act(h))[:, :rows, :columns]

    def quantisation_loss(self, z: jax.Array) -> jax.Array:
        """|sg[z_e] - e|^2 + 0.25 |z_e - sg[e]|^2, `[B]`, summed over positions and channels."""
        z_e = self.encode_map(z)
        e = self.quantise(z_e)
        distance = lambda a, b: jnp.sum(codebook.squared_distance_to_constant(a, b), axis=(1, 2))
        return distance(e, z_e) + COMMITMENT * distance(z_e, e)


def halved(size: tuple[int, int]) -> tuple[int, int]:
    """Both sides divided by two, rounded up."""
    return -(-size[0] // 2), -(-size[1] // 2)
