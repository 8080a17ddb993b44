"""IAE: an autoencoder without a pixel loss, with implicit distributions q(z|x) and p(x|z).

Makhzani 2018, arXiv:1805.09804. No code of the author is public and the text of the paper was not
available: the losses follow from its definitions; sizes and rates are ours or from memory.

    x [B,H,W,C]        image                  z = f(x, e) [B,Z]     global code; e is noise, or none
    z' ~ p(z)          sample of the prior    x^ = g(z, n)          reconstruction; the noise
    T(x, z)            pair critic's logit                          n [B,N] is the local code
    S(z)               code critic's logit

With q(x, z) the distribution of the real pairs (x, z), and r(x, z) that of the reconstructed pairs
(x^, z) with the same z,

    E log p(x)  >=  -KL(q(x,z) || r(x,z)) - KL(q(z) || p(z)) - H(x)

Two GANs estimate the two divergences: the reconstruction GAN, with T positive for "real pair", and
the code GAN, with S positive for "sample of the prior". Losses, means over the batch, with
s(t) = log(1 + exp(t)), in the order of updates, all with the same x, e, n and z':

    critic_pair   s(-T(x, z)) + s(T(x^, z)) + r1/2 |grad_x T(x, z)|^2
    critic_code   s(-S(z')) + s(S(z)) + code_r1/2 |grad S(z')|^2
    decoder       s(-T(x^, z))
    encoder       s(-T(x^, z)) + s(T(x, z)) + code_weight s(-S(z))
    supervised    cross-entropy of y on labelled images (semisupervised); updates the encoder

The losses of decoder and encoder are those of recon_gan=ns_both; see `adversarial_losses` for the
others. Each player starts from the parameters that the one before has left; with `simultaneous` all
from those at the start of the step. No loss asks for a copy of x: any sample from q(x|z) is a
perfect reconstruction; and no loss asks z to carry information about x.

Tasks:

    plain            z ~ N(0, I) or another prior
    clustering       z = y, K class probabilities; the prior is one-hot and uniform
    semisupervised   the same with K the number of classes, and some labels
    given            z = the label; there is no encoder
    translation      z is an image of another domain, whose prior is that domain's images (CycleIAE,
                     one direction)

The flipped IAE starts from z ~ p(z) instead: x = g(z, n) is a fake image for `critic_image`, and
the real and reconstructed pairs are (x, z) and (x, f(x, e)). Encoder and decoder swap losses.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxae import losses, nets
from jaxae.models.iae.adversarial_losses import pair_losses
from jaxae.models.iae.config import Config
from jaxae.models.iae.domains import to_other_domain
from jaxae.models.iae.measures import reconstruction_measures
from jaxae.models.iae.networks import LEAKY, ConvReader, DenseReader
from jaxae.models.shared.batch_needs import labelled_batch_need
from jaxae.models.shared.gaussian import output_start
from jaxae.models.shared.labels import get_labelled_batch
from jaxae.models.shared.priors import make_prior
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

CATEGORICAL = ("clustering", "semisupervised")  # tasks in which z = y is inferred
LABELLED = ("semisupervised", "given")
TRANSLATION_NEED = Need("task=translation transforms every second image into the other domain",
                        least=2, multiple=2, by_device=True)  # fmt: skip
AVERAGED = ("enc", "dec")  # both: an averaged decoder does not fit the codes of the current encoder


def make(config: Config, spec: Spec, networks: Mapping[str, nn.Module] | None = None) -> Model:
    """The IAE for images of `spec`.

    Args:
        networks: your own modules by name (see `nets.replace_networks`); none
            may keep batch statistics. x: images `[B, H, W, C]`; Z: size of the code, by task
            `latent`, the number of classes, or H*W*C (translation).
            `enc`: x and noise `[B, noise]` -> `[B, Z]`, logits for clustering, semisupervised and
            translation (all tasks but given);
            `dec`: z and local code `[B, Z + local]` -> image before `output`, `[B, H*W*C]` (mlp) or
            `[B, H, W, C]` (conv);
            `critic_pair`: x and z `[B, Z]` -> `[B, 1]`;
            `critic_code`: z `[B, Z]` -> `[B, 1]` (all tasks but given, not flipped);
            `critic_image`: x and an array `[B, 0]` -> `[B, 1]` (flipped).
    Raises:
        ValueError: a task that needs labels on data without; a prior that does not fit `latent`; a
            domain that does not fit the images; `networks` that do not fit.
    """
    task, image_shape = config.task, (-1, *spec.image_shape)
    if task in LABELLED and not spec.classes:
        raise ValueError(f"task={task} needs labels, and this data has none")
    height, width, _ = spec.image_shape
    if task == "translation" and config.domain == "coarse" and (height % 2 or width % 2):
        raise ValueError(f"domain=coarse needs images with even sides, not {height}x{width}")
    if task == "translation" and config.domain == "rotated" and height != width:
        raise ValueError(f"domain=rotated needs square images, not {height}x{width}")
    code_size = _code_size(config, spec)
    prior_of_z = make_prior(config.prior, config.latent, config.prior_scale)
    network, players = build_networks(config, spec, networks), _players(config)
    gan, pair_gan = losses.gan_loss("non_saturating"), pair_losses(config.recon_gan)
    marginal_critic = "critic_image" if config.flipped else "critic_code"
    to_pixels = output_activation(config.output)

    # -- forward passes ------------------------------------------------------------------------

    def encode_batch(p, x, noise):
        """z = f(x, e) [B,Z], and the output of the encoder's last layer."""
        out = network(p, {}, "enc", x, noise)
        if task in CATEGORICAL:
            return jax.nn.softmax(out), out
        return (jax.nn.sigmoid(out) if task == "translation" else out), out

    def decode_batch(p, z, local):
        """g(z, n) [B,H,W,C]."""
        out = network(p, {}, "dec", jnp.concatenate([z, local], axis=-1))
        return to_pixels(out).reshape(image_shape)

    def discriminate_pairs(p, x, z):
        """T(x, z) [B]."""
        return network(p, {}, "critic_pair", x, config.code_scale * z)[..., 0]

    def discriminate_marginal(p, values):
        """The other critic's logits [B] of codes, or in the flipped IAE of images."""
        if config.flipped:
            no_code = jnp.zeros((values.shape[0], 0))
            return network(p, {}, marginal_critic, values, no_code)[..., 0]
        return network(p, {}, marginal_critic, values)[..., 0]

    # -- training ------------------------------------------------------------------------------

    def init(rng):
        params, _ = network.init(rng, **example_inputs(config, spec))
        opt = init_opt_state(players, params)
        averaged = AVERAGED if config.average else ()
        return State(jnp.int32(0), params, opt, init_ema(averaged, params))

    def step(state, batch, rng, axis_name=None):
        x, keys = batch["image"], jax.random.split(rng, 4)
        if task == "translation":
            TRANSLATION_NEED.check(x.shape[0], f"a batch of {x.shape[0]}")
            # Every second image, so that each device has as many of both kinds.
            x, other_images = x[0::2], to_other_domain(config.domain, x[1::2])
        n = x.shape[0]
        noise = jax.random.normal(keys[0], (n, config.noise))
        local = local_deviation(state) * jax.random.normal(keys[1], (n, config.local))
        z_prior = other_images if task == "translation" else prior(keys[2], n)
        if task == "semisupervised":
            labelled = get_labelled_batch(batch, task)
            labelled_noise = jax.random.normal(keys[3], (labelled["image"].shape[0], config.noise))

        def make_pairs(p):
            """The real pair, the reconstructed pair, and the marginal critic's fakes."""
            if config.flipped:
                x_fake = decode_batch(p, z_prior, local)
                return (x_fake, z_prior), (x_fake, encode_batch(p, x_fake, noise)[0]), x_fake
            z = one_hot(batch["label"]) if task == "given" else encode_batch(p, x, noise)[0]
            return (x, z), (decode_batch(p, z, local), z), z

        def critic_pair_loss(p, stats):
            real, reconstructed, _ = make_pairs(p)
            loss = jnp.mean(gan.real_loss(discriminate_pairs(p, *real)))
            loss += jnp.mean(gan.fake_loss(discriminate_pairs(p, *reconstructed)))
            total = loss + 0.5 * config.r1 * squared_norm(p, real) if config.r1 else loss
            return total, ({"critic_pair": loss}, stats)

        def squared_norm(p, pair):
            """|grad T|^2 with respect to the reconstructed half: the image; flipped: the code."""
            image, code = pair
            if config.flipped:
                logits = lambda z: discriminate_pairs(p, image, z)
                return losses.mean_squared_gradient_norm(logits, code)
            logits = lambda x: discriminate_pairs(p, x, code)
            return losses.mean_squared_gradient_norm(logits, image)

        def critic_marginal_loss(p, stats):
            fake = make_pairs(p)[2]
            real = x if config.flipped else z_prior
            real_loss = jnp.mean(gan.real_loss(discriminate_marginal(p, real)))
            loss = real_loss + jnp.mean(gan.fake_loss(discriminate_marginal(p, fake)))
            total, weight = loss, config.r1 if config.flipped else config.code_r1
            if weight:
                logits = lambda real: discriminate_marginal(p, real)
                total += 0.5 * weight * losses.mean_squared_gradient_norm(logits, real)
            return total, ({marginal_critic: loss}, stats)

        def reconstructor_loss(p, stats):
            _, reconstructed, _ = make_pairs(p)
            logits = discriminate_pairs(p, *reconstructed)
            loss = jnp.mean(pair_gan.reconstructor_loss(logits))
            return loss, ({reconstructor: loss}, stats)

        def source_loss(p, stats):
            real, reconstructed, fake = make_pairs(p)
            real_logits = discriminate_pairs(p, *real)
            reconstructed_logits = discriminate_pairs(p, *reconstructed)
            loss = jnp.mean(pair_gan.source_loss(real_logits, reconstructed_logits))
            marginal_loss = jnp.mean(pair_gan.marginal_loss(discriminate_marginal(p, fake)))
            loss += config.code_weight * marginal_loss
            return loss, ({source: loss}, stats)

        def supervised_loss(p, stats):
            logits = encode_batch(p, labelled["image"], labelled_noise)[1]
            nll = optax.softmax_cross_entropy_with_integer_labels(logits, labelled["label"])
            loss = jnp.mean(nll)
            return loss, ({"supervised": loss}, stats)

        reconstructor, source = "decoder", "encoder"
        if config.flipped:
            reconstructor, source = source, reconstructor
        player_losses = {
            "critic_pair": critic_pair_loss, marginal_critic: critic_marginal_loss,
            reconstructor: reconstructor_loss, source: source_loss, "supervised": supervised_loss,
        }  # fmt: skip
        player_losses = {name: loss for name, loss in player_losses.items() if name in players}
        params, opt, _, metrics = step_players(
            players, player_losses, state.params, state.opt, {}, axis_name, config.simultaneous
        )
        extra = update_ema(ema_decay(config.average, state.step), state.extra, params)
        state = state.replace(step=state.step + 1, params=params, opt=opt, extra=extra)
        return state, metrics | {"loss": metrics["decoder"]}

    def local_deviation(state):
        """Standard deviation of the decoder's noise at this step."""
        if not config.local_start and not config.local_warmup:
            return 1.0
        steps = 1.0 + state.step - config.local_start
        return jnp.clip(steps / max(config.local_warmup, 1), 0.0, 1.0)

    def one_hot(labels):
        return jax.nn.one_hot(labels, spec.classes)

    # -- evaluation ----------------------------------------------------------------------------

    def infer(state, x, rng):
        """z, and the output of the encoder's last layer."""
        noise = jax.random.normal(rng, (x.shape[0], config.noise))
        return encode_batch(eval_params(state)[0], x, noise)

    def encode(state, x, rng):
        return infer(state, x, rng)[0]

    def code_of_batch(state, batch, rng):
        return one_hot(batch["label"]) if task == "given" else encode(state, batch["image"], rng)

    def decode(state, z, rng):
        """A sample from p(x|z), with new noise."""
        local = local_deviation(state) * jax.random.normal(rng, (z.shape[0], config.local))
        return decode_batch(eval_params(state)[0], z, local)

    def evaluate(state, batch, rng):
        """`loss`: half the squared error of one reconstruction, summed over pixels.

        It is a convention, not a measure of success: at the optimum a reconstruction is another
        sample from q(x|z), and its squared error is twice that of the best autoencoder with the
        same codes.
        """
        rng_z, rng_x = jax.random.split(rng)
        x_hat = decode(state, code_of_batch(state, batch, rng_z), rng_x)
        error = losses.half_squared_error(x_hat, batch["image"])
        return {"loss": error, "mse": 2 * error / batch["image"][0].size}

    def assess(state, data, rng):
        categorical = task in (*CATEGORICAL, "given")
        return reconstruction_measures(code_of_batch, decode, state, data, rng, categorical)

    def prior(rng, n):
        if task == "plain":
            return prior_of_z.sample(rng, n)
        return jax.nn.one_hot(jax.random.randint(rng, (n,), 0, code_size), code_size)

    def sample(state, rng, n):
        rng_z, rng_x = jax.random.split(rng)
        return decode(state, prior(rng_z, n), rng_x)

    def predict(state, x, rng):
        return infer(state, x, rng)[1]

    needs = {"translation": (TRANSLATION_NEED,), "semisupervised": (labelled_batch_need(task),)}
    can_sample = task != "translation"  # there the prior is a set of images
    return Model(
        init,
        step,
        evaluate,
        encode=encode if task != "given" else None,
        decode=decode,
        sample=sample if can_sample else None,
        prior=prior if can_sample else None,
        predict=predict if task in CATEGORICAL else None,
        assess=assess,
        draws=True,
        needs=needs.get(task, ()),
    )


