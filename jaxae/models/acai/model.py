"""ACAI: an autoencoder whose decoded interpolations a critic cannot tell from reconstructions.

Berthelot, Raffel, Roy & Goodfellow 2018, arXiv:1807.07543; brain-research/acai: acai.py, lib/.

    x [B,S,S,C]   image, scaled to [-1,1] and padded with black     z = f(x) [B,Z]   code
    x^ = g(z)     reconstruction                                    d(x) [B]         critic

    alpha = 1/2 - |u - 1/2|, u ~ U[0,1], the interpolation coefficient in [0, 1/2]
    x_mix = g(alpha z + (1 - alpha) z'), z' the codes of the batch in reverse order

Losses, means over the batch, with |.|^2 the mean over pixels:

    autoencoder   |x - x^|^2  +  weight d(x_mix)^2
    critic        (d(x_mix) - alpha)^2  +  d(gamma x + (1 - gamma) x^)^2

The critic predicts alpha from an interpolation, and 0 from anything else; the autoencoder minimises
this prediction. Order of updates: both from the parameters at the start of the step; else the
autoencoder first (`simultaneous`). The critic's loss is 0.0521 for a critic whose output is
constant (at best 1/8), 0.0208 for one that recognises interpolations but not their coefficient, and
0 for a perfect one.

The codes have no prior: only the methods vae and aae can sample. `method` chooses ACAI or a model
that the paper compares it with, see `baselines`; the networks are in `networks`. Under `pmap` a
code is interpolated with one of the same device. Deviation: the paper trains a classifier of the
codes in parallel with the autoencoder; here codes are evaluated after training.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import flax.linen as nn
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
from jaxae.models.acai.baselines import (
    METHODS,
    Autoencoder,
    BaselineConfig,
    Method,
    baseline_networks,
    deterministic_method,
    mean_squared_error,
)
from jaxae.models.acai.networks import Critic, Decoder, Encoder
from jaxae.nets.custom import replace_networks
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

WITH_PRIOR = ("vae", "aae")
PAIRS = Need("method=acai interpolates pairs of images", multiple=2, by_device=True)


@dataclasses.dataclass(frozen=True)
class Config(BaselineConfig):
    """Every field is a flag of the command line; the line below a field is its help text."""

    method: Literal["acai", "baseline", "dropout", "denoising", "vae", "aae", "vqvae"] = "acai"
    """ACAI, or a method that the paper compares it with"""
    scales: Halvings = 2
    """number of times that the encoder halves the sides of the image"""
    depth: Size = 16
    """channels at full resolution, doubled at each halving"""
    channels: Size = 4
    """channels of the code, a feature map of height and width side / 2^scales"""
    critic_depth: SizeOrZero = 0
    """channels of the critic at full resolution; 0: as depth"""
    gain: Positive = 1.0
    """factor on the published variance of the initial kernels; with 2 training starts faster"""
    side: Side = 0
    """images are padded with black to this side, and further to a multiple of 2^scales"""
    weight: Weight = 0.5
    """lambda, weight of the critic's output in the autoencoder's loss"""
    gamma: Share = 0.2
    """weight of the image in the critic's second term; 1 - gamma is that of its reconstruction"""
    simultaneous: bool = True
    """update both players from the same parameters; else the autoencoder first"""
    learning_rate: Rate = 1e-4
    """initial learning rate of the autoencoder (Adam)"""
    critic_rate: Rate = 1e-4
    """initial learning rate of the critic (Adam)"""
    decay_steps: StepsOrZero = 0
    """steps over which both learning rates decay to zero along a cosine (0: constant)"""


def make(config: Config, spec: Spec, networks: Mapping[str, nn.Module] | None = None) -> Model:
    """ACAI, or one of the methods it is compared with, for images of `spec` in [0, 1].

    Args:
        networks: your own modules by name (see `nets.replace_networks`); none
            may keep batch statistics. x: padded images in [-1, 1] `[B, S, S', C]`; h: feature maps
            `[B, S / 2^scales, S' / 2^scales, channels]`; Z: size of h for one image; G, D: `slots`
            and `slot_width` (0: Z).
            `enc`: x -> h; `dec`: h -> x^, the shape of x;
            `critic`: x -> `[B]` (acai); z `[B, Z]` -> logits `[B, 1]` (aae);
            `posterior` (vae): f(x) `[B, Z]` -> mean and log-variance `[B, 2Z]`;
            `slots` (vqvae): f(x) `[B, Z]` -> vectors `[B, G*D]`;
            `bottleneck` (vqvae): rows `[B, G*D]` -> the decoder's input `[B, Z]`.
    Raises:
        ValueError: `networks` that do not fit.
    """
    return _make(config, spec, networks)[0]


