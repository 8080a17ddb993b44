"""ACAI: an autoencoder whose decoded mixtures of codes must look like reconstructions to a critic.

Berthelot, Raffel, Roy & Goodfellow 2018, arXiv:1807.07543; brain-research/acai: acai.py, lib/.

x [B,S,S,C] image, taken to [-1,1] and padded with black; z = f(x) [B,Z] code; g decoder; d [B]
critic; z' the codes of the batch in reverse; |.|^2 the mean over pixels. With u ~ U[0,1],

    alpha = 1/2 - |u - 1/2|  in [0, 1/2]        x_mix = g(alpha z + (1 - alpha) z')

    critic        (d(x_mix) - alpha)^2  +  d(gamma x + (1 - gamma) x^)^2,    x^ = g(z)
    autoencoder   |x - x^|^2  +  weight d(x_mix)^2

each the mean over the batch. The critic reads the mixture's share off the picture, and must say 0
to what is no mixture; the autoencoder makes it say 0 to mixtures. Both move from the parameters
that the step began with. A critic that can tell nothing says 1/8 and pays 0.0521, one that knows
mixtures from others but not their share 0.0208, a perfect one 0.

No prior is laid on the codes: only the methods vae and aae can sample. `method` makes of the same
networks the models that the paper compares, see `baselines`; the networks are in
`acai_networks`. Under `pmap` partners are found within a device's share of the batch.
Deviation: the paper's classifier learns beside the autoencoder; here codes are probed afterwards.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from jaxae import nets
from jaxae.fields import (
    Halvings,
    Positive,
    Rate,
    Share,
    Side,
    Size,
    SizeOrZero,
    StepsOrZero,
    Weight,
)
from jaxae.models.acai import baselines
from jaxae.models.acai.baselines import Comparison, Method, Parts, mean_squares, plain
from jaxae.models.acai.networks import Critic, Decoder, Encoder
from jaxae.training.state import (
    Model,
    Need,
    Player,
    Spec,
    State,
    adam,
    init_opt_state,
    step_players,
)

SAMPLERS = ("vae", "aae")
PAIRS = Need("method=acai mixes images in pairs", multiple=2, by_device=True)


@dataclasses.dataclass(frozen=True)
class Config(Comparison):
    """Every field is a flag of the command line; the line below a field is its help text."""

    method: Literal["acai", "baseline", "dropout", "denoising", "vae", "aae", "vqvae"] = "acai"
    """the paper's, or what it is compared with"""
    scales: Halvings = 2
    """halvings of the image on the way to the code"""
    depth: Size = 16
    """channels at the image's own size, doubled at each halving"""
    channels: Size = 4
    """of the map that is the code, of height and width side / 2^scales"""
    critic_depth: SizeOrZero = 0
    """channels of the critic at the image's own size; 0: as depth"""
    gain: Positive = 1.0
    """variance of all convolutions' first kernels, times what was published; 2 learns sooner"""
    side: Side = 0
    """images are padded with black to this side, and on to a multiple of 2^scales"""
    weight: Weight = 0.5
    """lambda, weight of the critic's judgement in the autoencoder's cost"""
    gamma: Share = 0.2
    """share of the image in what the critic must call unmixed; the rest is its reconstruction"""
    simultaneous: bool = True
    """both players move from the same parameters; else the autoencoder moves first"""
    learning_rate: Rate = 1e-4
    """Adam's rate for the autoencoder at the first step"""
    critic_rate: Rate = 1e-4
    """Adam's rate for the critic at the first step"""
    decay_steps: StepsOrZero = 0
    """steps in which both rates fall to zero along a cosine (0: constant)"""


def make(config: Config, spec: Spec) -> Model:
    """ACAI, or one of its comparison models, for images of `spec` in [0, 1]."""
    return _assembled(config, spec)[0]


def features(config: Config, spec: Spec) -> Callable:
    """`encode` of what the paper's classifier reads: state, x, rng -> [B,Z].

    It is `Model.encode` but for the methods vae, where it is what the mean is made from, and vqvae,
    where it is what the decoder is given.
    """
    return _assembled(config, spec)[1]


