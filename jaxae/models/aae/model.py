"""AAE: an autoencoder whose codes a discriminator matches to a chosen prior distribution.

Makhzani, Shlens, Jaitly, Goodfellow & Frey 2016, arXiv:1511.05644. No code of the authors is
public, and the text of the paper was not available: sizes, learning rates and priors follow
reimplementations and memory, and the recipes say so. Deviation: the initial bias of the decoder's
last layer is the mean image, also in the recipes of the paper, where all biases start at zero.

    x [B,H,W,C]      image                          z = q(x) [B,Z]   code, the encoder's output
    y [B,K]          class probabilities            z' ~ p(z)        sample of the prior
    x^ = g(y, z)     reconstruction                 y' ~ Cat(1/K)    one-hot sample of the prior
    T_z(z), T_y(y)   the discriminators' logits, positive for "sample of the prior"

Losses, means over the batch, with s(t) = log(1 + exp(t)), and the networks that each updates. The
phases of a step run in this order, each from the parameters that the phase before has left:

    reconstruction   |x - x^|^2 / 2, summed over pixels     trunk, code, label, dec (and heads)
    critic_z         s(-T_z(z')) + s(T_z(z))                critic_z
    critic_y         s(-T_y(y')) + s(T_y(y))                critic_y, if the task has classes
    fool             s(-T_z(z)) + s(-T_y(y))                trunk, code, label; its own optimiser
    supervised       cross-entropy of y on labelled images  trunk, label (semisupervised)
    heads            sum_{i<j} max(0, margin - |W_i - W_j|) heads W (reduction)

The adversarial phases match the aggregated posterior to the prior; there is no bound on log p(x).

Tasks:

    plain            x^ = g(z)
    conditioned      T_z also has the class of a labelled image or of z' as input
    supervised       x^ = g(label, z)
    semisupervised   the encoder infers y as well as z; a few labels train y
    clustering       the same without labels
    reduction        x^ = g(W^T y + z): the decoder's input is a point near a cluster head

Options that are not in the paper: normalisation of each network, moving averages of the weights,
and R1 (Mescheder, Geiger & Nowozin 2018, arXiv:1801.04406), a penalty on each discriminator's
gradient at samples of its prior, with respect to the code but not to the class next to it.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxae import losses
from jaxae.models.aae.config import WITH_CLASSES, Config
from jaxae.models.aae.networks import build_networks, example_inputs, head_repulsion, num_classes
from jaxae.models.shared.batch_needs import batch_norm_needs, labelled_batch_need
from jaxae.models.shared.gaussian import mean_and_log_var, reparameterise
from jaxae.models.shared.labels import get_labelled_batch
from jaxae.models.shared.priors import make_prior
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

AVERAGED = ("trunk", "code", "label", "dec", "heads")


def make(config: Config, spec: Spec, networks: Mapping[str, nn.Module] | None = None) -> Model:
    """The AAE for images of `spec`.

    Args:
        networks: your own modules by name (see `nets.replace_networks`).
            Z: `latent`; K: number of classes; W: the last of `widths`; N: `noise` for
            posterior=universal, else 0.
            `trunk`: flattened image and noise `[B, H*W*C + N]` -> `[B, W]`;
            `code`: `[B, W]` -> z `[B, Z]`, or mean and log-variance `[B, 2Z]` (gaussian);
            `label`: `[B, W]` -> logits `[B, K]` (semisupervised, clustering, reduction);
            `dec`: `[B, Z]`, or y and z `[B, K + Z]` (supervised, semisupervised, clustering) ->
            image before `output` `[B, H*W*C]`;
            `critic_z`: z `[B, Z]`, or z and class `[B, Z + K + 1]` (conditioned) -> `[B, 1]`;
            `critic_y`: y `[B, K]` -> `[B, 1]` (semisupervised, clustering, reduction).
    Raises:
        ValueError: a task that needs labels on data without; a prior that does not fit `latent`;
            `networks` that do not fit.
    """
    task, latent, image_shape = config.task, config.latent, (-1, *spec.image_shape)
    if config.needs_labels and not spec.classes:
        raise ValueError(f"task={task} needs labels, and this data has none")
    k = num_classes(config, spec)
    num_pieces = spec.classes or 10  # components of the mixture, sections of the swiss roll
    if config.fixed_heads and latent != k:
        raise ValueError(f"fixed_heads need latent={latent} to be the number of classes, {k}")
    prior_of_z = make_prior(config.prior, latent, config.prior_scale, num_pieces)
    network, players = build_networks(config, spec, networks), _players(config)
    gan, to_pixels = losses.gan_loss(config.game), output_activation(config.output)
    noise_size = config.noise if config.posterior == "universal" else latent

    # -- forward passes ------------------------------------------------------------------------
    # `apply(p, stats, name, *inputs) -> output, stats` calls a network, in training with the batch
    # statistics of its inputs (`network.train`), in evaluation with their averages (`apply_eval`).

    def encode_batch(apply, p, stats, x, noise):
        """Label logits [B,K] (None for tasks without classes), z [B,Z], and the statistics."""
        x = x.reshape(x.shape[0], -1)
        if config.posterior == "universal":
            x = jnp.concatenate([x, noise], axis=-1)
        h, stats = apply(p, stats, "trunk", x)
        z, _ = apply(p, stats, "code", h)
        if config.posterior == "gaussian":
            z = reparameterise(*mean_and_log_var(z), noise)
        logits = apply(p, stats, "label", h)[0] if task in WITH_CLASSES else None
        return logits, z, stats

    def decoder_input(p, y, z):
        """The decoder's input for class probabilities y [B,K] (or None) and z [B,Z]."""
        if task == "reduction":
            if config.fixed_heads:
                return config.fixed_heads * y + z
            return y @ p["heads"]["rows"] + z
        return z if y is None else jnp.concatenate([y, z], axis=-1)

    def decode_batch(apply, p, stats, code):
        out, stats = apply(p, stats, "dec", code)
        return to_pixels(out).reshape(image_shape), stats

    def discriminate(apply, p, stats, name, code, condition):
        """A discriminator's logits [B,1], and the statistics."""
        if condition is not None:
            code = jnp.concatenate([code, condition], axis=-1)
        return apply(p, stats, name, code)

    def apply_eval(p, stats, name, *args):
        return network(p, stats, name, *args), stats

    # -- training ------------------------------------------------------------------------------

    def init(rng):
        params, stats = network.init(rng, **example_inputs(config, spec))
        opt = init_opt_state(players, params)
        averages = init_ema(AVERAGED if config.average else (), params, stats)
        return State(jnp.int32(0), params, opt, {"stats": stats} | averages)

    def step(state, batch, rng, axis_name=None):
        x, keys = batch["image"], jax.random.split(rng, 9)
        n = x.shape[0]
        noise = jax.random.normal(keys[0], (n, noise_size))
        prior_labels = jax.random.randint(keys[1], (n,), 0, num_pieces)
        condition = None
        if task == "conditioned":  # class K: the label is unknown
            labels = jnp.where(batch["labelled"], batch["label"], k)
            condition = jax.nn.one_hot(labels, k + 1)
            prior_labels = jnp.where(labels == k, prior_labels, labels)
        z_prior = prior_of_z.sample_given_label(keys[2], prior_labels)
        y_prior = sample_classes(keys[3], n)
        x_noisy = _corrupt(config, x, keys[4])
        noise_z = config.critic_noise * jax.random.normal(keys[5], (2, n, latent))
        noise_y = config.critic_noise * jax.random.normal(keys[6], (2, n, k))
        if config.has_supervised_phase:
            labelled = get_labelled_batch(batch, task)
            labelled_x = _corrupt(config, labelled["image"], keys[7])
            labelled_noise = jax.random.normal(keys[8], (labelled_x.shape[0], noise_size))
        apply = lambda *args: network.train(*args, axis_name=axis_name)

        def reconstruction_loss(p, stats):
            logits, z, stats = encode_batch(apply, p, stats, x_noisy, noise)
            y = None if logits is None else jax.nn.softmax(logits)
            if task == "supervised":
                y = jax.nn.one_hot(batch["label"], k)
            x_hat, stats = decode_batch(apply, p, stats, decoder_input(p, y, z))
            loss = jnp.mean(losses.half_squared_error(x_hat, x))
            return loss, ({"loss": loss, "reconstruction": loss}, stats)

        def discriminator_loss(p, stats, name, real, fake, condition=None):
            """A discriminator's loss; `real` are samples of the prior, `fake` codes of images."""
            real_logits, stats = discriminate(apply, p, stats, name, real, condition)
            fake_logits, stats = discriminate(apply, p, stats, name, fake, condition)
            loss = jnp.mean(gan.real_loss(real_logits)) + jnp.mean(gan.fake_loss(fake_logits))
            metrics = {name: loss}
            if config.r1:
                logit = lambda code: discriminate(apply_eval, p, stats, name, code, condition)[0][
                    :, 0
                ]
                squared_norm = losses.mean_squared_gradient_norm(logit, real)
                metrics[f"squared_gradient_norm_{name[-1]}"] = squared_norm
                loss += 0.5 * config.r1 * squared_norm
            return loss, (metrics, stats)

        # A discriminator's loss keeps no statistics of the encoder's passes.
        def critic_z_loss(p, stats):
            z = encode_batch(apply, p, stats, x_noisy, noise)[1]
            real, fake = z_prior + noise_z[0], z + noise_z[1]
            return discriminator_loss(p, stats, "critic_z", real, fake, condition)

        def critic_y_loss(p, stats):
            y = jax.nn.softmax(encode_batch(apply, p, stats, x_noisy, noise)[0])
            return discriminator_loss(p, stats, "critic_y", y_prior + noise_y[0], y + noise_y[1])

        def encoder_adversarial_loss(p, stats):
            logits, z, _ = encode_batch(apply, p, stats, x_noisy, noise)
            z_logits, _ = discriminate(apply, p, stats, "critic_z", z + noise_z[1], condition)
            loss = jnp.mean(gan.generator_loss(z_logits))
            if logits is not None:
                y = jax.nn.softmax(logits)
                y_logits, _ = discriminate(apply, p, stats, "critic_y", y + noise_y[1], None)
                loss += jnp.mean(gan.generator_loss(y_logits))
            return loss, ({"encoder_adversarial": loss}, stats)

        def supervised_loss(p, stats):
            logits = encode_batch(apply, p, stats, labelled_x, labelled_noise)[0]
            nll = optax.softmax_cross_entropy_with_integer_labels(logits, labelled["label"])
            loss = jnp.mean(nll)
            return loss, ({"supervised": loss}, stats)

        def heads_loss(p, stats):
            loss = head_repulsion(p["heads"]["rows"], config.margin)
            return loss, ({"heads": loss}, stats)

        phase_losses = {"reconstruction": reconstruction_loss, "critic_z": critic_z_loss,
                        "critic_y": critic_y_loss, "fool": encoder_adversarial_loss,
                        "supervised": supervised_loss, "heads": heads_loss}  # fmt: skip
        phase_losses = {name: loss for name, loss in phase_losses.items() if name in players}
        params, opt, stats, metrics = step_players(
            players, phase_losses, state.params, state.opt, state.extra["stats"], axis_name
        )
        decay = ema_decay(config.average, state.step)
        extra = {"stats": stats} | update_ema(decay, state.extra, params, stats)
        return state.replace(step=state.step + 1, params=params, opt=opt, extra=extra), metrics

    # -- evaluation ----------------------------------------------------------------------------

    def infer(state, x, rng):
        """Label logits and z of images."""
        noise = jax.random.normal(rng, (x.shape[0], noise_size))
        return encode_batch(apply_eval, *eval_params(state), x, noise)[:2]

    def encode(state, x, rng):
        logits, z = infer(state, x, rng)
        if logits is None:
            return z
        return decoder_input(eval_params(state)[0], jax.nn.softmax(logits), z)

    def decode(state, code, rng):
        return decode_batch(apply_eval, *eval_params(state), code)[0]

    def evaluate(state, batch, rng):
        """`loss`: half the squared error of the reconstruction, summed over pixels."""
        x = batch["image"]
        code = encode(state, x, rng)
        if task == "supervised":
            y = jax.nn.one_hot(batch["label"], k)
            code = decoder_input(eval_params(state)[0], y, code)
        error = losses.half_squared_error(decode(state, code, rng), x)
        return {"loss": error, "mse": 2 * error / (x[0].size)}

    def prior(rng, n):
        """Samples from the distribution that the output of `encode` is trained to match."""
        rng_y, rng_z = jax.random.split(rng)
        z = prior_of_z.sample(rng_z, n)
        return decoder_input(None, sample_classes(rng_y, n), z) if task in WITH_CLASSES else z

    def sample_classes(rng, n):
        """One-hot samples [n,K] of the uniform distribution over classes."""
        return jax.nn.one_hot(jax.random.randint(rng, (n,), 0, k), k)

    def sample(state, rng, n):
        rng_y, rng_z, rng_x = jax.random.split(rng, 3)
        y = sample_classes(rng_y, n) if task in (*WITH_CLASSES, "supervised") else None
        code = decoder_input(eval_params(state)[0], y, prior_of_z.sample(rng_z, n))
        return decode(state, code, rng_x)

    def predict(state, x, rng):
        return infer(state, x, rng)[0]

    return Model(
        init,
        step,
        evaluate,
        encode=encode,
        decode=None if task == "supervised" else decode,
        sample=sample,
        prior=None if task == "reduction" else prior,  # it depends on the heads, in `params`
        predict=predict if task in WITH_CLASSES else None,
        needs=_needs(config),
    )