def features(
    config: Config, spec: Spec, networks: Mapping[str, nn.Module] | None = None
) -> Callable:
    """A function state, x, rng -> [B,Z]: the input of the paper's classifier.

    It is `Model.encode` except for the vae, where it is f(x), and the vqvae, where it is b(e).
    """
    return _make(config, spec, networks)[1]


def _make(
    config: Config, spec: Spec, networks: Mapping[str, nn.Module] | None
) -> tuple[Model, Callable]:
    """The model, and the function that `features` returns."""
    network, frame = build_networks(config, spec, networks), _frame(config, spec)
    map_shape = _map_shape(config, spec)
    size = math.prod(map_shape)
    optimiser = lambda rate: adam(rate, config.decay_steps)
    owned = tuple(name for name in network.networks if name != "critic")
    players = {"autoencoder": Player(owned, optimiser(config.learning_rate))}
    if "critic" in network.networks:
        players["critic"] = Player(("critic",), optimiser(config.critic_rate))

    # -- forward passes ------------------------------------------------------------------------

    def apply(p, name, *inputs):
        return network(p, {}, name, *inputs)

    def encode_batch(p, x):
        return apply(p, "enc", x).reshape(x.shape[0], size)

    def decode_batch(p, z):
        return apply(p, "dec", z.reshape(-1, *map_shape))

    def errors(x_hat, x):
        """Per example: half the squared error on [0, 1], and the mean squared on [-1, 1]."""
        x_hat, x = frame.crop(x_hat), frame.crop(x)
        square = jnp.sum(jnp.square(x_hat - x), axis=(1, 2, 3))
        return {"loss": square / 8, "mse": square / x[0].size}

    def error_metrics(x_hat, x):
        return {name: jnp.mean(value) for name, value in errors(x_hat, x).items()}

    make_method = make_acai if config.method == "acai" else METHODS[config.method]
    method = make_method(
        config, Autoencoder(encode_batch, decode_batch, apply, error_metrics, size)
    )

    # -- training ------------------------------------------------------------------------------

    def init(rng):
        rng_networks, rng_stats = jax.random.split(rng)
        params, _ = network.init(rng_networks, **example_inputs(config, spec))
        opt = init_opt_state(players, params)
        return State(jnp.int32(0), params, opt, {"stats": method.init_stats(rng_stats)})

    def step(state, batch, rng, axis_name=None):
        x = frame.pad(batch["image"])
        player_losses = method.player_losses(x, method.sample_noise(rng, x), axis_name)
        params, opt, stats, metrics = step_players(
            players, player_losses, state.params, state.opt, state.extra["stats"], axis_name,
            config.simultaneous,
        )  # fmt: skip
        state = state.replace(step=state.step + 1, params=params, opt=opt, extra={"stats": stats})
        return state, metrics

    # -- evaluation ----------------------------------------------------------------------------

    def evaluate(state, batch, rng):
        """`loss`: half the squared error of the reconstruction, summed over pixels."""
        p, x = state.params, frame.pad(batch["image"])
        x_hat = method.decode(p, state.extra["stats"], method.encode(p, x, rng))
        return errors(x_hat, x)

    def encode(state, x, rng):
        return method.encode(state.params, frame.pad(x), rng)

    def decode(state, z, rng):
        """The decoder's output, scaled to [0, 1]; values outside are not clipped."""
        x_hat = method.decode(state.params, state.extra["stats"], z)
        return frame.crop(x_hat) / 2 + 0.5

    def classifier_features(state, x, rng):
        return method.features(state.params, state.extra["stats"], frame.pad(x))

    def prior(rng, n):
        return jax.random.normal(rng, (n, size))

    def sample(state, rng, n):
        rng_z, rng_x = jax.random.split(rng)
        return decode(state, prior(rng_z, n), rng_x)

    has_prior = config.method in WITH_PRIOR
    model = Model(
        init,
        step,
        evaluate,
        encode=encode,
        decode=decode,
        sample=sample if has_prior else None,
        prior=prior if has_prior else None,
        needs=(PAIRS,) if config.method == "acai" else (),
    )
    return model, classifier_features


