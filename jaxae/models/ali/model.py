"""ALI and BiGAN: a GAN over pairs (image, code), which trains an encoder with the generator.

Dumoulin et al. 2017, arXiv:1606.00704 (ALI); Donahue, Krahenbuhl & Darrell 2017, arXiv:1605.09782
(BiGAN), independent work; IshmaelBelghazi/ALI and jeffdonahue/bigan.

    x [B,H,W,C]      image                        z [B,Z] ~ p(z)     sample of the prior
    z^ ~ q(z|x)      the encoder's code           x~ = G(z)          generated image
    T(x, z) [B]      the discriminator's logit, positive for "pair of the encoder"

Losses, means over the batch, with s(t) = log(1 + exp(t)), and the networks that each updates:

    critic      s(-T(x, z^)) + s(T(x~, z)) + r1/2 |grad_x T(x, z^)|^2     critic
    generator   s(T(x, z^)) + s(-T(x~, z))                                enc, gen

At the optimum both kinds of pairs have the same distribution, and q(z|x) is the posterior of the
generator; there is no reconstruction loss. Order of updates: both players from the parameters at
the start of the step, as in both official codes, with one batch of x and one of z (BiGAN's paper
draws a new batch for each player); else the discriminator first (`simultaneous`).

`method` chooses ALI or one of the baselines of the papers. In the baselines the GAN's discriminator
has x alone as input, and the encoder is trained in another way, or there is none:

    gan                   no encoder
    regressor             predicts z from G(z), in parallel with the GAN; G is not affected
    joint_regressor       the same; G minimises regression_weight times the regressor's loss too
    post_hoc_regressor    the same as regressor, after gan_steps, with the GAN frozen
    post_hoc_ali          the encoder's part of ALI, with a new discriminator of pairs, after
                          gan_steps, with the GAN frozen

Tasks: conditional, all networks have an embedding of the label as input, which is trained with the
generator; semisupervised, the discriminator has one logit for each class, T is their log-sum-exp,
and its loss is half of the above plus the cross-entropy of labelled pairs. The authors never
released that training: this is the parametrisation of openai/improved-gan, to which the first
author referred, without the average of the discriminator's weights that its script evaluates.

Options that are not in the papers: other normalisations of each network, moving averages of the
weights of encoder and generator, and R1 (Mescheder, Geiger & Nowozin 2018, arXiv:1801.04406), a
penalty on the discriminator's gradient at the encoder's pairs, with respect to x but not to z^.

Not implemented: ALI's convolutional networks (the networks here are BiGAN's dense ones for MNIST
and ALI's for the plane); the generalised BiGAN, whose encoder has larger images as input than the
discriminator; the baselines "autoencoder with an l1 loss" and "features of a GAN discriminator".
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxae import losses
from jaxae.models.ali.config import POST_HOC, Config
from jaxae.models.ali.forward_passes import ForwardPasses, latent_regression_loss
from jaxae.models.ali.networks import build_networks, example_inputs
from jaxae.models.shared.batch_needs import batch_norm_needs, labelled_batch_need
from jaxae.models.shared.discriminators import discriminator_advantage
from jaxae.models.shared.labels import get_labelled_batch
from jaxae.models.shared.reconstruction import reconstruction_ratio
from jaxae.training.state import (
    Model,
    Need,
    Player,
    Spec,
    State,
    adam,
    all_gather,
    ema_decay,
    eval_params,
    init_ema,
    init_opt_state,
    step_players,
    update_ema,
)

REGRESSORS = ("regressor", "joint_regressor", "post_hoc_regressor")
AVERAGED = ("enc", "gen", "embed")


def make(config: Config, spec: Spec, networks: Mapping[str, nn.Module] | None = None) -> Model:
    """ALI, or one of its baselines, for images of `spec`.

    Args:
        networks: your own modules by name (see `nets.replace_networks`).
            D: H*W*C; Z: `latent`; N: `noise` for posterior=universal, else 0; E: `embedding` for
            task=conditional, else 0; F: the last of `critic_widths` (or `widths`).
            `enc`: flattened image and noise `[B, D + N]`, and e `[B, E]` (conditional only) ->
            `[B, Z]`, or mean and log standard deviation `[B, 2Z]` (gaussian);
            `gen`: z and e `[B, Z + E]` -> image before `output` `[B, D]`;
            `critic`: x `[B, D]`, and z and e `[B, Z + E]` (method=ali only) -> the pair of logits
            `[B, 1]`, or `[B, K]` (semisupervised), and features `[B, F]`;
            `pair_critic` (post_hoc_ali): as `critic` of method=ali;
            `embed` (conditional): one-hot labels `[B, K]` -> `[B, E]`.
    Raises:
        ValueError: a task that needs labels on data without; `networks` that do not fit.
    """
    method, task = config.method, config.task
    if task != "plain" and not spec.classes:
        raise ValueError(f"task={task} needs labels, and this data has none")
    network, gan = build_networks(config, spec, networks), losses.gan_loss(config.game)
    players, passes = _players(config), ForwardPasses(config, spec, network)
    scale, noise_size = 0.5 if config.halved else 1.0, passes.noise_size

    def apply_eval(p, stats, name, *args):
        return network(p, stats, name, *args), stats

    # -- training ------------------------------------------------------------------------------

    def init(rng):
        params, stats = network.init(rng, **example_inputs(config, spec))
        opt = init_opt_state(players, params)
        averages = init_ema(AVERAGED if config.average else (), params, stats)
        return State(jnp.int32(0), params, opt, {"stats": stats} | averages)

    def step(state, batch, rng, axis_name=None):
        x, keys = batch["image"], jax.random.split(rng, 4)
        n = x.shape[0]
        z = sample_z(keys[0], n)
        noise, noise_fake = (jax.random.normal(key, (n, noise_size)) for key in keys[1:3])
        if task == "semisupervised":
            labelled = get_labelled_batch(batch, task)
            labelled_noise = jax.random.normal(keys[3], (labelled["image"].shape[0], noise_size))
        apply = lambda *args: network.train(*args, axis_name=axis_name)

        def encode_and_generate(p, stats):
            """z^, x~, the labels' embedding, and the statistics."""
            e = passes.embed_labels(p, batch.get("label"))
            code, _, stats = passes.encode(apply, p, stats, x, noise, e)
            fake, stats = passes.generate(apply, p, stats, z, e)
            return code, fake, e, stats

        def discriminator_loss(real, fake):
            return jnp.mean(gan.real_loss(real.logits)) + jnp.mean(gan.fake_loss(fake.logits))

        def add_r1(loss, p, stats, code=None, e=(), name="critic"):
            """A discriminator's loss with R1, and metrics."""
            metrics = {name: loss}
            if config.r1:
                discriminate = lambda x: (
                    passes.discriminate(apply_eval, p, stats, x, code, e, name)[0].logits
                )
                squared_norm = losses.mean_squared_gradient_norm(discriminate, x)
                metrics["squared_gradient_norm"] = squared_norm
                loss += 0.5 * config.r1 * squared_norm
            return loss, (metrics, stats)

        # method=ali

        def pair_critic_loss(p, stats):
            # The statistics of encoder and generator are updated by `pair_generator_loss`.
            code, fake, e, _ = encode_and_generate(p, stats)
            real, fake, stats = passes.discriminate_both(apply, p, stats, x, code, fake, z, e)
            if task == "semisupervised":
                supervised, stats = supervised_loss(p, stats)
                loss = supervised + 0.5 * discriminator_loss(real, fake)
                loss, (metrics, stats) = add_r1(loss, p, stats, code, e)
                return loss, (metrics | {"supervised": supervised}, stats)
            return add_r1(scale * discriminator_loss(real, fake), p, stats, code, e)

        def supervised_loss(p, stats):
            """Cross-entropy of labelled pairs over the K classes."""
            image, labels = labelled["image"], labelled["label"]
            e = passes.embed_labels(p, labels)
            code, _, _ = passes.encode(apply, p, stats, image, labelled_noise, e)
            out, stats = passes.discriminate(apply, p, stats, image, code, e)
            label_logits = jnp.take_along_axis(out.class_logits, labels[:, None], axis=-1)[:, 0]
            return jnp.mean(out.logits - label_logits), stats

        def pair_generator_loss(p, stats):
            code, fake, e, stats = encode_and_generate(p, stats)
            real, fake, _ = passes.discriminate_both(apply, p, stats, x, code, fake, z, e)
            if config.feature_matching:
                # |.| is not additive: it needs the means over the batch of all devices.
                features = all_gather((real.features, fake.features), axis_name)
                loss = losses.feature_matching(*features, power=1)
            else:
                # The encoder's pairs are to be classified as the generator's, and the reverse.
                both = gan.generator_loss(-real.logits), gan.generator_loss(fake.logits)
                loss = scale * (jnp.mean(both[0]) + jnp.mean(both[1]))
            return loss, ({"loss": loss, "generator": loss}, stats)

        # the baselines

        def image_critic_loss(p, stats):
            fake, _ = passes.generate(apply, p, stats, z)
            real, fake, stats = passes.discriminate_both(apply, p, stats, x, None, fake, None)
            return add_r1(scale * discriminator_loss(real, fake), p, stats)

        def image_generator_loss(p, stats):
            fake, stats = passes.generate(apply, p, stats, z)
            _, out, _ = passes.discriminate_both(apply, p, stats, x, None, fake, None)
            loss = scale * jnp.mean(gan.generator_loss(out.logits))
            if method == "joint_regressor":
                loss += config.regression_weight * predict_z_loss(p, stats, fake)[0]
            return loss, ({"loss": loss, "generator": loss}, stats)

        def predict_z_loss(p, stats, fake):
            """The mean loss of z predicted from G(z), and the statistics."""
            code, logits, stats = passes.encode(apply, p, stats, fake, noise_fake)
            return jnp.mean(latent_regression_loss(config.prior, logits, code, z)), stats

        def regressor_loss(p, stats):
            fake, _ = passes.generate(apply, p, stats, z)
            loss, stats = predict_z_loss(p, stats, fake)
            return loss, ({"regressor": loss}, stats)

        def post_hoc_critic_loss(p, stats):
            code, fake, _, _ = encode_and_generate(p, stats)
            real, fake, stats = passes.discriminate_both(
                apply, p, stats, x, code, fake, z, name="pair_critic"
            )
            loss = scale * discriminator_loss(real, fake)
            return add_r1(loss, p, stats, code, name="pair_critic")

        def post_hoc_encoder_loss(p, stats):
            code, _, stats = passes.encode(apply, p, stats, x, noise)
            fake, _ = passes.generate(apply, p, stats, z)
            real, _, _ = passes.discriminate_both(
                apply, p, stats, x, code, fake, z, name="pair_critic"
            )
            loss = scale * jnp.mean(gan.generator_loss(-real.logits))
            return loss, ({"encoder": loss}, stats)

        if method == "ali":
            player_losses = {"critic": pair_critic_loss, "generator": pair_generator_loss}
        else:
            player_losses = {
                "regressor": regressor_loss, "critic": image_critic_loss,
                "generator": image_generator_loss, "pair_critic": post_hoc_critic_loss,
                "encoder": post_hoc_encoder_loss,
            }  # fmt: skip
        player_losses = {name: loss for name, loss in player_losses.items() if name in players}
        if method in POST_HOC:
            updated = _step_phase(config, players, player_losses, state, axis_name)
        else:
            updated = step_players(
                players, player_losses, state.params, state.opt, state.extra["stats"], axis_name,
                config.simultaneous,
            )  # fmt: skip
        params, opt, stats, metrics = updated
        decay = ema_decay(config.average, state.step)
        extra = {"stats": stats} | update_ema(decay, state.extra, params, stats)
        return state.replace(step=state.step + 1, params=params, opt=opt, extra=extra), metrics

    # -- evaluation ----------------------------------------------------------------------------

    def encode_with_label(state, x, label, rng):
        """The input of `decode`: a code of x, with the one-hot label appended (conditional)."""
        noise = jax.random.normal(rng, (x.shape[0], noise_size))
        params, stats = eval_params(state)
        e = passes.embed_labels(params, label)
        return append_label(passes.encode(apply_eval, params, stats, x, noise, e)[0], label)

    def append_label(z, label):
        if task != "conditional":
            return z
        return jnp.concatenate([z, jax.nn.one_hot(label, spec.classes)], axis=-1)

    def encode(state, x, rng):
        return encode_with_label(state, x, None, rng)

    def decode(state, z, rng):
        z, label = z[:, : config.latent], z[:, config.latent :]
        params, stats = eval_params(state)
        e = (network(params, {}, "embed", label),) if task == "conditional" else ()
        return passes.generate(apply_eval, params, stats, z, e)[0]

    def evaluate(state, batch, rng):
        """`loss`: half the squared error of G(z^), z^ ~ q(z|x), summed over pixels; method=gan: 2
        log 2 minus the discriminator's cross-entropy, in nats."""
        x = batch["image"]
        if method == "gan":
            discriminate = lambda x: (
                passes.discriminate(apply_eval, *eval_params(state), x)[0].logits
            )
            real_logits, fake_logits = discriminate(x), discriminate(sample(state, rng, len(x)))
            loss = discriminator_advantage(real_logits, fake_logits)
            return {"loss": loss, "real_logits": real_logits, "fake_logits": fake_logits}
        code = encode_with_label(state, x, batch.get("label"), rng)
        error = losses.half_squared_error(decode(state, code, rng), x)
        return {"loss": error, "mse": 2 * error / x[0].size}

    def assess(state, data, rng):
        """The distance of reconstructions from their own images and from others."""

        @jax.jit
        def reconstruct(state, batch, rng):
            code = encode_with_label(state, batch["image"], batch.get("label"), rng)
            return decode(state, code, rng)

        return reconstruction_ratio(reconstruct, state, data, rng)

    def sample_z(rng, n):
        if config.prior == "uniform":
            return jax.random.uniform(rng, (n, config.latent), minval=-1.0, maxval=1.0)
        return jax.random.normal(rng, (n, config.latent))

    def prior(rng, n):
        rng_z, rng_label = jax.random.split(rng)
        label = None
        if task == "conditional":
            label = jax.random.randint(rng_label, (n,), 0, spec.classes)
        return append_label(sample_z(rng_z, n), label)

    def sample(state, rng, n):
        return decode(state, prior(rng, n), rng)

    def predict(state, x, rng):
        code = encode(state, x, rng)
        return passes.discriminate(apply_eval, *eval_params(state), x, code)[0].class_logits

    has_encoder = method != "gan"
    return Model(
        init,
        step,
        evaluate,
        encode=encode if has_encoder and task != "conditional" else None,  # it needs the label
        decode=decode,
        sample=sample,
        prior=prior,
        predict=predict if task == "semisupervised" else None,
        assess=assess if has_encoder else None,
        draws=True,
        needs=_needs(config),
    )


