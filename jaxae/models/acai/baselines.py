"""What ACAI is compared with: six methods on its very networks.

Berthelot, Raffel, Roy & Goodfellow 2018, arXiv:1807.07543; brain-research/acai: baseline.py,
dropout.py, denoising.py, vae.py, aae.py, vqvae.py.

x [B,S,S,C] image in [-1,1]; f(x) [B,Z] the encoder's map, flattened; g the decoder; |.|^2 the mean
over pixels. Player `autoencoder` minimises the mean over the batch of

    baseline    |x - g(f(x))|^2
    dropout     |x - g(m f(x) / keep)|^2,  m ~ Bernoulli(keep); m = keep in evaluation
    denoising   |x - g(f(x + noise eps))|^2,  eps ~ N(0, I); eps = 0 in evaluation
    vae         -log p(x|z) + kl_weight KL(q(z|x) | N(0, I)), both sums; a dense layer takes f(x) to
                mean and log-variance, and g(z) are a Bernoulli's logits of (x + 1) / 2
    aae         |x - g(f(x))|^2 - prior_weight log D(f(x)); player `critic`, which D is, tells
                draws of N(0, I) from f(x)
    vqvae       |x - g(b(e_k))|^2 + commitment |c - sg[e_k]|^2; a dense layer takes f(x) to c, cut
                into `slots` vectors; e_k are the nearest rows of one table, which follows them as
                a moving average; b is two dense layers (relu)

What is mixed: f(x), but a draw of z for the vae. The paper's classifier reads f(x), for the vqvae
b(e_k). Deviations: every row of the vqvae's table begins with a count of one, and its
commitment is averaged over slots and their dimensions, neither of which we could verify.
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
from jaxae.models.shared.gaussian import gaussian_draw
from jaxae.nets import codebook
from jaxae.training.state import all_gather


@dataclasses.dataclass(frozen=True)
class Comparison(Checked):
    """The fields of Config that only the other methods read; the line below each is its help."""

    keep: Annotated[float, Range(0, 1, above_low=True)] = 0.5
    """share of the code that dropout keeps"""
    noise: Weight = 1.0
    """deviation of the noise on images in [-1, 1] (denoising)"""
    kl_weight: Weight = 1.0
    """weight of the rate (vae)"""
    prior_weight: Weight = 1.0
    """weight of the encoder's cost against the discriminator of codes (aae)"""
    prior_widths: tuple[Size, ...] = (100, 100)
    """hidden layers of the discriminator of codes (aae)"""
    codes: Size = 2**14
    """rows of the table (vqvae)"""
    slots: Size = 10
    """rows that an image is described by (vqvae)"""
    slot_width: SizeOrZero = 0
    """length of a row; 0: that of the code (vqvae)"""
    hidden: Size = 512
    """units between the rows and the decoder (vqvae)"""
    commitment: Weight = 10.0
    """weight of the term that holds the encoder to the rows it chose (vqvae)"""
    codebook_decay: Decay = 0.999
    """of the moving averages that the table is (vqvae)"""


class Parts(NamedTuple):
    """What all methods share."""

    enc: Callable
    """params, x [B,S,S,C] -> f(x) [B,Z]"""
    dec: Callable
    """params, z [B,Z] -> g(z) [B,S,S,C]"""
    run: Callable
    """params, name of a further network, inputs -> its output"""
    report: Callable
    """x^, x -> the scalars `loss` and `mse` of a reconstruction"""
    size: int
    """Z"""


class Method(NamedTuple):
    """What a method makes of the networks."""

    draw: Callable
    """rng, x -> all noise of a step"""
    turns: Callable
    """x, noise, axis_name -> {player: loss(params, stats)}, in the order of play"""
    code: Callable
    """params, x, rng -> z [B,Z]: what is mixed"""
    picture: Callable
    """params, stats, z -> x^ [B,S,S,C]: what a code shows"""
    features: Callable
    """params, stats, x -> [B,Z]: what the paper's classifier reads"""
    stats: Callable = lambda rng: {}
    """rng -> what a forward pass leaves behind, at the start"""


def mean_squares(a: jax.Array, b: jax.Array) -> jax.Array:
    """Mean over examples and pixels of (a - b)^2."""
    return jnp.mean(jnp.square(a - b))


def plain(parts: Parts, turns: Callable, draw: Callable) -> Method:
    """A method whose codes are f(x) and whose pictures are g(z)."""
    return Method(
        draw,
        turns,
        code=lambda p, x, rng: parts.enc(p, x),
        picture=lambda p, stats, z: parts.dec(p, z),
        features=lambda p, stats, x: parts.enc(p, x),
    )


def baseline(config: Any, parts: Parts) -> Method:
    """Squared error alone; with dropout of the code, or noise on the image, where asked."""
    dropped, noisy = config.method == "dropout", config.method == "denoising"

    def draw(rng, x):
        if dropped:
            return jax.random.uniform(rng, (x.shape[0], parts.size)) < config.keep
        return config.noise * jax.random.normal(rng, x.shape) if noisy else None

    def turns(x, noise, axis_name):
        def autoencoder(p, stats):
            z = parts.enc(p, x + noise if noisy else x)
            back = parts.dec(p, jnp.where(noise, z / config.keep, 0.0) if dropped else z)
            cost = mean_squares(back, x)
            return cost, ({"autoencoder": cost} | parts.report(back, x), stats)

        return {"autoencoder": autoencoder}

    return plain(parts, turns, draw)


