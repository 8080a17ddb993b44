"""VQ-VAE: an autoencoder with a discrete code, the nearest rows of a learnt codebook.

van den Oord, Vinyals & Kavukcuoglu 2017, arXiv:1711.00937; deepmind/sonnet: vqvae.py.

x [B,H,W,C] image; z_e [B,h,w,G,D] the encoder's output; e [G,K,D] the codebooks, one for each of
the G codes of a position; k [B,h,w,G] the nearest rows; z_q [B,h,w,G,D] = e_k; sg stop-gradient.

    loss = -log p(x | z_q) / (H W C)  +  |sg[z_e] - e_k|^2  +  commitment |z_e - sg[e_k]|^2

Stage one: player `autoencoder` owns encoder, decoder and, with codebook=gradient, the codebooks.
The gradient of the first term reaches the encoder as if z_q were z_e (straight-through), and no
codebook. The second term trains the codebooks alone; with codebook=ema it is left out, and the
codebooks are moving averages of the vectors that use them. The third trains the encoder alone.
Squared distances are means over positions and codes, and means or sums over D (`distances`).

Stage two: player `prior` fits p(k), a gated PixelCNN, to the codes of the trained encoder. A code
costs log K nats before, and -log p(k) after. The posterior is deterministic, so

    -log p(x) <= distortion + rate,  distortion = -log p(x | z_q),  rate = -log p(k), nats per image

`encode` gives z_e, so that codes are interpolated before they are quantised. With an autoregressive
decoder (the paper has one, a PixelCNN, for codes of codes of DM-Lab frames) -log p(x | z_q) is a
sum over pixels, each given those before it, and `decode` samples.
The objective and the stages are in `base.py`, which `vqvae_audio`, the model for signals, shares.
Deviations: the distortion is divided by H W C in training, because the published weight of the
terms is not known in our units; codebooks start at vectors of the first batch, with counts of one
(the paper's do not; see `codebook.update_moving_average` for the reason); rows that are hardly used
restart (`restart`; not in the paper, but in openai/jukebox): with a decoder that uses its codes
only late in training, nine rows of ten can otherwise stay unused.
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
from jaxae.models.vqvae.base import BaseConfig, Functions, assemble
from jaxae.models.vqvae.networks import CodePrior, Decoder, Encoder, map_sizes
from jaxae.nets.custom import Networks, replace_networks
from jaxae.training.state import Model, Spec, adam

SAMPLE_IMAGE = "sample(variables, shape, z, rng, draw)"
SAMPLE_PRIOR = "sample(variables, n, size, rng)"


@dataclasses.dataclass(frozen=True)
class Config(BaseConfig):
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
    """independent pixels, or autoregressive ones (made, pixelcnn), given the codes"""
    widths: tuple[Size, ...] = (256, 256)
    """hidden layers of decoder made"""
    pixelcnn_width: Size = 16
    """channels of decoder pixelcnn"""
    pixelcnn_layers: Depth = 5
    """layers of decoder pixelcnn"""
    pixelcnn_map: SizeOrZero = 0
    """channels of the map of the image's size to which z_q is projected for decoder pixelcnn; 0:
    z_q conditions all pixels alike"""
    extra_conv: bool = False
    """a 3x3 convolution before the encoder's residual blocks (public code)"""
    likelihood: Literal["bernoulli", "gaussian", "logistic_mixture", "categorical"] = "bernoulli"
    """distribution of a pixel; categorical is a softmax over its levels"""
    scale: Positive = 0.1
    """standard deviation of a pixel (gaussian)"""
    mixtures: Size = 5
    """components of the logistic mixture"""


