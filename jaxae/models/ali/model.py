"""ALI and BiGAN: an encoder and a generator that a discriminator of pairs cannot tell apart.

Dumoulin et al. 2017, arXiv:1606.00704 (ALI); Donahue, Krahenbuhl & Darrell 2017, arXiv:1605.09782
(BiGAN), found independently; IshmaelBelghazi/ALI and jeffdonahue/bigan.

x [B,H,W,C] image; z [B,Z] ~ p(z); z^ ~ q(z|x) the encoder's code; x~ = G(z); T(x, z) the
discriminator's logit, positive where it believes in the encoder's pairs.

    critic      mean softplus(-T(x, z^)) + mean softplus(T(x~, z))
    generator   mean softplus(T(x, z^)) + mean softplus(-T(x~, z)); moves encoder and generator

Where the game ends both pairs have one distribution, and q(z|x) is the posterior of the generator:
no reconstruction is ever asked for. Both players move from the same parameters, as in both codes,
on one batch of x and one of z (BiGAN's paper describes fresh ones for each).

Beside the game stand the methods that the papers compare it with. All have a GAN whose
discriminator sees x alone, and differ in how an encoder is had:

    gan                   none
    regressor             learns z from G(z) beside the GAN, which does not notice
    joint_regressor       the same, and the generator pays for a share of its error
    post_hoc_regressor    the same, after gan_steps, when the GAN has frozen
    post_hoc_ali          the encoder's half of the game of pairs, with a new discriminator, after
                          gan_steps

Tasks: conditional, where all networks see an embedding of the label, which belongs to the
generator; semisupervised, where the discriminator has a score for each class, T is their
log-sum-exp, and labelled pairs are classified. That training was never released: what is written
here is the parametrisation of openai/improved-gan, to which its author referred; an average of the
discriminator's weights, which that script evaluates, is not kept.

Options that are not the papers': another normalisation for each network, averages of the weights of
encoder and generator, and R1 (Mescheder, Geiger & Nowozin 2018, arXiv:1801.04406), a penalty of the
discriminator's slope at the encoder's pairs, by x alone: the code beside it is held.

Not built: ALI's convolutional networks (ours are BiGAN's dense ones of MNIST and ALI's of the
plane), the generalised BiGAN, whose encoder sees a larger image than the discriminator, and of the
baselines the autoencoder with an l1 error and the probe of a GAN discriminator's features.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxae import losses, nets
from jaxae.models.ali.config import POST_HOC, Config
from jaxae.models.ali.networks import Critic, Encoder, Generator
from jaxae.models.ali.parts import Parts, regression_error
from jaxae.models.shared.batch_needs import of_batch_norm, of_labels
from jaxae.models.shared.discriminators import excess_over_chance
from jaxae.models.shared.labels import supervised_examples
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

REGRESSED = ("regressor", "joint_regressor", "post_hoc_regressor")
AVERAGED = ("enc", "gen", "embed")


def make(config: Config, spec: Spec) -> Model:
    """ALI, or one of the methods it is compared with, for images of `spec`.

    Raises:
        ValueError: a task that needs labels on data without.
    """
    method, task = config.method, config.task
    if task != "plain" and not spec.classes:
        raise ValueError(f"task={task} needs labels, and this data has none")
    network, gan, players = _networks(config, spec), losses.gan_loss(config.game), _players(config)
    parts = Parts(config, spec, network)
    share, noise_size = 0.5 if config.halved else 1.0, parts.noise_size

    def init(rng):
        pixels = int(np.prod(spec.image_shape))
        e = jnp.zeros((1, config.embedding)) if task == "conditional" else jnp.zeros((1, 0))
        x, z = jnp.zeros((1, pixels)), jnp.zeros((1, config.latent))
        seen = jnp.zeros((1, pixels + (noise_size if config.posterior == "universal" else 0)))
        ze = jnp.concatenate([z, e], axis=-1)
        examples = {
            "enc": (seen, e) if task == "conditional" else seen,
            "gen": ze,
            "critic": (x, ze) if method == "ali" else x,
            "pair_critic": (x, z),
            "embed": jnp.zeros((1, spec.classes)),
        }
        params, stats = network.init(rng, **examples)
        opt = init_opt_state(players, params)
        averages = init_ema(AVERAGED if config.average else (), params, stats)
        return State(jnp.int32(0), params, opt, {"stats": stats} | averages)

    def step(state, batch, rng, axis_name=None):
        x, keys = batch["image"], jax.random.split(rng, 4)
        n = x.shape[0]
        z = prior_of_z(keys[0], n)
        noise, noise_of_fakes = (jax.random.normal(key, (n, noise_size)) for key in keys[1:3])
        if task == "semisupervised":
            few = supervised_examples(batch, task)
            few_noise = jax.random.normal(keys[3], (few["image"].shape[0], noise_size))
        run = lambda *args: network.train(*args, axis_name=axis_name)

        def pairs(p, stats):
            """The encoder's code of x, the image of z, the label's embedding, the statistics."""
            e = parts.embedded(p, batch.get("label"))
            code, _, stats = parts.encoded(run, p, stats, x, noise, e)
            fake, stats = parts.generated(run, p, stats, z, e)
            return code, fake, e, stats

        def told_apart(on_q, on_p):
            return jnp.mean(gan.real_loss(on_q.logit)) + jnp.mean(gan.fake_loss(on_p.logit))

        def with_slope(cost, p, stats, code=None, e=(), name="critic"):
            """A discriminator's cost with the penalty of its slope, and metrics of the two."""
            metrics = {name: cost}
            if config.r1:
                judge = lambda x: parts.judged(as_is, p, stats, x, code, e, name)[0].logit
                metrics["slope"] = losses.mean_squared_gradient_norm(judge, x)
                cost += 0.5 * config.r1 * metrics["slope"]
            return cost, (metrics, stats)

        def classified(p, stats):
            """Cross-entropy of the labelled pairs among the K classes of data."""
            e = parts.embedded(p, few["label"])
            code, _, _ = parts.encoded(run, p, stats, few["image"], few_noise, e)
            seen, stats = parts.judged(run, p, stats, few["image"], code, e)
            right = jnp.take_along_axis(seen.scores, few["label"][:, None], axis=-1)[:, 0]
            return jnp.mean(seen.logit - right), stats

        def critic(p, stats):
            # Whoever owns encoder and generator moves their averages in its own turn.
            code, fake, e, _ = pairs(p, stats)
            on_q, on_p, stats = parts.both_judged(run, p, stats, x, code, fake, z, e)
            if task == "semisupervised":
                supervised, stats = classified(p, stats)
                cost = supervised + 0.5 * told_apart(on_q, on_p)
                cost, (metrics, stats) = with_slope(cost, p, stats, code, e)
                return cost, (metrics | {"supervised": supervised}, stats)
            return with_slope(share * told_apart(on_q, on_p), p, stats, code, e)

        def generator(p, stats):
            code, fake, e, stats = pairs(p, stats)
            on_q, on_p, _ = parts.both_judged(run, p, stats, x, code, fake, z, e)
            if config.feature_matching:
                # |.| wants the whole batch's means.
                seen = all_gather((on_q.hidden, on_p.hidden), axis_name)
                cost = losses.feature_matching(*seen, power=1)
            else:  # the encoder is to make its pairs look like the generator's, and vice versa
                fooled = jnp.mean(gan.generator_loss(-on_q.logit)) + jnp.mean(
                    gan.generator_loss(on_p.logit)
                )
                cost = share * fooled
            return cost, ({"loss": cost, "generator": cost}, stats)

        def image_critic(p, stats):
            fake, _ = parts.generated(run, p, stats, z)
            on_x, on_fake, stats = parts.both_judged(run, p, stats, x, None, fake, None)
            return with_slope(share * told_apart(on_x, on_fake), p, stats)

        def regression(p, stats, fake):
            """The mean error of the code that the encoder finds in G(z), and the statistics."""
            code, raw, stats = parts.encoded(run, p, stats, fake, noise_of_fakes)
            return jnp.mean(regression_error(config.prior, raw, code, z)), stats

        def image_generator(p, stats):
            fake, stats = parts.generated(run, p, stats, z)
            _, on_fake, _ = parts.both_judged(run, p, stats, x, None, fake, None)
            cost = share * jnp.mean(gan.generator_loss(on_fake.logit))
            if method == "joint_regressor":
                cost += config.regression_weight * regression(p, stats, fake)[0]
            return cost, ({"loss": cost, "generator": cost}, stats)

        def regressor(p, stats):
            fake, _ = parts.generated(run, p, stats, z)
            cost, stats = regression(p, stats, fake)
            return cost, ({"regressor": cost}, stats)

        def pair_critic(p, stats):
            code, fake, _, _ = pairs(p, stats)
            on_q, on_p, stats = parts.both_judged(
                run, p, stats, x, code, fake, z, name="pair_critic"
            )
            cost = share * told_apart(on_q, on_p)
            return with_slope(cost, p, stats, code, name="pair_critic")

        def encoder(p, stats):
            code, _, stats = parts.encoded(run, p, stats, x, noise)
            fake, _ = parts.generated(run, p, stats, z)
            on_q, _, _ = parts.both_judged(run, p, stats, x, code, fake, z, name="pair_critic")
            cost = share * jnp.mean(gan.generator_loss(-on_q.logit))
            return cost, ({"encoder": cost}, stats)

        of_pairs = {"critic": critic, "generator": generator}
        of_images = {"regressor": regressor, "critic": image_critic, "generator": image_generator,
                     "pair_critic": pair_critic, "encoder": encoder}  # fmt: skip
        turns = {name: loss for name, loss in (of_pairs if method == "ali" else of_images).items()
                 if name in players}  # fmt: skip
        if method in POST_HOC:
            moved = _in_its_phase(config, players, turns, state, axis_name)
        else:
            moved = step_players(
                players, turns, state.params, state.opt, state.extra["stats"], axis_name,
                config.simultaneous,
            )  # fmt: skip
        params, opt, stats, metrics = moved
        keep = ema_decay(config.average, state.step)
        extra = {"stats": stats} | update_ema(keep, state.extra, params, stats)
        return state.replace(step=state.step + 1, params=params, opt=opt, extra=extra), metrics

    def as_is(p, stats, name, *args):
        return network(p, stats, name, *args), stats

    def code_and_label(state, x, label, rng):
        """What `decode` takes: a code of x, and beside it the label where there is a condition."""
        noise = jax.random.normal(rng, (x.shape[0], noise_size))
        params, stats = eval_params(state)
        e = parts.embedded(params, label)
        z = parts.encoded(as_is, params, stats, x, noise, e)[0]
        return with_label(z, label)

    def with_label(z, label):
        if task != "conditional":
            return z
        return jnp.concatenate([z, jax.nn.one_hot(label, spec.classes)], axis=-1)

    def encode(state, x, rng):
        return code_and_label(state, x, None, rng)

    def decode(state, z, rng):
        z, label = z[:, : config.latent], z[:, config.latent :]
        params, stats = eval_params(state)
        e = (network(params, {}, "embed", label),) if task == "conditional" else ()
        return parts.generated(as_is, params, stats, z, e)[0]

    def evaluate(state, batch, rng):
        """`loss`: half the squared error of G(z^), z^ ~ q(z|x), summed over pixels; without an
        encoder by how much the discriminator beats chance, in nats."""
        x = batch["image"]
        if method == "gan":
            ask = lambda x: parts.judged(as_is, *eval_params(state), x)[0].logit
            real, fake = ask(x), ask(sample(state, rng, len(x)))
            loss = excess_over_chance(real, fake)
            return {"loss": loss, "logit_real": real, "logit_fake": fake}
        code = code_and_label(state, x, batch.get("label"), rng)
        error = losses.half_squared_error(decode(state, code, rng), x)
        return {"loss": error, "mse": 2 * error / x[0].size}

    def assess(state, data, rng):
        """How far a reconstruction is from its own image, and how far from another one."""
        fresh = jax.jit(lambda state, batch, rng: decode(
            state, code_and_label(state, batch["image"], batch.get("label"), rng), rng
        ))  # fmt: skip
        return reconstruction_ratio(fresh, state, data, rng)

    def prior_of_z(rng, n):
        if config.prior == "uniform":
            return jax.random.uniform(rng, (n, config.latent), minval=-1.0, maxval=1.0)
        return jax.random.normal(rng, (n, config.latent))

    def prior(rng, n):
        of_z, of_label = jax.random.split(rng)
        label = None
        if task == "conditional":
            label = jax.random.randint(of_label, (n,), 0, spec.classes)
        return with_label(prior_of_z(of_z, n), label)

    def sample(state, rng, n):
        return decode(state, prior(rng, n), rng)

    def predict(state, x, rng):
        code = encode(state, x, rng)
        return parts.judged(as_is, *eval_params(state), x, code)[0].scores

    infers = method != "gan"
    return Model(
        init,
        step,
        evaluate,
        encode=encode if infers and task != "conditional" else None,  # it would need the label
        decode=decode,
        sample=sample,
        prior=prior,
        predict=predict if task == "semisupervised" else None,
        assess=assess if infers else None,
        draws=True,
        needs=_needs(config),
    )


