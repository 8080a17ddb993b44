"""VQ-VAE for signals: strided 1-D encoder, quantiser, and a WaveNet that speaks the codes.

van den Oord, Vinyals & Kavukcuoglu 2017, arXiv:1711.00937, section 4.3. Six convolutions of stride
2 and window 4 and one map of codes are the paper's; sizes of the WaveNets, optimiser and steps are
not in it and are ours, as is everything about the data.

x [B,H,W,C] holds T = H W C samples in raster order, of `levels` values (mu-law levels, say); what
an image is to `vqvae` a signal is here. z_e [B,1,T',1,D], T' = T halved `halvings` times, rounding
up; k [B,1,T',1] codes. The decoder is a WaveNet over levels: each sample given those before it, the
code of its moment (local) and who speaks (global: `label`, one-hot, where the data has labels):

    -log p(x | z_q, label) = sum over t of -log p(x_t | x_<t, z_q, label)

`vqvae` says what is minimised. The codes' prior, of stage two, is a WaveNet over codes. Training
and evaluation hand the decoder the true samples before each. `decode` and `sample` draw a signal,
sample by sample, in the voice of a speaker drawn at random; `speak` lets one choose.
Deviation: the encoder sees the levels, scaled to [-1, 1], not the linear signal.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxae.fields import Depth, Halvings, Range, Size
from jaxae.losses import categorical_nll
from jaxae.models.vqvae.stages import Parts, Quantised, assemble
from jaxae.nets import codebook
from jaxae.nets.wavenet import WaveNet
from jaxae.training.state import Model, Spec, State, adam


@dataclasses.dataclass(frozen=True)
class Config(Quantised):
    """Every field is a flag of the command line; the line below a field is its help text."""

    halvings: Halvings = 6
    """convolutions of stride 2 and window 4 between signal and codes"""
    conv_width: Size = 32
    """channels of the encoder"""
    wavenet_width: Size = 16
    """features of the decoder's stack; its gates are twice as wide"""
    wavenet_layers: Annotated[int, Range(1, 16)] = 6
    """layers of a stack, dilations 1, 2, 4, ..."""
    wavenet_stacks: Depth = 1
    """stacks of the decoder"""
    wavenet_head: Size = 64
    """features between the decoder's last two layers"""
    speakers: bool = True
    """tell the decoder the label, where there are labels"""

    def __post_init__(self):
        super().__post_init__()
        if self.groups != 1:
            raise ValueError(f"groups={self.groups}: signals have one code at a moment, take 1")


class Encoder(nn.Module):
    """Signals `[B,T]` in [-1, 1] -> z_e `[B,1,T',1,D]`."""

    halvings: int
    width: int
    code_width: int

    @nn.compact
    def __call__(self, signal: jax.Array) -> jax.Array:
        h = signal[..., None]
        for _ in range(self.halvings):
            h = nn.relu(nn.Conv(self.width, (4,), strides=(2,))(h))
        return nn.Dense(self.code_width)(h)[:, None, :, None]


