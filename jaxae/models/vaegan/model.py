"""VAE/GAN: a VAE whose decoder is a GAN's generator, with a loss of discriminator features.

Larsen, Sonderby, Larochelle & Winther 2016, arXiv:1512.09300; andersbll/
autoencoding_beyond_pixels: aegan.py, architectures.py, model/aegan.py.

    x [B,H,W,C]   image                     z ~ q(z|x)      code, q = N(mean(x), diag var(x))
    x~ = Dec(z)   reconstruction            x_p = Dec(z_p)  generated image, z_p ~ N(0, I)
    T(x) [B]      discriminator's logit; D(x) = sigmoid(T(x)) is the probability of "data"
    Dis_l(x)      its layer l, before normalisation and activation (l = 0: the pixels)
    y [B,K]       attributes, here the one-hot label (`conditional`)

With the feature loss  L = |Dis_l(x) - Dis_l(x~)|^2 / (2 scale^2)  and the adversarial loss
A(t) = log(1 - sigmoid(t)) (game=saturating) or -log sigmoid(t), the losses, means over the batch:

    encoder        KL(q(z|x) || N(0, I)) + L
    decoder        gamma L + (1 - gamma) (A(T(x~)) + A(T(x_p)))
    discriminator  -1/2 log D(x) - 1/4 log(1 - D(x~)) - 1/4 log(1 - D(x_p)) + r1/2 |grad T(x)|^2

L is -log p(Dis_l(x) | z) without its constant; L and the KL are sums over features and dimensions.
Each loss is minimised with respect to its own network: the adversarial losses do not train the
encoder, and L does not train the discriminator. Order of updates: all three from the parameters at
the start of the step, as in the official code; else one after the other (`simultaneous`).

Batches, as in the official code: L has a forward pass of the discriminator of its own (x~ and x as
one batch), the adversarial losses have another (data and fakes as one batch), and only the latter
updates the discriminator's batch statistics.

Options that are not in the paper: normalisation of each network, R1 (Mescheder, Geiger & Nowozin
2018, arXiv:1801.04406), and moving averages of the weights.

Deviations: pixels in [0, 1] and a sigmoid, where the official images are in [-1, 1] with a tanh;
the posterior's log-variance is bounded smoothly to (-10, 10). The official library's adversarial
prior on z is not implemented (`aae` is that model).
"""

from collections.abc import Mapping
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxae import losses, nets
from jaxae.models.shared.batch_needs import batch_norm_needs
from jaxae.models.shared.discriminators import discriminator_advantage
from jaxae.models.shared.gaussian import mean_and_log_var, reparameterise
from jaxae.models.vaegan.adversarial_losses import adversarial_losses, select_updates
from jaxae.models.vaegan.config import Config
from jaxae.models.vaegan.networks import build_networks, concatenate, example_inputs
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
FINAL_RATE = 1e-5 / 64  # at which the official learning rates end, whatever their initial value


