"""GAN: a generator that makes images from noise, a discriminator that tells them from data.

Goodfellow et al. 2014, arXiv:1406.2661; the convolutional networks follow Radford, Metz & Chintala
2016, arXiv:1511.06434 (batch normalisation in both, none where the discriminator begins). The
baseline that the other adversarial models are compared with: it has no encoder.

z [B,Z] ~ N(0, I) noise; G(z) [B,H,W,C] image; T(x) [B] the discriminator's logit, positive where
it believes in data. Both players see the same z within a step.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from jaxae import losses, nets
from jaxae.fields import Checked, Decay, Rate, Size, StepsOrZero, Weight
from jaxae.models.vae import output_start
from jaxae.nets.mlp import squashing
from jaxae.training.state import Model, Player, Spec, State, adam, enter, play

TWO_LOG_TWO = 1.3862943611198906


def excess_over_chance(real: jax.Array, fake: jax.Array) -> jax.Array:
    """By how much a discriminator beats chance, in nats per example; 0 where it cannot.

    Args:
        real, fake: `[B]` its logits of data and of fakes.
    """
    return TWO_LOG_TWO - (jax.nn.softplus(-real) + jax.nn.softplus(fake))


@dataclasses.dataclass(frozen=True)
class Config(Checked):
    """Every field is a flag of the command line; the line below a field is its help text."""

    latent: Size = 32
    """size Z of the noise"""
    network: Literal["mlp", "conv"] = "mlp"
    """dense or convolutional generator and discriminator"""
    widths: tuple[Size, ...] = (256, 256)
    """hidden layers of the dense generator and discriminator"""
    conv_width: Size = 32
    """channels of the first convolution, doubled at each halving of the image"""
    batch_norm: bool = False
    """normalise over the batch in both networks (the discriminator judges data and fakes apart)"""
    output: Literal["sigmoid", "linear"] = "sigmoid"
    """what the generator's last layer passes through: sigmoid for pixels in [0, 1]"""
    game: Literal["non_saturating", "saturating", "least_squares", "wasserstein"] = "non_saturating"
    """the players' costs"""
    r1: Weight = 0.0
    """weight gamma of |grad T|^2 / 2 at data (0: off)"""
    gradient_penalty: Weight = 0.0
    """weight lambda of (|grad T| - 1)^2 between data and fakes (0: off; 10 for wasserstein)"""
    simultaneous: bool = False
    """both players move from the same parameters; else the discriminator moves first"""
    critic_rate: Rate = 2e-4
    """Adam's rate for the discriminator at the first step"""
    learning_rate: Rate = 2e-4
    """Adam's rate for the generator at the first step"""
    beta1: Decay = 0.5
    """decay of Adam's first moment, for both"""
    decay_steps: StepsOrZero = 0
    """steps in which both rates fall to zero along a cosine (0: constant)"""

    def __post_init__(self):
        super().__post_init__()
        if self.batch_norm and (self.r1 or self.gradient_penalty):
            raise ValueError(
                "r1 and gradient_penalty ask for the slope at single examples, which batch_norm "
                "does not have: choose one"
            )


def make(config: Config, spec: Spec) -> Model:
    """The GAN for images of `spec`.

    Raises:
        ValueError: convolutions on images that are too small for them.
    """
    network, shape = _networks(config, spec), (-1, *spec.image_shape)
    game = losses.game(config.game)
    players = {
        "critic": Player(("critic",), adam(config.critic_rate, config.decay_steps, config.beta1)),
        "generator": Player(("gen",), adam(config.learning_rate, config.decay_steps, config.beta1)),
    }
    squash = squashing(config.output)

    def init(rng):
        x, z = jnp.zeros((1, *spec.image_shape)), jnp.zeros((1, config.latent))
        params, stats = network.init(rng, gen=z, critic=x)
        opt = enter(players, params)
        return State(jnp.int32(0), params, opt, {"stats": stats})

    def step(state, batch, rng, axis_name=None):
        x = batch["image"]
        of_z, of_share = jax.random.split(rng)
        z, share = prior(of_z, x.shape[0]), jax.random.uniform(of_share, x.shape[:1])
        train = lambda *args: network.train(*args, axis_name=axis_name)

        def made(p, stats):
            out, stats = train(p, stats, "gen", z)
            return squash(out).reshape(shape), stats

        def critic_loss(p, stats):
            fake, _ = made(p, stats)  # the generator's own turn moves its averages
            on_real, stats = train(p, stats, "critic", x)
            on_fake, stats = train(p, stats, "critic", fake)
            cost = jnp.mean(game.real(on_real)) + jnp.mean(game.fake(on_fake))
            metrics, total = {"critic": cost}, cost
            judge = lambda x: network(p, stats, "critic", x)
            if config.r1:
                total += config.r1 * jnp.mean(losses.r1_penalty(judge, x))
            if config.gradient_penalty:
                slopes = losses.gradient_penalty(judge, x, fake, share)
                total += config.gradient_penalty * jnp.mean(slopes)
            return total, (metrics, stats)

        def generator_loss(p, stats):
            fake, stats = made(p, stats)
            judged, _ = train(p, stats, "critic", fake)
            cost = jnp.mean(game.fool(judged))
            return cost, ({"loss": cost, "generator": cost}, stats)

        turns = {"critic": critic_loss, "generator": generator_loss}
        params, opt, stats, metrics = play(
            players, turns, state.params, state.opt, state.extra["stats"], axis_name,
            config.simultaneous,
        )  # fmt: skip
        state = state.replace(step=state.step + 1, params=params, opt=opt, extra={"stats": stats})
        return state, metrics

    def judge(state, x):
        return network(state.params, state.extra["stats"], "critic", x)[..., 0]

    def decode(state, z, rng):
        out = network(state.params, state.extra["stats"], "gen", z)
        return squash(out).reshape(shape)

    def evaluate(state, batch, rng):
        """`loss`: by how much the discriminator beats chance, in nats; 0 where it cannot."""
        real, fake = (
            judge(state, batch["image"]),
            judge(state, sample(state, rng, len(batch["image"]))),
        )
        loss = excess_over_chance(real, fake)
        return {"loss": loss, "logit_real": real, "logit_fake": fake}

    def prior(rng, n):
        return jax.random.normal(rng, (n, config.latent))

    def sample(state, rng, n):
        return decode(state, prior(rng, n), rng)

    return Model(init, step, evaluate, decode=decode, sample=sample, prior=prior)


def _networks(config: Config, spec: Spec) -> nets.Bundle:
    """gen: z [B,Z] -> [B,...]; critic: x [B,H,W,C] -> logit [B,1]."""
    height, width, colours = spec.image_shape
    leaky = "leaky_relu_0.2"
    start = output_start("bernoulli" if config.output == "sigmoid" else "gaussian", spec, colours)
    if config.network == "mlp":
        return nets.Bundle(
            gen=nets.MLP(config.widths, height * width * colours, "relu", start.reshape(-1),
                         batch_norm=config.batch_norm),
            critic=nets.MLP(config.widths, 1, leaky, batch_norm=config.batch_norm),
        )  # fmt: skip
    return nets.Bundle(
        gen=nets.ConvDecoder(
            spec.image_shape, colours, config.conv_width, 0, "relu", start.mean((0, 1)),
            batch_norm=config.batch_norm,
        ),
        critic=nets.ConvEncoder(config.conv_width, 1, 0, leaky, batch_norm=config.batch_norm),
    )  # fmt: skip