def _needs(config: Config) -> tuple[Need, ...]:
    encoder = config.encoder_norm if config.method != "gan" else "none"
    beside = 2 if config.together else 1
    found = of_batch_norm(encoder_norm=encoder, generator_norm=config.generator_norm)
    found += of_batch_norm(beside, discriminator_norm=config.critic_norm)
    if config.task != "semisupervised":
        return found
    of_few = of_batch_norm(
        of="labels_batch", encoder_norm=encoder, discriminator_norm=config.critic_norm
    )
    return (*found, of_labels(config.task), *of_few)


def _in_its_phase(config: Config, players: Any, turns: Any, state: State, axis_name: str | None):
    """One step of the phase that the step belongs to; who rests keeps every bit, and costs 0."""

    def phase(names):
        def run_phase(state):
            now = {name: turns[name] for name in turns if name in names}
            params, opt, stats, seen = step_players(
                players, now, state.params, state.opt, state.extra["stats"], axis_name,
                config.simultaneous,
            )  # fmt: skip
            metrics = ("loss", *turns, *(["slope"] if config.r1 else []))
            resting = dict.fromkeys(metrics, jnp.zeros(()))
            return params, opt, stats, resting | seen

        return run_phase

    gan = ("critic", "generator")
    later = tuple(name for name in turns if name not in gan)
    return jax.lax.cond(state.step < config.gan_steps, phase(gan), phase(later), state)