def vae(config: Any, parts: Parts) -> Method:
    """A bound on the likelihood of pixels that are black or white."""

    def posterior(p, x):
        return jnp.split(parts.run(p, "posterior", parts.enc(p, x)), 2, axis=-1)

    def drawn(p, x, eps):
        mean, log_var = posterior(p, x)
        return mean, log_var, gaussian_draw(mean, log_var, eps)

    def draw(rng, x):
        return jax.random.normal(rng, (x.shape[0], parts.size))

    def shown(logits):
        return 2 * jax.nn.sigmoid(logits) - 1

    def turns(x, eps, axis_name):
        def autoencoder(p, stats):
            mean, log_var, z = drawn(p, x, eps)
            logits = parts.dec(p, z)
            distortion = jnp.mean(losses.bernoulli_nll(logits, (x + 1) / 2))
            rate = jnp.mean(losses.kl_to_standard_normal(mean, log_var))
            cost = distortion + config.kl_weight * rate
            metrics = {"autoencoder": cost, "rate": rate, "distortion": distortion}
            return cost, (metrics | parts.report(shown(logits), x), stats)

        return {"autoencoder": autoencoder}

    return Method(
        draw,
        turns,
        code=lambda p, x, rng: drawn(p, x, draw(rng, x))[2],
        picture=lambda p, stats, z: shown(parts.dec(p, z)),
        features=lambda p, stats, x: parts.enc(p, x),
    )


def aae(config: Any, parts: Parts) -> Method:
    """Codes that a discriminator cannot tell from draws of N(0, I)."""
    gan = losses.gan_loss("non_saturating")

    def turns(x, drawn, axis_name):
        judged = lambda p, z: parts.run(p, "critic", z)

        def autoencoder(p, stats):
            z = parts.enc(p, x)
            back = parts.dec(p, z)
            fool = jnp.mean(gan.generator_loss(judged(p, z)))
            cost = mean_squares(back, x) + config.prior_weight * fool
            metrics = {"autoencoder": cost, "fool": fool} | parts.report(back, x)
            return cost, (metrics, stats)

        def critic(p, stats):
            real, fake = gan.real_loss(judged(p, drawn)), gan.fake_loss(judged(p, parts.enc(p, x)))
            cost = jnp.mean(real) + jnp.mean(fake)
            return cost, ({"critic": cost}, stats)

        return {"autoencoder": autoencoder, "critic": critic}

    draw = lambda rng, x: jax.random.normal(rng, (x.shape[0], parts.size))
    return plain(parts, turns, draw)


def vqvae(config: Any, parts: Parts) -> Method:
    """Codes that become rows of one table before they are decoded."""
    width = config.slot_width or parts.size

    def stats(rng):
        # Unit scaling of a uniform start, as TensorFlow understands it.
        reach = math.sqrt(3 / config.codes)
        table = jax.random.uniform(rng, (1, config.codes, width), minval=-reach, maxval=reach)
        start = {"table": table, "total": jnp.copy(table), "count": jnp.ones((1, config.codes))}
        return {"codebook": start}

    def quantised(p, stats, z):
        """The vectors c `[B,G,1,D]` of a code, their nearest rows, and which these are."""
        c = parts.run(p, "slots", z).reshape(z.shape[0], config.slots, 1, width)
        return c, *codebook.look_up(c, stats["codebook"]["table"])

    def merged(p, c, e):
        rows = codebook.straight_through(c, e)
        return parts.run(p, "bottleneck", rows.reshape(rows.shape[0], -1))

    def turns(x, noise, axis_name):
        def autoencoder(p, stats):
            c, e, index = quantised(p, stats, parts.enc(p, x))
            back = parts.dec(p, merged(p, c, e))
            held = mean_squares(c, jax.lax.stop_gradient(e))
            cost = mean_squares(back, x) + config.commitment * held
            metrics = {"autoencoder": cost, "commitment": held} | parts.report(back, x)
            return cost, (metrics, moved(stats, jax.lax.stop_gradient(c), index, axis_name))

        return {"autoencoder": autoencoder}

    def moved(stats, c, index, axis_name):
        old = stats["codebook"]
        counts, sums = codebook.code_statistics(*all_gather((c, index), axis_name), config.codes)
        count, total, table = codebook.update_moving_average(
            old["count"], old["total"], counts, sums, config.codebook_decay
        )
        return {"codebook": {"table": table, "total": total, "count": count}}

    def features(p, stats, x):
        c, e, _ = quantised(p, stats, parts.enc(p, x))
        return merged(p, c, e)

    def picture(p, stats, z):
        c, e, _ = quantised(p, stats, z)
        return parts.dec(p, merged(p, c, e))

    return Method(
        lambda rng, x: None,
        turns,
        code=lambda p, x, rng: parts.enc(p, x),
        picture=picture,
        features=features,
        stats=stats,
    )


METHODS = {
    "baseline": baseline,
    "dropout": baseline,
    "denoising": baseline,
    "vae": vae,
    "aae": aae,
    "vqvae": vqvae,
}


def further_networks(config: Any, size: int) -> dict[str, Any]:
    """Networks beside encoder and decoder, by name, of the method for codes of `size` numbers."""
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
