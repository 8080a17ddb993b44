"""VAE/GAN: a VAE whose decoder is a GAN's generator, and whose error the discriminator measures.

Larsen, Sonderby, Larochelle & Winther 2016, arXiv:1512.09300; andersbll/
autoencoding_beyond_pixels: aegan.py, architectures.py, model/aegan.py.

x [B,H,W,C] image; z [B,Z] code; x~ = Dec(z) reconstruction; x_p = Dec(z_p) with z_p ~ N(0, I);
Dis_l(x) the discriminator's layer l before normalisation and activation (l = 0: the pixels);
T the discriminator's logit, positive where it believes in data; y [B,K] attributes (one-hot label).

    encoder        KL(q(z|x) || N(0, I)) + L,   L = |Dis_l(x) - Dis_l(x~)|^2 / (2 scale^2)
    decoder        gamma L + (1 - gamma) (cost of not fooling T with x~ and with x_p)
    discriminator  cross-entropy of data against x~ and x_p

L and the KL are sums for each image. What a player does not own is a constant to it: nothing of
the game reaches the encoder, and L passes through the discriminator without moving it. As in the
official code all three move from the same parameters, L has a forward pass of its own (x~ and x as
one batch), and the game another (data and fakes as one batch), which alone moves the
discriminator's batch statistics.

Options that are not the paper's: a normalisation for each network, a penalty of the discriminator's
slope at data (R1; Mescheder, Geiger & Nowozin 2018, arXiv:1801.04406), and averages of the weights.

Deviations: pixels in [0, 1] and a sigmoid, where the official images are in [-1, 1] with a tanh;
the posterior's log-variance is bounded softly to (-10, 10). The official library's adversarial
prior on z is not built (`aae` is that model).
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax

from jaxae import losses, nets
from jaxae.models.shared.batch_needs import of_batch_norm
from jaxae.models.shared.discriminators import excess_over_chance
from jaxae.models.shared.gaussian import gaussian_draw, mean_and_log_var
from jaxae.models.vaegan.config import Config
from jaxae.models.vaegan.game import adversarial_game, balance_gate
from jaxae.models.vaegan.networks import joined
from jaxae.models.vaegan.networks import networks as _networks
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

AVERAGED = ("enc", "dec", "gen")
LAST_RATE = 1e-5 / 64  # where the official learning rates end, whatever they began with


def make(config: Config, spec: Spec) -> Model:
    """The VAE/GAN, or one of its variants, for images of `spec`.

    Raises:
        ValueError: labels that the data lacks, an image too small for the convolutions, an unknown
            activation.
    """
    if config.conditional and not spec.classes:
        raise ValueError("conditional needs labels, which this data does not have")
    network, players = _networks(config, spec), _players(config)
    gan, layer = adversarial_game(config.game, config.log_floor), config.measured_in
    squash = output_activation(config.output)
    generator = "gen" if config.variant == "vae_dis_l" else "dec"
    fooler = "generator" if "generator" in players else "decoder"
    kinds = config.fakes if config.variant == "vaegan" else "prior"
    game_weight = 1 - config.gamma if config.beside_gamma == "complement" else 1.0
    told = spec.classes if config.conditional else 0

    def attributes(batch):
        return jax.nn.one_hot(batch["label"], told) if told else None

    def posterior(run, x, y):
        (out, _), stats = run("enc", x, y)
        return *mean_and_log_var(out), stats

    def made(run, name, z, y):
        out, stats = run(name, joined([z, y], axis=-1))
        return squash(out).reshape(-1, *spec.image_shape), stats

    def unlikeness(run, x, recon, y):
        """L [B]: minus a Gaussian's log-density, but for its constant."""
        here, there = x, recon
        if layer:
            (_, shown), _ = run("dis", joined([recon, x]), joined([y, y]))
            there, here = jnp.split(shown[layer - 1], 2)
        return losses.half_squared_error(there, here, there.ndim - 1) / config.scale**2

    def init(rng):
        x, z = jnp.zeros((1, *spec.image_shape)), jnp.zeros((1, config.latent + told))
        y = jnp.zeros((1, told)) if told else None
        inputs = {"enc": (x, y), "dec": z, "gen": z, "dis": (x, y)}
        params, stats = network.init(rng, **{name: inputs[name] for name in network.networks})
        opt = init_opt_state(players, params)
        averages = init_ema(AVERAGED if config.average else (), params, stats)
        return State(jnp.int32(0), params, opt, {"stats": stats} | averages)

    def step(state, batch, rng, axis_name=None):
        x, y = batch["image"], attributes(batch)
        if told:
            y = y * batch["labelled"][:, None]
        of_noise, of_prior = jax.random.split(rng)
        noise = jax.random.normal(of_noise, (x.shape[0], config.latent))
        z_prior = jax.random.normal(of_prior, noise.shape)

        def training(p, stats):
            return lambda *args: network.train(p, stats, *args, axis_name=axis_name)

        def coded(p, stats):
            mean, log_var, stats = posterior(training(p, stats), x, y)
            z = gaussian_draw(mean, log_var, noise)
            return z, losses.kl_to_standard_normal(mean, log_var), stats

        def fakes(p, stats):
            """One batch of all kinds, `[n B, ...]`, each with its image's attributes."""
            codes = [] if kinds == "reconstructions" else [z_prior]
            codes += [] if kinds == "prior" else [coded(p, stats)[0]]
            return made(training(p, stats), generator, joined(codes), joined([y] * len(codes)))

        def judged(p, stats, fake):
            """Logits of data `[B]` and of fakes `[n, B]`, which share one batch."""
            copies = 1 + len(fake) // len(x)
            (logits, _), stats = training(p, stats)("dis", joined([x, fake]), joined([y] * copies))
            logits = logits.reshape(copies, len(x))
            return logits[0], logits[1:], stats

        def likelihood(p, stats, z):
            recon, moved = made(training(p, stats), "dec", z, y)
            return recon, jnp.mean(unlikeness(training(p, stats), x, recon, y)), moved

        def encoder_loss(p, stats):
            z, rate, moved = coded(p, stats)
            recon, error, _ = likelihood(p, stats, z)
            cost = jnp.mean(rate) + error
            squares = jnp.mean(losses.half_squared_error(recon, x))
            metrics = {"loss": squares, "rate": jnp.mean(rate), "unlikeness": error}
            return cost, (metrics | {"encoder": cost}, moved)

        def fooling_cost(p, stats):
            fake, moved = fakes(p, stats)
            _, on_fake, _ = judged(p, stats, fake)
            return jnp.sum(jnp.mean(gan.generator_loss(on_fake), axis=1)), moved

        def decoder_loss(p, stats):
            _, cost, stats = likelihood(p, stats, coded(p, stats)[0])
            if config.variant == "vaegan":
                fooling, stats = fooling_cost(p, stats)
                cost = config.gamma * cost + game_weight * fooling
            return cost, ({"decoder": cost}, stats)

        def generator_loss(p, stats):
            cost, stats = fooling_cost(p, stats)
            return cost, ({"generator": cost}, stats)

        def discriminator_loss(p, stats):
            fake, _ = fakes(p, stats)
            on_real, on_fake, stats = judged(p, stats, fake)
            real, false = jnp.mean(gan.real_loss(on_real)), jnp.mean(gan.fake_loss(on_fake))
            cost = config.real_weight * real + (1 - config.real_weight) * false
            metrics = {"discriminator": cost, "cost_real": real, "cost_fake": false}
            if config.r1:
                judge = lambda x: network(p, stats, "dis", x, y)[0][:, 0]
                metrics["slope"] = losses.mean_squared_gradient_norm(judge, x)
                cost += 0.5 * config.r1 * metrics["slope"]
            return cost, (metrics, stats)

        turns = {
            "encoder": encoder_loss,
            "decoder": decoder_loss,
            "generator": generator_loss,
            "discriminator": discriminator_loss,
        }
        params, opt, stats, metrics = step_players(
            players, {name: turns[name] for name in players}, state.params, state.opt,
            state.extra["stats"], axis_name, config.simultaneous,
        )  # fmt: skip
        if config.variant == "gan":
            metrics["loss"] = metrics["generator"]
        may_move = {}
        if config.gate and "discriminator" in players:
            costs = metrics["cost_real"], metrics["cost_fake"]
            gates = balance_gate(*costs, config.gate_equilibrium, config.gate_margin)
            may_move = dict(zip(("discriminator", fooler), gates, strict=True))
            metrics |= {f"{name}_moves": jnp.float32(may) for name, may in may_move.items()}
        if config.gan_steps:
            gan_first = state.step < config.gan_steps
            for name in players:
                turn = gan_first if name in ("generator", "discriminator") else ~gan_first
                may_move[name] = turn & may_move.get(name, True)
        for name, may in may_move.items():  # a player that may not keeps its optimiser's state too
            keep = lambda new, old, may=may: jax.tree.map(partial(jnp.where, may), new, old)
            opt[name] = keep(opt[name], state.opt[name])
            params |= {net: keep(params[net], state.params[net]) for net in players[name].owns}
        keep = ema_decay(config.average, state.step)
        extra = {"stats": stats} | update_ema(keep, state.extra, params, stats)
        return state.replace(step=state.step + 1, params=params, opt=opt, extra=extra), metrics

    def as_learnt(state):
        params, stats = eval_params(state)
        return lambda *args: (network(params, stats, *args), stats)

    def evaluate(state, batch, rng):
        """`loss`: half the squared error of the mean code's reconstruction, over all pixels; for a
        GAN, by how much the discriminator beats chance, in nats."""
        x, y, run = batch["image"], attributes(batch), as_learnt(state)
        found = {}
        if config.variant != "gan":
            mean, log_var, _ = posterior(run, x, y)
            recon, _ = made(run, "dec", mean, y)
            found = {
                "loss": losses.half_squared_error(recon, x),
                "rate": losses.kl_to_standard_normal(mean, log_var),
                "unlikeness": unlikeness(run, x, recon, y),
            }
        if "dis" in network.networks:
            z = jax.random.normal(rng, (x.shape[0], config.latent))
            fake, _ = made(run, generator, z, y)
            real, false = (run("dis", image, y)[0][0][:, 0] for image in (x, fake))
            found |= {"logit_real": real, "logit_fake": false}
        if config.variant == "gan":
            found["loss"] = excess_over_chance(real, false)
        return found

    def encode(state, x, rng):
        return posterior(as_learnt(state), x, None)[0]

    def drawn(state, x, rng):
        mean, log_var, _ = posterior(as_learnt(state), x, None)
        return gaussian_draw(mean, log_var, jax.random.normal(rng, mean.shape))

    def decode(state, z, rng):
        return made(as_learnt(state), "dec", z, None)[0]

    def prior(rng, n):
        """`[n, Z]`; for a conditional model `[n, Z + K]`, labels of all classes alike."""
        of_z, of_y = jax.random.split(rng)
        z = jax.random.normal(of_z, (n, config.latent))
        if not told:
            return z
        y = jax.random.randint(of_y, (n,), 0, told)
        return jnp.concatenate([z, jax.nn.one_hot(y, told)], axis=-1)

    def sample(state, rng, n):
        return decode(state, prior(rng, n), rng)

    encodes = config.variant != "gan" and not told  # a conditional code needs the label as well
    return Model(
        init,
        step,
        evaluate,
        encode=encode if encodes else None,
        posterior=drawn if encodes else None,
        decode=decode,
        sample=sample,
        prior=prior,
        draws=config.variant in ("vaegan", "gan"),
        needs=_needs(config, network),
    )