def _networks(config: Config, spec: Spec) -> nets.Bundle:
    """enc, gen, critic, and where the method or task has them pair_critic and embed."""
    pixels = int(np.prod(spec.image_shape))
    style, deviation = config.network, config.deviation
    sizes = 2 * config.latent if config.posterior == "gaussian" else config.latent
    judge = lambda out: Critic(
        config.critic_widths or config.widths, out, style, deviation,
        zero_start=config.zero_start, norm=config.critic_norm,
    )  # fmt: skip
    found = {
        "gen": Generator(
            config.gen_widths or config.widths, pixels, style, deviation, config.generator_norm
        ),
        "critic": judge(spec.classes if config.task == "semisupervised" else 1),
    }
    if config.method != "gan":
        found["enc"] = Encoder(config.widths, sizes, style, deviation, config.encoder_norm)
    if config.method == "post_hoc_ali":
        found["pair_critic"] = judge(1)
    if config.task == "conditional":
        found["embed"] = nn.Dense(config.embedding, kernel_init=nets.kernel_init(deviation))
    return nets.Bundle(**found)


def _players(config: Config) -> dict[str, Player]:
    """Who moves what."""
    critic, main = _descent(config, config.critic_rate), _descent(config, config.learning_rate)
    if config.method == "ali":
        owns = ("enc", "gen")
        if config.task == "conditional" and not config.freeze_embedding:
            owns = (*owns, "embed")
        return {"critic": Player(("critic",), critic), "generator": Player(owns, main)}
    players = {"critic": Player(("critic",), critic), "generator": Player(("gen",), main)}
    if config.method in REGRESSED:
        players["regressor"] = Player(("enc",), main)
    if config.method == "post_hoc_ali":
        players["pair_critic"] = Player(("pair_critic",), critic)
        players["encoder"] = Player(("enc",), main)
    return players


def _descent(config: Config, rate: float) -> optax.GradientTransformation:
    if config.optimiser == "adam":
        return adam(rate, config.decay_steps, config.beta1)
    half = config.decay_steps / 2
    fall = lambda count: rate * 0.01 ** jnp.clip((count - half) / half, 0.0, 1.0)
    return optax.chain(
        optax.add_decayed_weights(2.5e-5),
        optax.scale_by_adam(b1=config.beta1),
        optax.scale_by_learning_rate(fall),
    )
