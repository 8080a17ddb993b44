"""VQ-VAE for signals: strided 1-D encoder, quantiser, and a WaveNet decoder.

van den Oord, Vinyals & Kavukcuoglu 2017, arXiv:1711.00937, section 4.3. Six convolutions of stride
2 and window 4 and one map of codes are the paper's; sizes of the WaveNets, optimiser and steps are
not in it and are ours, as are the data.

x [B,H,W,C] holds T = H W C samples in raster order, of `levels` values (mu-law levels, for
example): a signal takes the place of an image. z_e [B,1,T',1,D], T' = T halved `halvings` times,
rounded up; k [B,1,T',1] codes; z_q the nearest rows. The decoder is a WaveNet over levels: each
sample is conditioned on those before it, on the code at its time (local) and on the speaker
(global: `label`, one-hot, where the data has labels):

    -log p(x | z_q, label) = sum over t of -log p(x_t | x_<t, z_q, label)

The objective is that of `vqvae/model.py`. The codes' prior, of stage two, is a WaveNet over codes.
In training and evaluation the decoder's input are the true samples. `decode` and `sample` sample a
signal step by step, for a random speaker; `make_convert_speaker` gives a function that takes the
speaker.
Deviation: the encoder's input are the levels, scaled to [-1, 1], not the linear signal.
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
from jaxae.models.vqvae.base import BaseConfig, Functions, assemble
from jaxae.nets import codebook
from jaxae.nets.custom import Networks, replace_networks
from jaxae.nets.wavenet import WaveNet
from jaxae.training.state import Model, Spec, State, adam

SAMPLE = {
    "dec": "sample(variables, n, length, rng, c, g)",
    "prior": "sample(variables, n, length, rng)",
}


@dataclasses.dataclass(frozen=True)
class Config(BaseConfig):
    """Every field is a flag of the command line; the line below a field is its help text."""

    halvings: Halvings = 6
    """convolutions of stride 2 and window 4 between signal and codes"""
    conv_width: Size = 32
    """channels of the encoder"""
    wavenet_width: Size = 16
    """features of a layer of the decoder; its gates have twice as many"""
    wavenet_layers: Annotated[int, Range(1, 16)] = 6
    """layers of a stack, dilations 1, 2, 4, ..."""
    wavenet_stacks: Depth = 1
    """stacks of the decoder"""
    wavenet_head: Size = 64
    """features between the decoder's last two layers"""
    speakers: bool = True
    """condition the decoder on the label, where there are labels"""

    def __post_init__(self):
        super().__post_init__()
        if self.groups != 1:
            raise ValueError(f"groups={self.groups}: signals have one code at a time, take 1")


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