def make_acai(config: Config, autoencoder: Autoencoder) -> Method:
    """ACAI itself: the losses of autoencoder and critic."""

    def sample_alpha(rng, x):
        PAIRS.check(x.shape[0], f"a batch of {x.shape[0]}")
        return sample_interpolation(rng, x.shape[0])

    def player_losses(x, alpha, axis_name):
        criticise = lambda p, image: autoencoder.apply(p, "critic", image)

        def reconstruct_and_interpolate(p):
            """x^ and x_mix."""
            z, weight = autoencoder.encode(p, x), alpha[:, None]
            x_hat = autoencoder.decode(p, z)
            return x_hat, autoencoder.decode(p, weight * z + (1 - weight) * z[::-1])

        def autoencoder_loss(p, stats):
            x_hat, x_mix = reconstruct_and_interpolate(p)
            adversarial = jnp.mean(jnp.square(criticise(p, x_mix)))
            loss = mean_squared_error(x_hat, x) + config.weight * adversarial
            metrics = {"autoencoder": loss, "adversarial": adversarial}
            return loss, (metrics | autoencoder.error_metrics(x_hat, x), stats)

        def critic_loss(p, stats):
            x_hat, x_mix = reconstruct_and_interpolate(p)
            blend = config.gamma * x + (1 - config.gamma) * x_hat
            alpha_error = mean_squared_error(criticise(p, x_mix), alpha)
            regulariser = jnp.mean(jnp.square(criticise(p, blend)))
            loss = alpha_error + regulariser
            return loss, ({"critic": loss, "alpha_error": alpha_error}, stats)

        return {"autoencoder": autoencoder_loss, "critic": critic_loss}

    return deterministic_method(autoencoder, player_losses, sample_alpha)


def sample_interpolation(rng: jax.Array, n: int) -> jax.Array:
    """alpha `[n]`, uniform on [0, 1/2]: alpha and 1 - alpha give the same pair of images."""
    return 0.5 - jnp.abs(jax.random.uniform(rng, (n,)) - 0.5)


@dataclasses.dataclass(frozen=True)
class _Frame:
    """Converts between images in [0,1] and the padded images of the networks in [-1,1]."""

    shape: tuple[int, int]
    padded: tuple[int, int]

    def pad(self, x: jax.Array) -> jax.Array:
        """Images in [0,1], scaled to [-1,1] and padded with black."""
        edges = [((p - s) // 2, p - s - (p - s) // 2)
                 for s, p in zip(self.shape, self.padded, strict=True)]  # fmt: skip
        return jnp.pad(2 * x - 1, ((0, 0), *edges, (0, 0)), constant_values=-1.0)

    def crop(self, x: jax.Array) -> jax.Array:
        """Padded images without the padding; the range stays [-1,1]."""
        top, left = ((p - s) // 2 for s, p in zip(self.shape, self.padded, strict=True))
        return x[:, top : top + self.shape[0], left : left + self.shape[1]]


def _frame(config: Config, spec: Spec) -> _Frame:
    unit, shape = 2**config.scales, spec.image_shape[:2]
    return _Frame(shape, tuple(-(-max(config.side, length) // unit) * unit for length in shape))


def _map_shape(config: Config, spec: Spec) -> tuple[int, int, int]:
    """The shape of the encoder's feature map for one image."""
    height, width = _frame(config, spec).padded
    unit = 2**config.scales
    return height // unit, width // unit, config.channels


def example_inputs(config: Config, spec: Spec) -> dict[str, Any]:
    """An input of each network, by name."""
    map_shape = _map_shape(config, spec)
    size = math.prod(map_shape)
    x, z = jnp.zeros((1, *_frame(config, spec).padded, spec.image_shape[2])), jnp.zeros((1, size))
    return {
        "enc": x,
        "dec": z.reshape(1, *map_shape),
        "posterior": z,
        "critic": x if config.method == "acai" else z,
        "slots": z,
        "bottleneck": jnp.zeros((1, config.slots * (config.slot_width or size))),
    }


def build_networks(
    config: Config, spec: Spec, own: Mapping[str, nn.Module] | None = None
) -> nets.Bundle:
    """enc: x [B,S,S,C] -> map; dec: map -> [B,S,S,C]; the other networks of a method, by name."""
    defaults = {
        "enc": Encoder(config.scales, config.depth, config.channels, config.gain),
        "dec": Decoder(config.scales, config.depth, spec.image_shape[2], config.gain),
    }
    if config.method == "acai":
        depth = config.critic_depth or config.depth
        defaults["critic"] = Critic(config.scales, depth, config.channels, config.gain)
    else:
        defaults |= baseline_networks(config, math.prod(_map_shape(config, spec)))
    examples = example_inputs(config, spec)
    return nets.Bundle(**replace_networks(defaults, own, examples))