def make(config: Config, spec: Spec, networks: Mapping[str, nn.Module] | None = None) -> Model:
    """The VAE/GAN, or one of its variants, for images of `spec`.

    Args:
        networks: your own modules by name (see `nets.replace_networks`).
            x: images `[B, H, W, C]`; y: one-hot labels `[B, K]` if conditional, else None; Z:
            `latent`, and K more if conditional, in the decoder's input.
            `enc`: x, y -> mean and log-variance `[B, 2 * latent]`, and the hidden layers;
            `dis`: x, y -> logits `[B, 1]`, and the hidden layers;
            `dec`: `[B, Z]` -> image before `output`, `[B, H*W*C]` (mlp) or `[B, H, W, C]` (conv);
            `gen` (vae_dis_l): as `dec`.
            Hidden layers are a list of arrays with the shapes of the default network: `[B, width]`
            for each of `widths`, or `[B, h, w, c]` for each of `enc_channels` or `dis_channels`.
    Raises:
        ValueError: labels that the data lacks, an image too small for the convolutions, an unknown
            activation, `networks` that do not fit.
    """
    if config.conditional and not spec.classes:
        raise ValueError("conditional needs labels, and this data has none")
    network, players = build_networks(config, spec, networks), _players(config)
    gan, layer = adversarial_losses(config.game, config.log_floor), config.measured_in
    to_pixels = output_activation(config.output)
    generator = "gen" if config.variant == "vae_dis_l" else "dec"
    adversary = "generator" if "generator" in players else "decoder"
    fake_kinds = config.fakes if config.variant == "vaegan" else "prior"
    adversarial_weight = 1 - config.gamma if config.beside_gamma == "complement" else 1.0
    num_labels = spec.classes if config.conditional else 0

    # -- forward passes ------------------------------------------------------------------------
    # `apply(name, *inputs) -> output, stats` calls a network, in training with the batch statistics
    # of its inputs (`apply_train` in `step`), in evaluation with their averages (`apply_eval`).

    def attributes(batch):
        return jax.nn.one_hot(batch["label"], num_labels) if num_labels else None

    def posterior_parameters(apply, x, y):
        """Mean and log-variance of q(z|x), and the statistics."""
        (out, _), stats = apply("enc", x, y)
        return *mean_and_log_var(out), stats

    def generate(apply, name, z, y):
        out, stats = apply(name, concatenate([z, y], axis=-1))
        return to_pixels(out).reshape(-1, *spec.image_shape), stats

    def feature_nll(apply, x, recon, y):
        """L [B]."""
        features, recon_features = x, recon
        if layer:
            (_, hidden), _ = apply("dis", concatenate([recon, x]), concatenate([y, y]))
            recon_features, features = jnp.split(hidden[layer - 1], 2)
        axes = recon_features.ndim - 1
        return losses.half_squared_error(recon_features, features, axes) / config.scale**2

    # -- training ------------------------------------------------------------------------------

    def init(rng):
        params, stats = network.init(rng, **example_inputs(config, spec))
        opt = init_opt_state(players, params)
        averages = init_ema(AVERAGED if config.average else (), params, stats)
        return State(jnp.int32(0), params, opt, {"stats": stats} | averages)

    def step(state, batch, rng, axis_name=None):
        x, y = batch["image"], attributes(batch)
        if num_labels:
            y = y * batch["labelled"][:, None]
        rng_noise, rng_prior = jax.random.split(rng)
        noise = jax.random.normal(rng_noise, (x.shape[0], config.latent))
        z_prior = jax.random.normal(rng_prior, noise.shape)

        def apply_train(p, stats):
            return lambda *args: network.train(p, stats, *args, axis_name=axis_name)

        def encode_batch(p, stats):
            """z ~ q(z|x), KL(q(z|x) || N(0, I)) [B], and the statistics."""
            mean, log_var, stats = posterior_parameters(apply_train(p, stats), x, y)
            z = reparameterise(mean, log_var, noise)
            return z, losses.kl_to_standard_normal(mean, log_var), stats

        def generate_fakes(p, stats):
            """The fakes of all kinds as one batch `[n B, ...]`, each with its image's labels."""
            codes = [] if fake_kinds == "reconstructions" else [z_prior]
            codes += [] if fake_kinds == "prior" else [encode_batch(p, stats)[0]]
            labels = concatenate([y] * len(codes))
            return generate(apply_train(p, stats), generator, concatenate(codes), labels)

        def discriminate(p, stats, fake):
            """Logits of data `[B]` and of fakes `[n, B]`, as one batch, and the statistics."""
            kinds = 1 + len(fake) // len(x)
            images, labels = concatenate([x, fake]), concatenate([y] * kinds)
            (logits, _), stats = apply_train(p, stats)("dis", images, labels)
            logits = logits.reshape(kinds, len(x))
            return logits[0], logits[1:], stats

        def reconstruct(p, stats, z):
            """x~, the mean of L, and the statistics."""
            recon, new_stats = generate(apply_train(p, stats), "dec", z, y)
            return recon, jnp.mean(feature_nll(apply_train(p, stats), x, recon, y)), new_stats

        def adversarial_loss(p, stats):
            """The generator's loss, a sum over the kinds of fakes, and the statistics."""
            fake, new_stats = generate_fakes(p, stats)
            _, fake_logits, _ = discriminate(p, stats, fake)
            return jnp.sum(jnp.mean(gan.generator_loss(fake_logits), axis=1)), new_stats

        def encoder_loss(p, stats):
            z, rate, new_stats = encode_batch(p, stats)
            recon, nll, _ = reconstruct(p, stats, z)
            loss = jnp.mean(rate) + nll
            error = jnp.mean(losses.half_squared_error(recon, x))
            metrics = {"loss": error, "rate": jnp.mean(rate), "feature_nll": nll, "encoder": loss}
            return loss, (metrics, new_stats)

        def decoder_loss(p, stats):
            _, loss, stats = reconstruct(p, stats, encode_batch(p, stats)[0])
            if config.variant == "vaegan":
                adversarial, stats = adversarial_loss(p, stats)
                loss = config.gamma * loss + adversarial_weight * adversarial
            return loss, ({"decoder": loss}, stats)

        def generator_loss(p, stats):
            loss, stats = adversarial_loss(p, stats)
            return loss, ({"generator": loss}, stats)

        def discriminator_loss(p, stats):
            fake, _ = generate_fakes(p, stats)
            real_logits, fake_logits, stats = discriminate(p, stats, fake)
            real_loss = jnp.mean(gan.real_loss(real_logits))
            fake_loss = jnp.mean(gan.fake_loss(fake_logits))
            loss = config.real_weight * real_loss + (1 - config.real_weight) * fake_loss
            metrics = {"discriminator": loss, "real_loss": real_loss, "fake_loss": fake_loss}
            if config.r1:
                logits = lambda x: network(p, stats, "dis", x, y)[0][:, 0]
                squared_norm = losses.mean_squared_gradient_norm(logits, x)
                metrics["squared_gradient_norm"] = squared_norm
                loss += 0.5 * config.r1 * squared_norm
            return loss, (metrics, stats)

        player_losses = {"encoder": encoder_loss, "decoder": decoder_loss,
                         "generator": generator_loss,
                         "discriminator": discriminator_loss}  # fmt: skip
        params, opt, stats, metrics = step_players(
            players, {name: player_losses[name] for name in players}, state.params, state.opt,
            state.extra["stats"], axis_name, config.simultaneous,
        )  # fmt: skip
        if config.variant == "gan":
            metrics["loss"] = metrics["generator"]
        updated = {}
        if config.gate and "discriminator" in players:
            both = metrics["real_loss"], metrics["fake_loss"]
            selected = select_updates(*both, config.gate_equilibrium, config.gate_margin)
            updated = dict(zip(("discriminator", adversary), selected, strict=True))
            metrics |= {f"{name}_updated": jnp.float32(flag) for name, flag in updated.items()}
        if config.gan_steps:
            trains_gan = state.step < config.gan_steps
            for name in players:
                active = trains_gan if name in ("generator", "discriminator") else ~trains_gan
                updated[name] = active & updated.get(name, True)
        for name, flag in updated.items():  # a skipped player keeps its optimiser's state too
            select = lambda new, old, flag=flag: jax.tree.map(partial(jnp.where, flag), new, old)
            opt[name] = select(opt[name], state.opt[name])
            params |= {net: select(params[net], state.params[net]) for net in players[name].owns}
        decay = ema_decay(config.average, state.step)
        extra = {"stats": stats} | update_ema(decay, state.extra, params, stats)
        return state.replace(step=state.step + 1, params=params, opt=opt, extra=extra), metrics

    # -- evaluation ----------------------------------------------------------------------------

    def apply_eval(state):
        params, stats = eval_params(state)
        return lambda *args: (network(params, stats, *args), stats)

    def evaluate(state, batch, rng):
        """`loss`: half the squared error of the reconstruction from the posterior mean, summed over
        pixels; variant=gan: 2 log 2 minus the discriminator's cross-entropy, in nats."""
        x, y, apply = batch["image"], attributes(batch), apply_eval(state)
        numbers = {}
        if config.variant != "gan":
            mean, log_var, _ = posterior_parameters(apply, x, y)
            recon, _ = generate(apply, "dec", mean, y)
            numbers = {
                "loss": losses.half_squared_error(recon, x),
                "rate": losses.kl_to_standard_normal(mean, log_var),
                "feature_nll": feature_nll(apply, x, recon, y),
            }
        if "dis" in network.networks:
            z = jax.random.normal(rng, (x.shape[0], config.latent))
            fake, _ = generate(apply, generator, z, y)
            real_logits, fake_logits = (apply("dis", image, y)[0][0][:, 0] for image in (x, fake))
            numbers |= {"real_logits": real_logits, "fake_logits": fake_logits}
        if config.variant == "gan":
            numbers["loss"] = discriminator_advantage(real_logits, fake_logits)
        return numbers

    def encode(state, x, rng):
        return posterior_parameters(apply_eval(state), x, None)[0]

    def sample_posterior(state, x, rng):
        mean, log_var, _ = posterior_parameters(apply_eval(state), x, None)
        return reparameterise(mean, log_var, jax.random.normal(rng, mean.shape))

    def decode(state, z, rng):
        return generate(apply_eval(state), "dec", z, None)[0]

    def prior(rng, n):
        """`[n, Z]`; for a conditional model `[n, Z + K]`, with uniformly random labels."""
        rng_z, rng_y = jax.random.split(rng)
        z = jax.random.normal(rng_z, (n, config.latent))
        if not num_labels:
            return z
        y = jax.random.randint(rng_y, (n,), 0, num_labels)
        return jnp.concatenate([z, jax.nn.one_hot(y, num_labels)], axis=-1)

    def sample(state, rng, n):
        return decode(state, prior(rng, n), rng)

    encodes = config.variant != "gan" and not num_labels  # a conditional code needs the label too
    return Model(
        init,
        step,
        evaluate,
        encode=encode if encodes else None,
        posterior=sample_posterior if encodes else None,
        decode=decode,
        sample=sample,
        prior=prior,
        draws=config.variant in ("vaegan", "gan"),
        needs=_needs(config, network),
    )