def _code_size(config: Config, spec: Spec) -> int:
    """Z."""
    pixels = spec.image_shape[0] * spec.image_shape[1] * spec.image_shape[2]
    sizes = {"plain": config.latent, "clustering": config.clusters, "translation": pixels}
    return sizes.get(config.task, spec.classes)


def example_inputs(config: Config, spec: Spec) -> dict[str, Any]:
    """An input, or a tuple of inputs, of each network, by name."""
    code_size = _code_size(config, spec)
    x, z = jnp.zeros((1, *spec.image_shape)), jnp.zeros((1, code_size))
    return {
        "enc": (x, jnp.zeros((1, config.noise))),
        "dec": jnp.zeros((1, code_size + config.local)),
        "critic_pair": (x, z),
        "critic_code": z,
        "critic_image": (x, jnp.zeros((1, 0))),
    }


def build_networks(
    config: Config, spec: Spec, own: Mapping[str, nn.Module] | None = None
) -> nets.Bundle:
    """enc: x, e -> z; dec: (z, n) -> x; critic_pair: x, z -> T; critic_code or critic_image."""
    height, width, channels = spec.image_shape
    start = output_start("bernoulli" if config.output == "sigmoid" else "gaussian", spec, channels)
    if config.network == "mlp":
        reader = lambda out: DenseReader(config.widths, out, config.deviation)
        dec = nets.MLP(config.widths[::-1], height * width * channels, LEAKY, start.reshape(-1),
                       deviation=config.deviation)  # fmt: skip
    else:
        reader = lambda out: ConvReader(config.conv_width, out)
        dec = nets.ConvDecoder(spec.image_shape, channels, config.conv_width, 0, LEAKY,
                               start.mean((0, 1)))  # fmt: skip
    defaults = {"dec": dec, "critic_pair": reader(1)}
    if config.task != "given":
        defaults["enc"] = reader(_code_size(config, spec))
    if config.flipped:
        defaults["critic_image"] = reader(1)
    elif config.task != "given":
        defaults["critic_code"] = nets.MLP(config.widths, 1, LEAKY, deviation=config.deviation)
    examples = example_inputs(config, spec)
    return nets.Bundle(**replace_networks(defaults, own, examples))


def _players(config: Config) -> dict[str, Player]:
    """The networks that each player updates, and its optimiser."""
    optimiser = lambda rate: adam(rate, config.decay_steps, config.beta1)
    players = {
        "critic_pair": Player(("critic_pair",), optimiser(config.critic_rate)),
        "decoder": Player(("dec",), optimiser(config.learning_rate)),
    }
    if config.task == "given":
        return players
    marginal_critic = "critic_image" if config.flipped else "critic_code"
    players[marginal_critic] = Player((marginal_critic,), optimiser(config.critic_rate))
    players["encoder"] = Player(("enc",), optimiser(config.learning_rate))
    if config.task == "semisupervised":
        players["supervised"] = Player(("enc",), optimiser(config.supervised_rate))
    return players
