"""VQ-VAE: an autoencoder whose code is the nearest rows of a learnt table.

van den Oord, Vinyals & Kavukcuoglu 2017, arXiv:1711.00937; deepmind/sonnet: vqvae.py.

x [B,H,W,C] image; z_e [B,h,w,G,D] what the encoder says; e [G,K,D] the codebooks, one for each of
the G codes of a place; k [B,h,w,G] the nearest rows; z_q [B,h,w,G,D] = e_k. With sg = stop-gradient

    loss = -log p(x | z_q) / (H W C)  +  |sg[z_e] - e_k|^2  +  commitment |z_e - sg[e_k]|^2

Player `autoencoder` owns encoder, decoder and the codebooks. The first term reaches the encoder as
if z_q were z_e, and no codebook; the second moves codebooks alone (or, codebook=ema, they are
moving averages of what chose them, and the term is gone); the third moves the encoder alone.
Squared distances are averaged over places and codes, and over D (distances=mean) or not (sum).

Stage two: player `prior` fits p(k), a gated PixelCNN, to the codes of an encoder that has come to
rest. A code costs log K nats before, and -log p(k) after. The posterior is deterministic, so

    -log p(x) <= distortion + rate,  distortion = -log p(x | z_q),  rate = -log p(k), nats per image

`encode` gives z_e: codes are mixed before they are quantised. With an autoregressive decoder (the
paper has one, a PixelCNN, for codes of codes of DM-Lab frames) -log p(x | z_q) is a sum over
pixels, each given those before it, and `decode` draws. Objective and stages are in `vqvae_stages`,
the networks in `vqvae_networks`; `vqvae_audio` is the same for signals.
Deviations: the distortion is divided by H W C in training, since the published weight between the
terms is not known in our units; codebooks begin as vectors of the first batch, with counts of one
(the paper's do not; see `codebook.update_moving_average` for what happens otherwise); and rows that
are hardly chosen begin anew (`restart`, which the paper lacks and openai/jukebox has), since where
a decoder listens late to its codes nine rows of ten can stay unused for good.
"""

import dataclasses
import math
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxae import losses, nets
from jaxae.fields import Depth, DepthOrZero, Halvings, Positive, Range, Size, SizeOrZero
from jaxae.models.shared.gaussian import output_start
from jaxae.models.vqvae.networks import CodePrior, Decoder, Encoder, map_sizes
from jaxae.models.vqvae.stages import Parts, Quantised, assemble
from jaxae.training.state import Model, Spec, adam


@dataclasses.dataclass(frozen=True)
class Config(Quantised):
    """Every field is a flag of the command line; the line below a field is its help text."""

    halvings: Halvings = 2
    """convolutions of stride 2 between image and codes"""
    conv_width: Annotated[int, Range(2, 65_536)] = 64
    """channels; the layer next to the image has half as many where another follows"""
    conv_blocks: DepthOrZero = 2
    """residual blocks of encoder and decoder"""
    block_width: SizeOrZero = 0
    """channels within a residual block; 0: as conv_width"""
    decoder: Literal["convolutions", "made", "pixelcnn"] = "convolutions"
    """independent pixels, or each pixel given those before it (made, pixelcnn) beside the codes"""
    widths: tuple[Size, ...] = (256, 256)
    """hidden layers of decoder made"""
    pixelcnn_width: Size = 16
    """channels of decoder pixelcnn"""
    pixelcnn_layers: Depth = 5
    """layers of decoder pixelcnn"""
    pixelcnn_map: SizeOrZero = 0
    """channels of the map of the image's size as which the codes' vectors are laid out for decoder
    pixelcnn; 0: they speak to all places alike"""
    extra_conv: bool = False
    """a 3x3 convolution before the encoder's residual blocks (public code)"""
    likelihood: Literal["bernoulli", "gaussian", "logistic_mixture", "categorical"] = "bernoulli"
    """distribution of a pixel; categorical is a softmax over its levels"""
    scale: Positive = 0.1
    """standard deviation of a pixel (gaussian)"""
    mixtures: Size = 5
    """components of the logistic mixture"""