def _needs(config: Config, network: nets.Bundle) -> tuple[Need, ...]:
    encoder = batch_norm_needs(encoder_norm=config.encoder_norm)
    # The discriminator normalises an image and at least one fake together.
    discriminator = batch_norm_needs(2, discriminator_norm=config.discriminator_norm)
    return (
        *batch_norm_needs(generator_norm=config.generator_norm),
        *(encoder if "enc" in network.networks else ()),
        *(discriminator if "dis" in network.networks else ()),
    )


def _players(config: Config) -> dict[str, Player]:
    """The network that each player updates, and its optimiser, in the order of updates."""
    tx, dis_tx = (_optimiser(config, rate) for rate in (config.learning_rate, config.dis_rate))
    vae = {"encoder": Player(("enc",), tx), "decoder": Player(("dec",), tx)}
    discriminator = {"discriminator": Player(("dis",), dis_tx)}
    return {
        "vaegan": vae | discriminator,
        "vae": vae,
        "vae_dis_l": vae | {"generator": Player(("gen",), tx)} | discriminator,
        "gan": {"generator": Player(("dec",), tx)} | discriminator,
    }[config.variant]


def _optimiser(config: Config, rate: float) -> optax.GradientTransformation:
    if config.optimiser == "adam":
        return adam(rate, config.decay_steps, config.beta1)

    def schedule(count):
        progress = jnp.minimum(count / max(config.decay_steps, 1), 1.0) ** 0.75
        return FINAL_RATE + (1 - progress) * (rate - FINAL_RATE)

    weights = lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    return optax.chain(
        optax.add_decayed_weights(1e-5, weights),
        optax.rmsprop(schedule if config.decay_steps else rate, decay=0.9, eps=1e-8),
    )