def make(config: Config, spec: Spec, networks: Networks = None) -> Model:
    """The VQ-VAE for images of `spec`.

    Args:
        config: the settings.
        spec: of the data.
        networks: flax modules in place of the model's own, by their names in `State.params`:
            `enc`: x `[B,H,W,C]` -> z_e `[B,h,w,G,D]`.
            `dec`, decoder=convolutions: z_q `[B,h,w,G,D]` -> the likelihood's parameters
            `[B,H,W,channels]`. With decoder=made or pixelcnn: x `[B,H,W,C]` and z_q as
            `[B, h w G D]` -> `[B,H,W,channels]`; the outputs of a pixel must not depend on that
            pixel or later ones in raster order (this is not checked), and the module needs a method
            `sample(variables, shape, z, rng, draw)`, as `nets.MaskedMLP` has it
            (`nets.made.sample_by_passes` serves any module).
            `prior`: k `[B,h,w,G]` int32 -> logits `[B,h,w,G,K]` of each code given those before it,
            and a method `sample(variables, n, size, rng)` -> k, as `CodePrior` has it.
            h and w are H and W halved `halvings` times, rounded up; G, D, K are groups, code_width,
            codes; `channels` is that of `losses.likelihood`.
    Raises:
        ValueError: images too small for `halvings`, a likelihood that the data cannot take, or
            networks of other names or output shapes, or without `sample`.
    """
    pixel = losses.likelihood(
        config.likelihood,
        spec.image_shape,
        levels=spec.levels,
        scale=config.scale,
        mixtures=config.mixtures,
    )
    size = map_sizes(spec.image_shape[:2], config.halvings)[-1]
    autoregressive = config.decoder != "convolutions"

    def decoder_inputs(x, z_q):
        return (x, z_q.reshape(len(z_q), -1)) if autoregressive else (z_q,)

    def example_inputs():
        x = jnp.zeros((1, *spec.image_shape))
        z_q = jnp.zeros((1, *size, config.groups, config.code_width))
        k = jnp.zeros(z_q.shape[:-1], jnp.int32)
        return {"enc": (x,), "dec": decoder_inputs(x, z_q), "prior": (k,)}

    methods = {"prior": SAMPLE_PRIOR} | ({"dec": SAMPLE_IMAGE} if autoregressive else {})
    networks = replace_networks(
        _default_networks(config, spec, pixel.channels), networks, example_inputs, methods
    )

    def init(rng):
        keys, inputs = jax.random.split(rng, 3), example_inputs()
        return {
            name: networks[name].init(key, *inputs[name])["params"]
            for name, key in zip(("enc", "dec", "prior"), keys, strict=True)
        }

    def encode(p, x):
        return networks["enc"].apply({"params": p["enc"]}, x)

    def decode_outputs(p, x, z_q):
        """The parameters of p(x | z_q), `[B,H,W,channels]`."""
        return networks["dec"].apply({"params": p["dec"]}, *decoder_inputs(x, z_q))

    def reconstruction_losses(p, z_q, batch):
        x = batch["image"]
        out = decode_outputs(p, x, z_q)
        distortion = {"distortion": pixel.nll(out, x)}
        if autoregressive:  # pixels given the true ones before them are no reconstruction
            return distortion
        squares = jnp.square(pixel.mean(out) - x)
        return distortion | {"squared_error": jnp.mean(squares, axis=(1, 2, 3))}

    def decode(p, z_q, rng):
        """The mean image; with an autoregressive decoder a sample."""
        if not autoregressive:
            return pixel.mean(decode_outputs(p, None, z_q))
        shape, z = (len(z_q), *spec.image_shape), z_q.reshape(len(z_q), -1)
        return networks["dec"].sample({"params": p["dec"]}, shape, z, rng, pixel.sample)

    def prior_logits(p, k):
        return networks["prior"].apply({"params": p["prior"]}, k)

    def sample_prior(p, n, rng):
        return networks["prior"].sample({"params": p["prior"]}, n, size, rng)

    functions = Functions(
        init,
        encode,
        reconstruction_losses,
        decode,
        prior_logits,
        sample_prior,
        size=size,
        dims=math.prod(spec.image_shape),
        # A Bernoulli gives grey levels no probability.
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
    return assemble(config, functions, tx)


def _default_networks(config: Config, spec: Spec, channels: int) -> dict[str, nn.Module]:
    start = None  # a softmax starts uniform, the others at the mean image
    if config.likelihood != "categorical":
        start = output_start(config.likelihood, spec, channels).mean((0, 1))
    sizes = (config.halvings, config.conv_width, config.conv_blocks, config.block_width)
    if config.decoder == "convolutions":
        decoder = Decoder(spec.image_shape[:2], *sizes, channels, start)
    else:
        decoder = _autoregressive(config, spec, channels, start)
    return {
        "enc": Encoder(*sizes, config.groups, config.code_width, config.extra_conv),
        "dec": decoder,
        "prior": CodePrior(
            config.codes,
            config.groups,
            config.prior_width,
            config.prior_layers,
            head=config.prior_head,
        ),
    }


def _autoregressive(config: Config, spec: Spec, channels: int, start: Any) -> nn.Module:
    """x `[B,H,W,C]` and z_q as `[B, h w G D]` -> `[B,H,W,channels]`."""
    code_joins = config.decoder_first > 0
    if config.decoder == "made":
        return nets.MaskedMLP(
            spec.image_shape,
            channels,
            config.widths,
            out_bias=start,
            zero_init_condition=code_joins,
        )
    return nets.GatedPixelCNN(
        channels,
        config.pixelcnn_width,
        config.pixelcnn_layers,
        map_channels=config.pixelcnn_map,
        out_bias=start,
        zero_init_condition=code_joins,
    )