def make(config: Config, spec: Spec) -> Model:
    """The VQ-VAE for images of `spec`.

    Raises:
        ValueError: images too small for `halvings`, a likelihood that the data cannot take.
    """
    pixel = losses.likelihood(
        config.likelihood,
        spec.image_shape,
        levels=spec.levels,
        scale=config.scale,
        mixtures=config.mixtures,
    )
    size = map_sizes(spec.image_shape[:2], config.halvings)[-1]
    bias = None  # a softmax begins uniform, the others at the mean image
    if config.likelihood != "categorical":
        bias = output_start(config.likelihood, spec, pixel.channels).mean((0, 1))
    of_convolutions = (config.halvings, config.conv_width, config.conv_blocks, config.block_width)
    encoder = Encoder(*of_convolutions, config.groups, config.code_width, config.extra_conv)
    autoregressive = config.decoder != "convolutions"
    if autoregressive:
        decoder = _autoregressive(config, spec, pixel.channels, bias)
    else:
        decoder = Decoder(spec.image_shape[:2], *of_convolutions, pixel.channels, bias)
    prior = CodePrior(
        config.codes,
        config.groups,
        config.prior_width,
        config.prior_layers,
        head=config.prior_head,
    )

    def init(rng):
        of_encoder, of_decoder, of_prior = jax.random.split(rng, 3)
        x = jnp.zeros((1, *spec.image_shape))
        z = jnp.zeros((1, *size, config.groups, config.code_width))
        return {
            "enc": encoder.init(of_encoder, x)["params"],
            "dec": decoder.init(of_decoder, *seen(x, z))["params"],
            "prior": prior.init(of_prior, jnp.zeros(z.shape[:-1], jnp.int32))["params"],
        }

    def seen(x, z_q):
        """What the decoder is given of x and z_q."""
        return (x, z_q.reshape(len(z_q), -1)) if autoregressive else (z_q,)

    def outputs(p, x, z_q):
        """The likelihood's parameters at every pixel."""
        return decoder.apply({"params": p["dec"]}, *seen(x, z_q))

    def costs(p, z_q, batch):
        x = batch["image"]
        out = outputs(p, x, z_q)
        found = {"distortion": pixel.nll(out, x)}
        if autoregressive:  # the mean of a pixel given the true ones before it is no reconstruction
            return found
        squares = jnp.square(pixel.mean(out) - x)
        return found | {"squared_error": jnp.mean(squares, axis=(1, 2, 3))}

    def shown(p, z_q, rng):
        """The mean image; of an autoregressive decoder a sample."""
        if not autoregressive:
            return pixel.mean(outputs(p, None, z_q))
        shape, z = (len(z_q), *spec.image_shape), z_q.reshape(len(z_q), -1)
        return decoder.sample({"params": p["dec"]}, shape, z, rng, pixel.sample)

    parts = Parts(
        init,
        encoded=lambda p, x: encoder.apply({"params": p["enc"]}, x),
        costs=costs,
        shown=shown,
        logits=lambda p, k: prior.apply({"params": p["prior"]}, k),
        drawn=lambda p, n, rng: prior.sample({"params": p["prior"]}, n, size, rng),
        size=size,
        dims=math.prod(spec.image_shape),
        # Grey levels have no probability under a Bernoulli.
        is_mass=config.likelihood in ("categorical", "logistic_mixture")
        or (config.likelihood == "bernoulli" and spec.levels == 2),
        needs_label=False,
        draws=autoregressive,
        likelihood=config.likelihood,
    )
    tx = {
        "autoencoder": adam(config.learning_rate, config.decay_steps),
        "prior": adam(config.prior_learning_rate, config.prior_decay_steps),
    }
    return assemble(config, parts, tx)


def _autoregressive(config: Config, spec: Spec, channels: int, bias: Any) -> nn.Module:
    """x `[B,H,W,C]` and all vectors of its codes in a row -> `channels` per pixel."""
    joins = config.decoder_first > 0
    if config.decoder == "made":
        return nets.MaskedMLP(
            spec.image_shape, channels, config.widths, out_bias=bias, zero_init_condition=joins
        )
    return nets.GatedPixelCNN(
        channels,
        config.pixelcnn_width,
        config.pixelcnn_layers,
        map_channels=config.pixelcnn_map,
        out_bias=bias,
        zero_init_condition=joins,
    )