def _needs(config: Config) -> tuple[Need, ...]:
    needs = batch_norm_needs(
        encoder_norm=config.encoder_norm,
        generator_norm=config.generator_norm,
        discriminator_norm=config.discriminator_norm,
    )
    if not config.has_supervised_phase:
        return needs
    labelled_needs = batch_norm_needs(of="labels_batch", encoder_norm=config.encoder_norm)
    return (*needs, labelled_batch_need(config.task), *labelled_needs)


def _players(config: Config) -> dict[str, Player]:
    """The networks that each phase updates, and its optimiser."""
    encoder = ("trunk", "code", "label") if config.task in WITH_CLASSES else ("trunk", "code")
    heads_learned = config.task == "reduction" and not config.fixed_heads
    heads = ("heads",) if heads_learned and config.heads_reconstruct else ()
    descent = lambda rate: _optimiser(config, rate, adversarial=False)
    adversarial = lambda rate: _optimiser(config, rate, adversarial=True)
    players = {
        "reconstruction": Player((*encoder, "dec", *heads), descent(config.learning_rate)),
        "critic_z": Player(("critic_z",), adversarial(config.critic_rate)),
        "fool": Player(encoder, adversarial(config.fool_rate)),
    }
    if config.task in WITH_CLASSES:
        players["critic_y"] = Player(("critic_y",), adversarial(config.critic_rate))
    if config.has_supervised_phase:
        players["supervised"] = Player(("trunk", "label"), descent(config.supervised_rate))
    if heads_learned:
        players["heads"] = Player(("heads",), descent(config.supervised_rate))
    return players


def _optimiser(config: Config, rate: float, adversarial: bool) -> optax.GradientTransformation:
    """A phase's optimiser; the adversarial phases have a smaller momentum."""
    if config.optimiser == "adam":
        return adam(rate, config.decay_steps, config.beta1 if adversarial else 0.9)
    momentum = 0.1 if adversarial else 0.9
    drops = dict.fromkeys(config.drops, 0.1)
    return optax.sgd(optax.piecewise_constant_schedule(rate, drops), momentum)


def _corrupt(config: Config, x: jax.Array, rng: jax.Array) -> jax.Array:
    """The encoder's input in training: images with noise and dropout."""
    rng_noise, rng_mask = jax.random.split(rng)
    x = x + config.image_noise * jax.random.normal(rng_noise, x.shape)
    if config.image_dropout:
        keep = jax.random.uniform(rng_mask, x.shape) >= config.image_dropout
        x = jnp.where(keep, x / (1 - config.image_dropout), 0.0)
    return x