def _needs(config: Config) -> tuple[Need, ...]:
    encoder_norm = config.encoder_norm if config.method != "gan" else "none"
    of_discriminator = 2 if config.together else 1
    needs = batch_norm_needs(encoder_norm=encoder_norm, generator_norm=config.generator_norm)
    needs += batch_norm_needs(of_discriminator, discriminator_norm=config.critic_norm)
    if config.task != "semisupervised":
        return needs
    labelled_needs = batch_norm_needs(
        of="labels_batch", encoder_norm=encoder_norm, discriminator_norm=config.critic_norm
    )
    return (*needs, labelled_batch_need(config.task), *labelled_needs)


def _step_phase(
    config: Config, players: Any, player_losses: Any, state: State, axis_name: str | None
):
    """A step of the GAN's players, or after gan_steps of the others (post_hoc_...).

    The parameters of the players that pause keep every bit, and the metrics of their losses are 0.
    """

    def step_only(names):
        def step_some(state):
            active = {name: player_losses[name] for name in player_losses if name in names}
            params, opt, stats, metrics = step_players(
                players, active, state.params, state.opt, state.extra["stats"], axis_name,
                config.simultaneous,
            )  # fmt: skip
            names_of_metrics = ("loss", *player_losses)
            names_of_metrics += ("squared_gradient_norm",) if config.r1 else ()
            return params, opt, stats, dict.fromkeys(names_of_metrics, jnp.zeros(())) | metrics

        return step_some

    gan = ("critic", "generator")
    others = tuple(name for name in player_losses if name not in gan)
    return jax.lax.cond(state.step < config.gan_steps, step_only(gan), step_only(others), state)


