"""The six methods that the paper compares ACAI with, on the same encoder and decoder.

Berthelot, Raffel, Roy & Goodfellow 2018, arXiv:1807.07543; brain-research/acai: baseline.py,
dropout.py, denoising.py, vae.py, aae.py, vqvae.py.

x [B,S,S,C] image in [-1,1]; f(x) [B,Z] the encoder's feature map, flattened; g the decoder; |.|^2
the mean over pixels; s(t) = log(1 + exp(t)). Losses, means over the batch, of player `autoencoder`:

    baseline    |x - g(f(x))|^2
    dropout     |x - g(m f(x) / keep)|^2,  m ~ Bernoulli(keep); in evaluation m = keep
    denoising   |x - g(f(x + noise eps))|^2,  eps ~ N(0, I); in evaluation eps = 0
    vae         -log p(x|z) + kl_weight KL(q(z|x) | N(0, I)), both sums; mean and log-variance of z
                are a linear map of f(x), and g(z) are Bernoulli logits of (x + 1) / 2
    aae         |x - g(f(x))|^2 + prior_weight s(-D(f(x))); D is the critic's logit, and the
                `critic` loss is s(-D(z')) + s(D(f(x))), z' ~ N(0, I)
    vqvae       |x - g(b(e))|^2 + commitment |c - sg[e]|^2; c is a linear map of f(x), cut into
                `slots` vectors; e are the nearest rows of a codebook, which is updated as a moving
                average of the c; b is two dense layers (relu); sg stops the gradient

The interpolated code is f(x), for the vae a sample of z. The paper's classifier has f(x) as its
input, for the vqvae b(e). Deviations, neither of which could be verified: the counts of the
vqvae's codebook start at one, and its commitment loss is a mean over slots and their dimensions.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxae import losses, nets
from jaxae.fields import Checked, Decay, Range, Size, SizeOrZero, Weight
from jaxae.models.acai.networks import Bottleneck
from jaxae.models.shared.gaussian import reparameterise
from jaxae.nets import codebook
from jaxae.training.state import all_gather


@dataclasses.dataclass(frozen=True)
class BaselineConfig(Checked):
    """The fields of Config that only the baselines use; the line below a field is its help text."""

    keep: Annotated[float, Range(0, 1, above_low=True)] = 0.5
    """probability that dropout keeps an entry of the code (dropout)"""
    noise: Weight = 1.0
    """standard deviation of the noise on images in [-1, 1] (denoising)"""
    kl_weight: Weight = 1.0
    """weight of the KL divergence (vae)"""
    prior_weight: Weight = 1.0
    """weight of the encoder's adversarial loss (aae)"""
    prior_widths: tuple[Size, ...] = (100, 100)
    """hidden layers of the critic of codes (aae)"""
    codes: Size = 2**14
    """rows of the codebook (vqvae)"""
    slots: Size = 10
    """number of rows that encode an image (vqvae)"""
    slot_width: SizeOrZero = 0
    """length of a row; 0: the size of the code (vqvae)"""
    hidden: Size = 512
    """hidden units between the rows and the decoder (vqvae)"""
    commitment: Weight = 10.0
    """weight of the commitment loss (vqvae)"""
    codebook_decay: Decay = 0.999
    """decay of the moving averages that update the codebook (vqvae)"""


class Autoencoder(NamedTuple):
    """Encoder, decoder and what else all methods share."""

    encode: Callable
    """params, x [B,S,S,C] -> f(x) [B,Z]"""
    decode: Callable
    """params, z [B,Z] -> g(z) [B,S,S,C]"""
    apply: Callable
    """params, name of another network, inputs -> its output"""
    error_metrics: Callable
    """x^, x -> the scalars `loss` and `mse` of a reconstruction"""
    size: int
    """Z"""


class Method(NamedTuple):
    """The functions in which the methods differ."""

    sample_noise: Callable
    """rng, x -> all noise of a step"""
    player_losses: Callable
    """x, noise, axis_name -> {player: loss(params, stats)}, in the order of updates"""
    encode: Callable
    """params, x, rng -> z [B,Z], the code that is interpolated"""
    decode: Callable
    """params, stats, z -> x^ [B,S,S,C]"""
    features: Callable
    """params, stats, x -> [B,Z], the input of the paper's classifier"""
    init_stats: Callable = lambda rng: {}
    """rng -> the initial `stats`, which the losses update without a gradient"""