def _assembled(config: Config, spec: Spec) -> tuple[Model, Callable]:
    """The model, and what `features` returns."""
    network, frame = _networks(config, spec), _frame(config, spec)
    side, colours = frame.padded, spec.image_shape[2]
    small = tuple(length // 2**config.scales for length in side)
    size = math.prod(small) * config.channels
    players = {"autoencoder": Player(
        tuple(name for name in network.networks if name != "critic"),
        adam(config.learning_rate, config.decay_steps),
    )}  # fmt: skip
    if "critic" in network.networks:
        players["critic"] = Player(("critic",), adam(config.critic_rate, config.decay_steps))

    run = lambda p, name, *inputs: network(p, {}, name, *inputs)

    def enc(p, x):
        return run(p, "enc", x).reshape(x.shape[0], size)

    def dec(p, z):
        return run(p, "dec", z.reshape(-1, *small, config.channels))

    def errors(back, x):
        """Per example: half the squared error on [0, 1], and the mean squared on [-1, 1]."""
        back, x = frame.cut(back), frame.cut(x)
        square = jnp.sum(jnp.square(back - x), axis=(1, 2, 3))
        return {"loss": square / 8, "mse": square / x[0].size}

    def report(back, x):
        return {name: jnp.mean(value) for name, value in errors(back, x).items()}

    parts = Parts(enc, dec, run, report, size)
    of = acai if config.method == "acai" else baselines.METHODS[config.method]
    method = of(config, parts)

    def init(rng):
        of_networks, of_stats = jax.random.split(rng)
        x, z = jnp.zeros((1, *side, colours)), jnp.zeros((1, size))
        slots = jnp.zeros((1, config.slots * (config.slot_width or size)))
        examples = {"enc": x, "dec": z.reshape(1, *small, config.channels), "posterior": z,
                    "critic": x if config.method == "acai" else z, "slots": z,
                    "bottleneck": slots}  # fmt: skip
        params, _ = network.init(of_networks, **examples)
        opt = init_opt_state(players, params)
        return State(jnp.int32(0), params, opt, {"stats": method.stats(of_stats)})

    def step(state, batch, rng, axis_name=None):
        x = frame.put(batch["image"])
        turns = method.turns(x, method.draw(rng, x), axis_name)
        params, opt, stats, metrics = step_players(
            players, turns, state.params, state.opt, state.extra["stats"], axis_name,
            config.simultaneous,
        )  # fmt: skip
        state = state.replace(step=state.step + 1, params=params, opt=opt, extra={"stats": stats})
        return state, metrics

    def evaluate(state, batch, rng):
        p, x = state.params, frame.put(batch["image"])
        back = method.picture(p, state.extra["stats"], method.code(p, x, rng))
        return errors(back, x)

    def encode(state, x, rng):
        return method.code(state.params, frame.put(x), rng)

    def decode(state, z, rng):
        """What the decoder gives, taken to [0, 1] without cutting off what lies beyond."""
        back = method.picture(state.params, state.extra["stats"], z)
        return frame.cut(back) / 2 + 0.5

    def read(state, x, rng):
        return method.features(state.params, state.extra["stats"], frame.put(x))

    def prior(rng, n):
        return jax.random.normal(rng, (n, size))

    def sample(state, rng, n):
        of_z, of_x = jax.random.split(rng)
        return decode(state, prior(of_z, n), of_x)

    samples = config.method in SAMPLERS
    model = Model(
        init,
        step,
        evaluate,
        encode=encode,
        decode=decode,
        sample=sample if samples else None,
        prior=prior if samples else None,
        needs=(PAIRS,) if config.method == "acai" else (),
    )
    return model, read


def acai(config: Config, parts: Parts) -> Method:
    """The two players of the paper."""

    def draw(rng, x):
        PAIRS.check(x.shape[0], f"a batch of {x.shape[0]}")
        return mixing_shares(rng, x.shape[0])

    def turns(x, alpha, axis_name):
        judged = lambda p, picture: parts.run(p, "critic", picture)

        def pictures(p):
            """x^ and x_mix."""
            z = parts.enc(p, x)
            share = alpha[:, None]
            return parts.dec(p, z), parts.dec(p, share * z + (1 - share) * z[::-1])

        def autoencoder(p, stats):
            back, mixed = pictures(p)
            fool = jnp.mean(jnp.square(judged(p, mixed)))
            cost = mean_squares(back, x) + config.weight * fool
            metrics = {"autoencoder": cost, "fool": fool} | parts.report(back, x)
            return cost, (metrics, stats)

        def critic(p, stats):
            back, mixed = pictures(p)
            unmixed = config.gamma * x + (1 - config.gamma) * back
            guess = mean_squares(judged(p, mixed), alpha)
            anchor = jnp.mean(jnp.square(judged(p, unmixed)))
            return guess + anchor, ({"critic": guess + anchor, "guess": guess}, stats)

        return {"autoencoder": autoencoder, "critic": critic}

    return plain(parts, turns, draw)


def mixing_shares(rng: jax.Array, n: int) -> jax.Array:
    """alpha `[n]`, uniform on [0, 1/2]: the critic could not know which of two images is which."""
    return 0.5 - jnp.abs(jax.random.uniform(rng, (n,)) - 0.5)


@dataclasses.dataclass(frozen=True)
class _Frame:
    """Images of a data set [0,1] within those that the networks see [-1,1]."""

    shape: tuple[int, int]
    padded: tuple[int, int]

    def put(self, x: jax.Array) -> jax.Array:
        edges = [((p - s) // 2, p - s - (p - s) // 2)
                 for s, p in zip(self.shape, self.padded, strict=True)]  # fmt: skip
        return jnp.pad(2 * x - 1, ((0, 0), *edges, (0, 0)), constant_values=-1.0)

    def cut(self, x: jax.Array) -> jax.Array:
        top, left = ((p - s) // 2 for s, p in zip(self.shape, self.padded, strict=True))
        return x[:, top : top + self.shape[0], left : left + self.shape[1]]


def _frame(config: Config, spec: Spec) -> _Frame:
    unit, shape = 2**config.scales, spec.image_shape[:2]
    return _Frame(shape, tuple(-(-max(config.side, length) // unit) * unit for length in shape))


def _networks(config: Config, spec: Spec) -> nets.Bundle:
    """enc: x [B,S,S,C] -> map; dec: map -> [B,S,S,C]; what else a method has, by name."""
    side, unit = _frame(config, spec).padded, 2**config.scales
    size = (side[0] // unit) * (side[1] // unit) * config.channels
    networks = {
        "enc": Encoder(config.scales, config.depth, config.channels, config.gain),
        "dec": Decoder(config.scales, config.depth, spec.image_shape[2], config.gain),
    }
    if config.method == "acai":
        depth = config.critic_depth or config.depth
        critic = Critic(config.scales, depth, config.channels, config.gain)
        return nets.Bundle(**networks, critic=critic)
    return nets.Bundle(**networks, **baselines.further_networks(config, size))