class _Networks:
    """Encoder, decoder and prior for a spec, and what they say of signals."""

    def __init__(self, config: Config, spec: Spec):
        if spec.levels < 2:
            raise ValueError(
                "model vqvae_audio needs samples on a grid of at least 2 levels, but this data "
                f"has levels={spec.levels}: leave dequantise and standardise off"
            )
        self.config, self.spec = config, spec
        self.length = math.prod(spec.image_shape)
        self.moments = self.length
        for _ in range(config.halvings):
            if self.moments < 2:
                raise ValueError(
                    f"halvings={config.halvings} is too much for {self.length} samples: take fewer"
                )
            self.moments = -(-self.moments // 2)
        self.voices = spec.classes if config.speakers else 0
        self.encoder = Encoder(config.halvings, config.conv_width, config.code_width)
        self.decoder = WaveNet(
            spec.levels,
            config.wavenet_width,
            config.wavenet_layers,
            config.wavenet_stacks,
            head=config.wavenet_head,
            cosine_embedding=True,
            zero_init_condition=config.decoder_first > 0,
        )
        self.prior = WaveNet(
            config.codes, config.prior_width, config.prior_layers, head=config.prior_head
        )

    def init(self, rng):
        of_encoder, of_decoder, of_prior = jax.random.split(rng, 3)
        k = jnp.zeros((1, self.length), jnp.int32)
        c = jnp.zeros((1, self.length, self.config.code_width))
        g = jnp.zeros((1, self.voices)) if self.voices else None
        return {
            "enc": self.encoder.init(of_encoder, jnp.zeros((1, self.length)))["params"],
            "dec": self.decoder.init(of_decoder, k, c, g)["params"],
            "prior": self.prior.init(of_prior, k[:, : self.moments])["params"],
        }

    def encoded(self, p, x):
        return self.encoder.apply({"params": p["enc"]}, 2 * x.reshape(len(x), -1) - 1)

    def local(self, z_q):
        """The code of every sample's moment, `[B,T,D]`."""
        c = jnp.repeat(z_q[:, 0, :, 0], 2**self.config.halvings, axis=1)
        return c[:, : self.length]

    def whole(self, speaker):
        return jax.nn.one_hot(speaker, self.voices) if self.voices else None

    def costs(self, p, z_q, batch):
        x = batch["image"].reshape(len(batch["image"]), -1)
        k = jnp.round(x * (self.spec.levels - 1)).astype(jnp.int32)
        g = self.whole(batch["label"]) if self.voices else None
        logits = self.decoder.apply({"params": p["dec"]}, k, self.local(z_q), g)
        return {"distortion": categorical_nll(logits, x, 1)}

    def spoken(self, p, z_q, speaker, rng):
        """Signals `[B,H,W,C]` drawn from the decoder."""
        k = self.decoder.sample(
            {"params": p["dec"]}, len(z_q), self.length, rng, self.local(z_q), self.whole(speaker)
        )
        return jnp.float32(k).reshape(-1, *self.spec.image_shape) / (self.spec.levels - 1)

    def shown(self, p, z_q, rng):
        of_speaker, of_samples = jax.random.split(rng)
        speaker = jax.random.randint(of_speaker, (len(z_q),), 0, max(self.voices, 1))
        return self.spoken(p, z_q, speaker, of_samples)

    def logits(self, p, k):
        return self.prior.apply({"params": p["prior"]}, k[:, 0, :, 0])[:, None, :, None]

    def drawn(self, p, n, rng):
        return self.prior.sample({"params": p["prior"]}, n, self.moments, rng)[:, None, :, None]


def make(config: Config, spec: Spec) -> Model:
    """The VQ-VAE for signals of `spec`.

    Raises:
        ValueError: signals too short for `halvings`, or not on a grid of levels.
    """
    networks = _Networks(config, spec)
    parts = Parts(
        networks.init,
        networks.encoded,
        networks.costs,
        networks.shown,
        networks.logits,
        networks.drawn,
        size=(1, networks.moments),
        dims=networks.length,
        is_mass=True,
        needs_label=networks.voices > 0,
        draws=True,
        likelihood="categorical",
    )
    tx = {
        "autoencoder": adam(config.learning_rate, config.decay_steps),
        "prior": adam(config.prior_learning_rate, config.prior_decay_steps),
    }
    return assemble(config, parts, tx)


def codes_of(config: Config, spec: Spec) -> Callable:
    """`state, x [B,H,W,C] -> k [B,T']`: the codes of signals."""
    networks = _Networks(config, spec)
    return lambda state, x: _quantised(networks, state, x)[1][:, 0, :, 0]


def speak(config: Config, spec: Spec) -> Callable:
    """`state, x [B,H,W,C], speaker [B], rng -> x`: what x says, in other voices."""
    networks = _Networks(config, spec)

    def say(state: State, x: jax.Array, speaker: jax.Array, rng: jax.Array) -> jax.Array:
        return networks.spoken(state.params, _quantised(networks, state, x)[0], speaker, rng)

    return say


def _quantised(networks: _Networks, state: State, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """z_q and k."""
    table = state.extra["table"]
    if networks.config.codebook == "gradient":
        table = table + state.params["codebook"]["table"]
    return codebook.look_up(networks.encoded(state.params, x), table)