def mean_squared_error(a: jax.Array, b: jax.Array) -> jax.Array:
    """Mean over all entries of (a - b)^2."""
    return jnp.mean(jnp.square(a - b))


def deterministic_method(
    autoencoder: Autoencoder, player_losses: Callable, sample_noise: Callable
) -> Method:
    """A method whose codes are f(x) and whose reconstructions are g(f(x))."""
    return Method(
        sample_noise,
        player_losses,
        encode=lambda p, x, rng: autoencoder.encode(p, x),
        decode=lambda p, stats, z: autoencoder.decode(p, z),
        features=lambda p, stats, x: autoencoder.encode(p, x),
    )


def make_baseline(config: Any, autoencoder: Autoencoder) -> Method:
    """baseline, dropout or denoising."""
    dropout, denoising = config.method == "dropout", config.method == "denoising"

    def sample_noise(rng, x):
        if dropout:
            return jax.random.uniform(rng, (x.shape[0], autoencoder.size)) < config.keep
        return config.noise * jax.random.normal(rng, x.shape) if denoising else None

    def player_losses(x, noise, axis_name):
        def autoencoder_loss(p, stats):
            z = autoencoder.encode(p, x + noise if denoising else x)
            z = jnp.where(noise, z / config.keep, 0.0) if dropout else z
            x_hat = autoencoder.decode(p, z)
            loss = mean_squared_error(x_hat, x)
            return loss, ({"autoencoder": loss} | autoencoder.error_metrics(x_hat, x), stats)

        return {"autoencoder": autoencoder_loss}

    return deterministic_method(autoencoder, player_losses, sample_noise)


def make_vae(config: Any, autoencoder: Autoencoder) -> Method:
    """vae, with a Bernoulli likelihood of pixels."""

    def sample_posterior(p, x, eps):
        out = autoencoder.apply(p, "posterior", autoencoder.encode(p, x))
        mean, log_var = jnp.split(out, 2, axis=-1)
        return mean, log_var, reparameterise(mean, log_var, eps)

    def sample_noise(rng, x):
        return jax.random.normal(rng, (x.shape[0], autoencoder.size))

    def mean_image(logits):
        return 2 * jax.nn.sigmoid(logits) - 1

    def player_losses(x, eps, axis_name):
        def autoencoder_loss(p, stats):
            mean, log_var, z = sample_posterior(p, x, eps)
            logits = autoencoder.decode(p, z)
            distortion = jnp.mean(losses.bernoulli_nll(logits, (x + 1) / 2))
            rate = jnp.mean(losses.kl_to_standard_normal(mean, log_var))
            loss = distortion + config.kl_weight * rate
            metrics = {"autoencoder": loss, "rate": rate, "distortion": distortion}
            errors = autoencoder.error_metrics(mean_image(logits), x)
            return loss, (metrics | errors, stats)

        return {"autoencoder": autoencoder_loss}

    return Method(
        sample_noise,
        player_losses,
        encode=lambda p, x, rng: sample_posterior(p, x, sample_noise(rng, x))[2],
        decode=lambda p, stats, z: mean_image(autoencoder.decode(p, z)),
        features=lambda p, stats, x: autoencoder.encode(p, x),
    )