def _needs(config: Config, network: nets.Bundle) -> tuple[Need, ...]:
    of_enc = of_batch_norm(encoder_norm=config.encoder_norm)
    of_dis = of_batch_norm(2, discriminator_norm=config.discriminator_norm)  # beside the fakes
    return (
        *of_batch_norm(generator_norm=config.generator_norm),
        *(of_enc if "enc" in network.networks else ()),
        *(of_dis if "dis" in network.networks else ()),
    )


def _players(config: Config) -> dict[str, Player]:
    """Who owns what, in the order of their turns."""
    slow, fast = (_optimiser(config, rate) for rate in (config.learning_rate, config.dis_rate))
    of_vae = {"encoder": Player(("enc",), slow), "decoder": Player(("dec",), slow)}
    critic = {"discriminator": Player(("dis",), fast)}
    return {
        "vaegan": of_vae | critic,
        "vae": of_vae,
        "vae_dis_l": of_vae | {"generator": Player(("gen",), slow)} | critic,
        "gan": {"generator": Player(("dec",), slow)} | critic,
    }[config.variant]


def _optimiser(config: Config, rate: float) -> optax.GradientTransformation:
    if config.optimiser == "adam":
        return adam(rate, config.decay_steps, config.beta1)

    def falling(count):
        share = jnp.minimum(count / max(config.decay_steps, 1), 1.0) ** 0.75
        return LAST_RATE + (1 - share) * (rate - LAST_RATE)

    weights = lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    return optax.chain(
        optax.add_decayed_weights(1e-5, weights),
        optax.rmsprop(falling if config.decay_steps else rate, decay=0.9, eps=1e-8),
    )
