"""GAN: a generator makes images from noise, and a discriminator tells them from data.

Goodfellow et al. 2014, arXiv:1406.2661. The convolutional networks follow Radford, Metz & Chintala
2016, arXiv:1511.06434 (who use batch normalisation in both networks, but not in the first layer of
the discriminator). This model is the baseline for the other adversarial models: it has no encoder.

    x [B,H,W,C]   image from the data
    z [B,Z]       noise, z ~ p(z) = N(0, I)
    G(z)          generated image, [B,H,W,C]
    T(x) [B]      the discriminator's logit; D(x) = sigmoid(T(x)) is the probability of "data"

Losses, each the mean over the batch, with s(t) = log(1 + exp(t)):

    critic      s(-T(x)) + s(T(G(z))) + r1/2 |grad_x T(x)|^2
    generator   s(-T(G(z)))

That is -log D(x) - log(1 - D(G(z))) and -log D(G(z)), the non-saturating form; `game` chooses other
losses (`losses.gan_loss`). R1 (Mescheder, Geiger & Nowozin 2018, arXiv:1801.04406) is on by
default: with the losses of 2014 alone, r1=0, the dense networks learn no digits (claim 4).

Order of updates: the discriminator first, then the generator against the updated discriminator;
with `simultaneous` both from the parameters at the start of the step. Both use the same z.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxae import losses, nets
from jaxae.fields import Checked, Decay, Rate, Size, StepsOrZero, Weight
from jaxae.models.shared.batch_needs import batch_norm_needs
from jaxae.models.shared.discriminators import check_gradient_penalty, discriminator_advantage
from jaxae.models.shared.gaussian import output_start
from jaxae.nets.conv import pyramid
from jaxae.nets.custom import replace_networks
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
    """dense or convolutional networks"""
    widths: tuple[Size, ...] = (256, 256)
    """hidden layers of the dense generator and discriminator"""
    conv_width: Size = 32
    """channels of the first convolution, doubled at each halving of the image"""
    generator_norm: Literal["none", "batch", "layer"] = "none"
    """normalisation of the generator's hidden layers: over the batch, or over a layer's units"""
    discriminator_norm: nets.Norm = "none"
    """normalisation of the discriminator's hidden layers (batch: data and fakes are separate
    batches); spectral: its weights are divided by their largest singular values"""
    output: Literal["sigmoid", "linear"] = "sigmoid"
    """activation of the generator's last layer: sigmoid for pixels in [0, 1]"""
    game: Literal["non_saturating", "saturating", "least_squares", "wasserstein"] = "non_saturating"
    """losses of both players"""
    r1: Weight = 0.3
    """weight of |grad T|^2 / 2 at data in the discriminator's loss (0: off)"""
    gradient_penalty: Weight = 0.0
    """weight of (|grad T| - 1)^2 at random points between data and fakes (0: off; 10 for
    wasserstein)"""
    average: Decay = 0.0
    """decay of the moving average of the generator's weights, which samples and evaluation use (0:
    no average)"""
    simultaneous: bool = False
    """update both players from the same parameters; else the discriminator first"""
    critic_rate: Rate = 2e-4
    """initial learning rate of the discriminator (Adam)"""
    learning_rate: Rate = 2e-4
    """initial learning rate of the generator (Adam)"""
    beta1: Decay = 0.5
    """decay of Adam's first moment, for both players"""
    decay_steps: StepsOrZero = 0
    """steps over which both rates decay to zero along a cosine (0: constant)"""

    def __post_init__(self):
        super().__post_init__()
        check_gradient_penalty(
            self.discriminator_norm, r1=self.r1, gradient_penalty=self.gradient_penalty
        )