class _SignalModel:
    """Networks for a spec, and the functions of signals that they give."""

    def __init__(self, config: Config, spec: Spec, networks: Networks = None):
        if spec.levels < 2:
            raise ValueError(
                "model vqvae_audio needs samples on a grid of at least 2 levels, but this data "
                f"has levels={spec.levels}: leave dequantise and standardise off"
            )
        self.config, self.spec = config, spec
        self.length = math.prod(spec.image_shape)
        self.code_length = self.length
        for _ in range(config.halvings):
            if self.code_length < 2:
                raise ValueError(
                    f"halvings={config.halvings} is too much for {self.length} samples: take fewer"
                )
            self.code_length = -(-self.code_length // 2)
        self.num_speakers = spec.classes if config.speakers else 0
        defaults = {
            "enc": Encoder(config.halvings, config.conv_width, config.code_width),
            "dec": WaveNet(
                spec.levels,
                config.wavenet_width,
                config.wavenet_layers,
                config.wavenet_stacks,
                head=config.wavenet_head,
                cosine_embedding=True,
                zero_init_condition=config.decoder_first > 0,
            ),
            "prior": WaveNet(
                config.codes, config.prior_width, config.prior_layers, head=config.prior_head
            ),
        }
        self.networks = replace_networks(defaults, networks, self._example_inputs, SAMPLE)

    def _example_inputs(self):
        x_levels = jnp.zeros((1, self.length), jnp.int32)
        c = jnp.zeros((1, self.length, self.config.code_width))
        g = jnp.zeros((1, self.num_speakers)) if self.num_speakers else None
        return {
            "enc": (jnp.zeros((1, self.length)),),
            "dec": (x_levels, c, g),
            "prior": (x_levels[:, : self.code_length],),
        }

    def init(self, rng):
        """Parameters by network."""
        keys, inputs = jax.random.split(rng, 3), self._example_inputs()
        return {
            name: self.networks[name].init(key, *inputs[name])["params"]
            for name, key in zip(("enc", "dec", "prior"), keys, strict=True)
        }

    def encode(self, p, x):
        """z_e"""
        return self.networks["enc"].apply({"params": p["enc"]}, 2 * x.reshape(len(x), -1) - 1)

    def local_condition(self, z_q):
        """For every sample the row of the code at its time, `[B,T,D]`."""
        c = jnp.repeat(z_q[:, 0, :, 0], 2**self.config.halvings, axis=1)
        return c[:, : self.length]

    def global_condition(self, speaker):
        """One-hot speakers, or None where the decoder is not conditioned on them."""
        return jax.nn.one_hot(speaker, self.num_speakers) if self.num_speakers else None

    def reconstruction_losses(self, p, z_q, batch):
        """`distortion` `[B]` in nats, given the true samples before each."""
        x = batch["image"].reshape(len(batch["image"]), -1)
        x_levels = jnp.round(x * (self.spec.levels - 1)).astype(jnp.int32)
        c = self.local_condition(z_q)
        g = self.global_condition(batch["label"]) if self.num_speakers else None
        logits = self.networks["dec"].apply({"params": p["dec"]}, x_levels, c, g)
        return {"distortion": categorical_nll(logits, x, 1)}

    def sample_signals(self, p, z_q, speaker, rng):
        """Signals `[B,H,W,C]`, samples of p(x | z_q, speaker)."""
        c, g = self.local_condition(z_q), self.global_condition(speaker)
        x_levels = self.networks["dec"].sample(
            {"params": p["dec"]}, len(z_q), self.length, rng, c, g
        )
        return jnp.float32(x_levels).reshape(-1, *self.spec.image_shape) / (self.spec.levels - 1)

    def decode(self, p, z_q, rng):
        """The same for random speakers."""
        speaker_key, samples_key = jax.random.split(rng)
        speaker = jax.random.randint(speaker_key, (len(z_q),), 0, max(self.num_speakers, 1))
        return self.sample_signals(p, z_q, speaker, samples_key)

    def prior_logits(self, p, k):
        """`[B,1,T',1,K]`"""
        logits = self.networks["prior"].apply({"params": p["prior"]}, k[:, 0, :, 0])
        return logits[:, None, :, None]

    def sample_prior(self, p, n, rng):
        """k `[n,1,T',1]`"""
        k = self.networks["prior"].sample({"params": p["prior"]}, n, self.code_length, rng)
        return k[:, None, :, None]

    def quantise(self, state, x):
        """z_q and k."""
        table = state.extra["table"]
        if self.config.codebook == "gradient":
            table = table + state.params["codebook"]["table"]
        return codebook.look_up(self.encode(state.params, x), table)


def make(config: Config, spec: Spec, networks: Networks = None) -> Model:
    """The VQ-VAE for signals of `spec`.

    Args:
        config: the settings.
        spec: of the data.
        networks: flax modules in place of the model's own, by their names in `State.params`:
            `enc`: signals `[B,T]` in [-1, 1] -> z_e `[B,1,T',1,D]`.
            `dec`: levels `[B,T]` int32, local condition `[B,T,D]`, global condition `[B,classes]`
            or None (no labels, or speakers=False) -> logits `[B,T,levels]` of each sample given
            those before it; and a method `sample(variables, n, length, rng, c, g)` -> levels
            `[n,length]` int32.
            `prior`: k `[B,T']` int32 -> logits `[B,T',K]` of each code given those before it; and a
            method `sample(variables, n, length, rng)` -> k `[n,length]` int32.
            That outputs do not depend on later inputs is not checked. `nets.WaveNet` is an example
            of both.
    Raises:
        ValueError: signals too short for `halvings`, or not on a grid of levels; or networks of
            other names or output shapes, or without `sample`.
    """
    signals = _SignalModel(config, spec, networks)
    functions = Functions(
        signals.init,
        signals.encode,
        signals.reconstruction_losses,
        signals.decode,
        signals.prior_logits,
        signals.sample_prior,
        size=(1, signals.code_length),
        dims=signals.length,
        is_mass=True,
        needs_label=signals.num_speakers > 0,
        draws=True,
        likelihood="categorical",
    )
    tx = {
        "autoencoder": adam(config.learning_rate, config.decay_steps),
        "prior": adam(config.prior_learning_rate, config.prior_decay_steps),
    }
    return assemble(config, functions, tx)


def make_encode_codes(config: Config, spec: Spec, networks: Networks = None) -> Callable:
    """`state, x [B,H,W,C] -> k [B,T']`: the codes of signals."""
    signals = _SignalModel(config, spec, networks)
    return lambda state, x: signals.quantise(state, x)[1][:, 0, :, 0]


def make_convert_speaker(config: Config, spec: Spec, networks: Networks = None) -> Callable:
    """`state, x [B,H,W,C], speaker [B], rng -> x`: speaker conversion.

    The result is a sample of the decoder, given the codes of x and another speaker.
    """
    signals = _SignalModel(config, spec, networks)

    def convert_speaker(
        state: State, x: jax.Array, speaker: jax.Array, rng: jax.Array
    ) -> jax.Array:
        z_q, _ = signals.quantise(state, x)
        return signals.sample_signals(state.params, z_q, speaker, rng)

    return convert_speaker