def _players(config: Config) -> dict[str, Player]:
    """The networks that each player updates, and its optimiser."""
    critic, main = _optimiser(config, config.critic_rate), _optimiser(config, config.learning_rate)
    if config.method == "ali":
        owns = ("enc", "gen")
        if config.task == "conditional" and not config.freeze_embedding:
            owns = (*owns, "embed")
        return {"critic": Player(("critic",), critic), "generator": Player(owns, main)}
    players = {"critic": Player(("critic",), critic), "generator": Player(("gen",), main)}
    if config.method in REGRESSORS:
        players["regressor"] = Player(("enc",), main)
    if config.method == "post_hoc_ali":
        players["pair_critic"] = Player(("pair_critic",), critic)
        players["encoder"] = Player(("enc",), main)
    return players


def _optimiser(config: Config, rate: float) -> optax.GradientTransformation:
    if config.optimiser == "adam":
        return adam(rate, config.decay_steps, config.beta1)
    half = config.decay_steps / 2
    schedule = lambda count: rate * 0.01 ** jnp.clip((count - half) / half, 0.0, 1.0)
    return optax.chain(
        optax.add_decayed_weights(2.5e-5),
        optax.scale_by_adam(b1=config.beta1),
        optax.scale_by_learning_rate(schedule),
    )
