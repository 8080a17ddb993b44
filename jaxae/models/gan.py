"""GAN: a generator that makes images from noise, a discriminator that tells them from data.

Goodfellow et al. 2014, arXiv:1406.2661; the convolutional networks follow Radford, Metz & Chintala
2016, arXiv:1511.06434 (there with batch normalisation in both, none where the discriminator
begins). The baseline that the other adversarial models are compared with: it has no encoder.

z [B,Z] ~ N(0, I) noise; G(z) [B,H,W,C] image; T(x) [B] the discriminator's logit, positive where
it believes in data. Both players see the same z within a step.

By default the discriminator pays for its slope at data (R1; Mescheder, Geiger & Nowozin 2018,
arXiv:1801.04406): by the game of 2014 alone, r1=0, the dense networks draw no digits (claim 4).
"""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp

from jaxae import losses, nets
from jaxae.fields import Checked, Decay, Rate, Size, StepsOrZero, Weight
from jaxae.models.shared.batch_needs import of_batch_norm
from jaxae.models.shared.discriminators import excess_over_chance, refuse_batch_slopes
from jaxae.models.shared.gaussian import output_start
from jaxae.nets.conv import pyramid
from jaxae.nets.mlp import output_activation
from jaxae.training.state import (
    Model,
    Need,
    Player,
    Spec,
    State,
    adam,
    ema_decay,
    eval_params,
    init_ema,
    init_opt_state,
    step_players,
    update_ema,
)

AVERAGED = ("gen",)


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
    generator_norm: Literal["none", "batch", "layer"] = "none"
    """normalisation of the generator's hidden layers: over the batch, or over each layer"""
    discriminator_norm: nets.Norm = "none"
    """the same for the discriminator, which judges data and fakes apart; spectral: its weights are
    divided by their largest singular values"""
    output: Literal["sigmoid", "linear"] = "sigmoid"
    """what the generator's last layer passes through: sigmoid for pixels in [0, 1]"""
    game: Literal["non_saturating", "saturating", "least_squares", "wasserstein"] = "non_saturating"
    """the players' costs"""
    r1: Weight = 0.3
    """weight gamma of |grad T|^2 / 2 at data (0: off)"""
    gradient_penalty: Weight = 0.0
    """weight lambda of (|grad T| - 1)^2 between data and fakes (0: off; 10 for wasserstein)"""
    average: Decay = 0.0
    """what the moving average of the generator keeps of itself at a step; samples and evaluation
    read it (0: the generator itself)"""
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
        refuse_batch_slopes(
            self.discriminator_norm, r1=self.r1, gradient_penalty=self.gradient_penalty
        )


def make(config: Config, spec: Spec) -> Model:
    """The GAN for images of `spec`.

    Raises:
        ValueError: convolutions on images that are too small for them.
    """
    network, shape = _networks(config, spec), (-1, *spec.image_shape)
    gan = losses.gan_loss(config.game)
    players = {
        "critic": Player(("critic",), adam(config.critic_rate, config.decay_steps, config.beta1)),
        "generator": Player(("gen",), adam(config.learning_rate, config.decay_steps, config.beta1)),
    }
    squash = output_activation(config.output)

    def init(rng):
        x, z = jnp.zeros((1, *spec.image_shape)), jnp.zeros((1, config.latent))
        params, stats = network.init(rng, gen=z, critic=x)
        opt = init_opt_state(players, params)
        averages = init_ema(AVERAGED if config.average else (), params, stats)
        return State(jnp.int32(0), params, opt, {"stats": stats} | averages)

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
            cost = jnp.mean(gan.real_loss(on_real)) + jnp.mean(gan.fake_loss(on_fake))
            metrics, total = {"critic": cost}, cost
            judge = lambda x: network(p, stats, "critic", x)
            if config.r1:
                penalty = jnp.mean(losses.r1_penalty(judge, x))
                metrics["slope"] = 2 * penalty
                total += config.r1 * penalty
            if config.gradient_penalty:
                slopes = losses.gradient_penalty(judge, x, fake, share)
                total += config.gradient_penalty * jnp.mean(slopes)
            return total, (metrics, stats)

        def generator_loss(p, stats):
            fake, stats = made(p, stats)
            judged, _ = train(p, stats, "critic", fake)
            cost = jnp.mean(gan.generator_loss(judged))
            return cost, ({"loss": cost, "generator": cost}, stats)

        turns = {"critic": critic_loss, "generator": generator_loss}
        params, opt, stats, metrics = step_players(
            players, turns, state.params, state.opt, state.extra["stats"], axis_name,
            config.simultaneous,
        )  # fmt: skip
        keep = ema_decay(config.average, state.step)
        extra = {"stats": stats} | update_ema(keep, state.extra, params, stats)
        return state.replace(step=state.step + 1, params=params, opt=opt, extra=extra), metrics

    def judge(state, x):
        return network(*eval_params(state), "critic", x)[..., 0]

    def decode(state, z, rng):
        return squash(network(*eval_params(state), "gen", z)).reshape(shape)

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

    return Model(
        init,
        step,
        evaluate,
        decode=decode,
        sample=sample,
        prior=prior,
        draws=True,
        needs=_needs(config, spec),
    )


def _needs(config: Config, spec: Spec) -> tuple[Need, ...]:
    places = 1 if config.network == "mlp" else math.prod(pyramid(spec.image_shape)[-1])
    return of_batch_norm(
        places,
        generator_norm=config.generator_norm,
        discriminator_norm=config.discriminator_norm,
    )


def _networks(config: Config, spec: Spec) -> nets.Bundle:
    """gen: z [B,Z] -> [B,...]; critic: x [B,H,W,C] -> logit [B,1]."""
    height, width, colours = spec.image_shape
    leaky = "leaky_relu_0.2"
    start = output_start("bernoulli" if config.output == "sigmoid" else "gaussian", spec, colours)
    if config.network == "mlp":
        return nets.Bundle(
            gen=nets.MLP(config.widths, height * width * colours, "relu", start.reshape(-1),
                         config.generator_norm),
            critic=nets.MLP(config.widths, 1, leaky, norm=config.discriminator_norm),
        )  # fmt: skip
    return nets.Bundle(
        gen=nets.ConvDecoder(
            spec.image_shape, colours, config.conv_width, 0, "relu", start.mean((0, 1)),
            config.generator_norm,
        ),
        critic=nets.ConvEncoder(config.conv_width, 1, 0, leaky, config.discriminator_norm),
    )  # fmt: skip