def make_aae(config: Any, autoencoder: Autoencoder) -> Method:
    """aae: a critic matches the codes to N(0, I)."""
    gan = losses.gan_loss("non_saturating")

    def player_losses(x, z_prior, axis_name):
        discriminate = lambda p, z: autoencoder.apply(p, "critic", z)

        def autoencoder_loss(p, stats):
            z = autoencoder.encode(p, x)
            x_hat = autoencoder.decode(p, z)
            adversarial = jnp.mean(gan.generator_loss(discriminate(p, z)))
            loss = mean_squared_error(x_hat, x) + config.prior_weight * adversarial
            metrics = {"autoencoder": loss, "adversarial": adversarial}
            return loss, (metrics | autoencoder.error_metrics(x_hat, x), stats)

        def critic_loss(p, stats):
            real_loss = gan.real_loss(discriminate(p, z_prior))
            fake_loss = gan.fake_loss(discriminate(p, autoencoder.encode(p, x)))
            loss = jnp.mean(real_loss) + jnp.mean(fake_loss)
            return loss, ({"critic": loss}, stats)

        return {"autoencoder": autoencoder_loss, "critic": critic_loss}

    sample_noise = lambda rng, x: jax.random.normal(rng, (x.shape[0], autoencoder.size))
    return deterministic_method(autoencoder, player_losses, sample_noise)


def make_vqvae(config: Any, autoencoder: Autoencoder) -> Method:
    """vqvae: codes are quantised to rows of one codebook before they are decoded."""
    width = config.slot_width or autoencoder.size

    def init_stats(rng):
        # TensorFlow's uniform initialiser with unit variance scaling.
        bound = math.sqrt(3 / config.codes)
        table = jax.random.uniform(rng, (1, config.codes, width), minval=-bound, maxval=bound)
        counts = jnp.ones((1, config.codes))
        return {"codebook": {"table": table, "total": jnp.copy(table), "count": counts}}

    def quantise(p, stats, z):
        """The vectors c `[B,G,1,D]` of a code, their nearest rows e, and the indices of these."""
        c = autoencoder.apply(p, "slots", z).reshape(z.shape[0], config.slots, 1, width)
        return c, *codebook.look_up(c, stats["codebook"]["table"])

    def decoder_input(p, c, e):
        """b(e), with the gradient passed straight through to c."""
        rows = codebook.straight_through(c, e)
        return autoencoder.apply(p, "bottleneck", rows.reshape(rows.shape[0], -1))

    def player_losses(x, noise, axis_name):
        def autoencoder_loss(p, stats):
            c, e, index = quantise(p, stats, autoencoder.encode(p, x))
            x_hat = autoencoder.decode(p, decoder_input(p, c, e))
            commitment = mean_squared_error(c, jax.lax.stop_gradient(e))
            loss = mean_squared_error(x_hat, x) + config.commitment * commitment
            metrics = {"autoencoder": loss, "commitment": commitment}
            stats = update_codebook(stats, jax.lax.stop_gradient(c), index, axis_name)
            return loss, (metrics | autoencoder.error_metrics(x_hat, x), stats)

        return {"autoencoder": autoencoder_loss}

    def update_codebook(stats, c, index, axis_name):
        old = stats["codebook"]
        counts, sums = codebook.code_statistics(*all_gather((c, index), axis_name), config.codes)
        count, total, table = codebook.update_moving_average(
            old["count"], old["total"], counts, sums, config.codebook_decay
        )
        return {"codebook": {"table": table, "total": total, "count": count}}

    def features(p, stats, x):
        c, e, _ = quantise(p, stats, autoencoder.encode(p, x))
        return decoder_input(p, c, e)

    def decode(p, stats, z):
        c, e, _ = quantise(p, stats, z)
        return autoencoder.decode(p, decoder_input(p, c, e))

    return Method(
        lambda rng, x: None,
        player_losses,
        encode=lambda p, x, rng: autoencoder.encode(p, x),
        decode=decode,
        features=features,
        init_stats=init_stats,
    )


METHODS = {
    "baseline": make_baseline,
    "dropout": make_baseline,
    "denoising": make_baseline,
    "vae": make_vae,
    "aae": make_aae,
    "vqvae": make_vqvae,
}


def baseline_networks(config: Any, size: int) -> dict[str, nn.Module]:
    """The networks of a baseline besides encoder and decoder, for codes of `size` numbers."""
    if config.method == "vae":
        return {"posterior": nn.Dense(2 * size)}
    if config.method == "aae":
        return {"critic": nets.MLP(config.prior_widths, 1, "leaky_relu_0.2")}
    if config.method == "vqvae":
        width = config.slot_width or size
        return {
            "slots": nn.Dense(config.slots * width),
            "bottleneck": Bottleneck(config.hidden, size),
        }
    return {}