def make(config: Config, spec: Spec, networks: Mapping[str, nn.Module] | None = None) -> Model:
    """The GAN for images of `spec`.

    Args:
        networks: your own modules by name (see `nets.replace_networks`):
            `gen`: z `[B, Z]` -> image before `output`, `[B, H*W*C]` (mlp) or `[B, H, W, C]` (conv);
            `critic`: x `[B, H, W, C]` -> logits `[B, 1]`.
    Raises:
        ValueError: convolutions on images that are too small for them; `networks` that do not fit.
    """
    network, image_shape = build_networks(config, spec, networks), (-1, *spec.image_shape)
    gan = losses.gan_loss(config.game)
    players = {
        "critic": Player(("critic",), adam(config.critic_rate, config.decay_steps, config.beta1)),
        "generator": Player(("gen",), adam(config.learning_rate, config.decay_steps, config.beta1)),
    }
    to_pixels = output_activation(config.output)

    def init(rng):
        params, stats = network.init(rng, **example_inputs(config, spec))
        opt = init_opt_state(players, params)
        averages = init_ema(AVERAGED if config.average else (), params, stats)
        return State(jnp.int32(0), params, opt, {"stats": stats} | averages)

    def step(state, batch, rng, axis_name=None):
        x = batch["image"]
        rng_z, rng_weight = jax.random.split(rng)
        z = prior(rng_z, x.shape[0])
        weight = jax.random.uniform(rng_weight, x.shape[:1])
        apply = lambda *args: network.train(*args, axis_name=axis_name)

        def generate(p, stats):
            out, stats = apply(p, stats, "gen", z)
            return to_pixels(out).reshape(image_shape), stats

        def critic_loss(p, stats):
            fake, _ = generate(p, stats)  # the generator's loss updates its batch statistics
            real_logits, stats = apply(p, stats, "critic", x)
            fake_logits, stats = apply(p, stats, "critic", fake)
            loss = jnp.mean(gan.real_loss(real_logits)) + jnp.mean(gan.fake_loss(fake_logits))
            metrics, total = {"critic": loss}, loss
            discriminate = lambda x: network(p, stats, "critic", x)
            if config.r1:
                r1 = jnp.mean(losses.r1_penalty(discriminate, x))
                metrics["squared_gradient_norm"] = 2 * r1
                total += config.r1 * r1
            if config.gradient_penalty:
                penalties = losses.gradient_penalty(discriminate, x, fake, weight)
                total += config.gradient_penalty * jnp.mean(penalties)
            return total, (metrics, stats)

        def generator_loss(p, stats):
            fake, stats = generate(p, stats)
            fake_logits, _ = apply(p, stats, "critic", fake)
            loss = jnp.mean(gan.generator_loss(fake_logits))
            return loss, ({"loss": loss, "generator": loss}, stats)

        player_losses = {"critic": critic_loss, "generator": generator_loss}
        params, opt, stats, metrics = step_players(
            players, player_losses, state.params, state.opt, state.extra["stats"], axis_name,
            config.simultaneous,
        )  # fmt: skip
        decay = ema_decay(config.average, state.step)
        extra = {"stats": stats} | update_ema(decay, state.extra, params, stats)
        return state.replace(step=state.step + 1, params=params, opt=opt, extra=extra), metrics

    def evaluate(state, batch, rng):
        """`loss`: 2 log 2 minus the discriminator's cross-entropy, in nats (0: it is at chance)."""
        x = batch["image"]
        fake = sample(state, rng, len(x))
        real_logits, fake_logits = discriminate(state, x), discriminate(state, fake)
        loss = discriminator_advantage(real_logits, fake_logits)
        return {"loss": loss, "real_logits": real_logits, "fake_logits": fake_logits}

    def discriminate(state, x):
        return network(*eval_params(state), "critic", x)[..., 0]

    def decode(state, z, rng):
        return to_pixels(network(*eval_params(state), "gen", z)).reshape(image_shape)

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
    positions = 1 if config.network == "mlp" else math.prod(pyramid(spec.image_shape)[-1])
    return batch_norm_needs(
        positions,
        generator_norm=config.generator_norm,
        discriminator_norm=config.discriminator_norm,
    )


def example_inputs(config: Config, spec: Spec) -> dict[str, Any]:
    """An input of each network, by name."""
    return {"gen": jnp.zeros((1, config.latent)), "critic": jnp.zeros((1, *spec.image_shape))}


def build_networks(
    config: Config, spec: Spec, own: Mapping[str, nn.Module] | None = None
) -> nets.Bundle:
    """gen: z [B,Z] -> [B,...]; critic: x [B,H,W,C] -> logit [B,1]."""
    height, width, channels = spec.image_shape
    leaky = "leaky_relu_0.2"
    start = output_start("bernoulli" if config.output == "sigmoid" else "gaussian", spec, channels)
    if config.network == "mlp":
        defaults = {
            "gen": nets.MLP(config.widths, height * width * channels, "relu", start.reshape(-1),
                            config.generator_norm),
            "critic": nets.MLP(config.widths, 1, leaky, norm=config.discriminator_norm),
        }  # fmt: skip
    else:
        defaults = {
            "gen": nets.ConvDecoder(
                spec.image_shape, channels, config.conv_width, 0, "relu", start.mean((0, 1)),
                config.generator_norm,
            ),
            "critic": nets.ConvEncoder(config.conv_width, 1, 0, leaky, config.discriminator_norm),
        }  # fmt: skip
    examples = example_inputs(config, spec)
    return nets.Bundle(**replace_networks(defaults, own, examples, with_batch_stats=defaults))
