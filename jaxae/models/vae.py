"""VAE: a latent-variable model trained by a bound on its likelihood.

Kingma & Welling 2014, arXiv:1312.6114; the importance-weighted bound of Burda, Grosse &
Salakhutdinov 2016, arXiv:1509.00519 (yburda/iwae: iwae.py); beta of Higgins et al. 2017, free
bits of Kingma et al. 2016, capacity of Burgess et al. 2018. The gradients `dreg` (Tucker et al.
2019) and `stl` (Roeder et al. 2017) are recalled and not re-read.

x [B,H,W,C] image; z [B,Z] code; R rate, D distortion, both in nats per image.
One player owns both networks. Whatever objective trains, `evaluate` reports the plain R and D.
Deviations: the posterior's log-variance is bounded softly to (-10, 10); two stochastic layers
(the second half of the IWAE paper's table) are not built.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxae import losses, nets
from jaxae.fields import Checked, DepthOrZero, Positive, Rate, Size, StepsOrZero, Weight
from jaxae.models.shared.gaussian import DENSE_FLOOR, gaussian_draw, mean_and_log_var, output_start
from jaxae.training.state import Model, Spec, State, adam, all_gather, descend


@dataclasses.dataclass(frozen=True)
class Config(Checked):
    """Every field is a flag of the command line; the line below a field is its help text."""

    latent: Size = 16
    """size Z of the code"""
    network: Literal["mlp", "conv"] = "mlp"
    """dense or convolutional encoder and decoder"""
    widths: tuple[Size, ...] = (256, 256)
    """hidden layers of the dense encoder; the decoder mirrors them (none: linear)"""
    activation: str = "relu"
    """relu, tanh, gelu, silu, elu, leaky_relu or sigmoid"""
    conv_width: Size = 32
    """channels of the first convolution, doubled at each halving of the image"""
    conv_blocks: DepthOrZero = 2
    """residual blocks of the convolutional networks"""
    likelihood: Literal["bernoulli", "gaussian", "gaussian_learned", "logistic_mixture"] = (
        "bernoulli"
    )
    """distribution of a pixel; gaussian_learned has one learned scale for all pixels"""
    scale: Positive = 0.1
    """standard deviation of a pixel (gaussian), or where learning it begins (gaussian_learned)"""
    mixtures: Size = 5
    """components of the logistic mixture"""
    beta: Weight = 1.0
    """weight of the rate in the objective"""
    warmup_steps: StepsOrZero = 0
    """steps in which the rate's weight rises linearly from 0 to beta"""
    free_bits: Weight = 0.0
    """nats per latent dimension, averaged over the batch, that cost nothing (0: off)"""
    free_bits_per_example: bool = False
    """take the floor of free bits for each example instead of the batch's mean"""
    capacity: Weight = 0.0
    """nats to which the rate is pulled by |R - capacity| (0: off)"""
    capacity_steps: StepsOrZero = 10_000
    """steps in which the capacity rises linearly from 0"""
    capacity_gamma: Weight = 100.0
    """weight of |R - capacity|"""
    iwae_k: Size = 1
    """samples of the importance-weighted bound that trains; 1 is the ELBO"""
    iwae_gradient: Literal["standard", "dreg", "stl"] = "standard"
    """encoder's gradient: that of the bound, doubly reparameterised (Tucker et al. 2019), or
    (iwae_k=1) without the score term (Roeder et al. 2017)"""
    learning_rate: Rate = 1e-3
    """Adam's rate at the first step"""
    decay_steps: StepsOrZero = 0
    """steps in which the rate falls to zero along a cosine (0: constant), or in the eight stages of
    iwae-2015 to a tenth"""
    optimiser: Literal["adam", "iwae-2015"] = "adam"
    """iwae-2015: Adam with eps 1e-4 and the eight stages of the paper's code over decay_steps"""

    def __post_init__(self):
        super().__post_init__()
        reweighted = self.beta != 1 or self.free_bits or self.capacity or self.warmup_steps
        if reweighted and (self.iwae_k > 1 or self.iwae_gradient != "standard"):
            raise ValueError(
                "iwae_k and iwae_gradient train a bound, which beta, free_bits, capacity and "
                "warmup_steps reweight: choose one"
            )
        if self.iwae_gradient == "stl" and self.iwae_k > 1:
            raise ValueError(
                f"iwae_gradient=stl is biased for iwae_k={self.iwae_k}: take iwae_gradient=dreg"
            )
        if self.capacity and (self.free_bits or self.beta != 1 or self.warmup_steps):
            raise ValueError("capacity replaces the rate's weight: leave beta, free_bits and "
                             "warmup_steps alone")  # fmt: skip
        if self.optimiser == "iwae-2015" and not self.decay_steps:
            raise ValueError("optimiser=iwae-2015 needs decay_steps, the length of its stages")


def make(config: Config, spec: Spec) -> Model:
    """The VAE for images of `spec`.

    Raises:
        ValueError: an unknown activation, a likelihood that the data's levels cannot take.
    """
    pixel = losses.likelihood(
        config.likelihood,
        spec.image_shape,
        levels=spec.levels,
        scale=config.scale,
        mixtures=config.mixtures,
    )
    learned = config.likelihood == "gaussian_learned"
    colours = spec.image_shape[2]
    channels = colours if learned else pixel.channels
    as_published = config.network == "conv" or config.optimiser == "iwae-2015"
    start = output_start(config.likelihood, spec, channels, 0.001 if as_published else DENSE_FLOOR)
    if config.network == "mlp":
        height, width, _ = spec.image_shape
        encoder = nets.MLP(config.widths, 2 * config.latent, config.activation)
        decoder = nets.MLP(
            config.widths[::-1], height * width * channels, config.activation, start.reshape(-1)
        )
    else:
        encoder = nets.ConvEncoder(
            config.conv_width, 2 * config.latent, config.conv_blocks, config.activation
        )
        decoder = nets.ConvDecoder(
            spec.image_shape,
            channels,
            config.conv_width,
            config.conv_blocks,
            config.activation,
            start.mean((0, 1)),
        )
    tx = _optimiser(config)

    def posterior(p, x):
        return mean_and_log_var(encoder.apply({"params": p["enc"]}, x))

    def outputs(p, z):
        out = decoder.apply({"params": p["dec"]}, z).reshape(-1, *spec.image_shape[:2], channels)
        if learned:  # the mean, and the one log-scale beside it
            scale = jnp.broadcast_to(p["scale"]["log_scale"].reshape(1, 1, 1, 1), out.shape)
            out = jnp.concatenate([out, scale], axis=-1)
        return out

    def draw(mean, log_var, rng):
        return gaussian_draw(mean, log_var, jax.random.normal(rng, mean.shape))

    def init(rng):
        of_encoder, of_decoder = jax.random.split(rng)
        x, z = jnp.zeros((1, *spec.image_shape)), jnp.zeros((1, config.latent))
        params = {
            "enc": encoder.init(of_encoder, x)["params"],
            "dec": decoder.init(of_decoder, z)["params"],
        }
        if learned:
            params["scale"] = {"log_scale": jnp.log(jnp.float32(config.scale))}
        return State(jnp.int32(0), params, {"autoencoder": tx.init(params)}, {})

    def elbo_loss(p, x, rng, step, axis_name):
        mean, log_var = posterior(p, x)
        distortion = pixel.nll(outputs(p, draw(mean, log_var, rng)), x)
        kl = losses.kl_to_standard_normal_per_dimension(mean, log_var)  # [B, Z]
        rate = jnp.sum(kl, axis=-1)
        if config.capacity:
            target = losses.linear_warmup(step, config.capacity_steps, 0.0, config.capacity)
            mean_rate = jnp.mean(all_gather(rate, axis_name))  # |.| wants the whole batch's mean
            price = losses.capacity_penalty(mean_rate, target, config.capacity_gamma)
        else:
            price = jnp.mean(rate)
            if config.free_bits and config.free_bits_per_example:
                price = jnp.mean(losses.free_bits_per_example(kl, config.free_bits))
            elif config.free_bits:
                price = losses.free_bits(all_gather(kl, axis_name), config.free_bits)
            price *= losses.linear_warmup(step, config.warmup_steps, 0.0, config.beta)
        loss = jnp.mean(distortion) + price
        return loss, {"loss": loss, "rate": jnp.mean(rate), "distortion": jnp.mean(distortion)}

    def log_weight_of(p, x, z, mean, log_var):
        log_prior = losses.gaussian_log_prob(z, jnp.zeros_like(z), jnp.zeros_like(z))
        log_posterior = losses.gaussian_log_prob(z, mean, log_var)
        return log_prior - pixel.nll(outputs(p, z), x) - log_posterior

    def iwae_loss(p, x, rng):
        mean, log_var = posterior(p, x)
        keys = jax.random.split(rng, config.iwae_k)
        z = jax.vmap(lambda key: draw(mean, log_var, key))(keys)  # [k, B, Z]
        weigh = jax.vmap(lambda z, q: log_weight_of(p, x, z, *q), in_axes=(0, None))
        if config.iwae_gradient == "standard":
            log_w = weigh(z, (mean, log_var))
            loss = -jnp.mean(losses.importance_weighted_bound(log_w))
        else:  # the posterior's own density is a constant; dreg weighs z's gradient by w twice
            fixed = jax.lax.stop_gradient((mean, log_var))
            log_w = jax.lax.stop_gradient(weigh(z, fixed))
            share = jax.nn.softmax(log_w, axis=0)
            if config.iwae_gradient == "dreg":
                z = share[..., None] * z + jax.lax.stop_gradient((1 - share[..., None]) * z)
            loss = -jnp.mean(jnp.sum(share * weigh(z, fixed), axis=0))
        bound = jnp.mean(losses.importance_weighted_bound(jax.lax.stop_gradient(log_w)))
        return loss, {"loss": -bound, "elbo": jnp.mean(jax.lax.stop_gradient(log_w))}

    def step(state, batch, rng, axis_name=None):
        def loss(p):
            if config.iwae_k > 1 or config.iwae_gradient != "standard":
                return iwae_loss(p, batch["image"], rng)
            return elbo_loss(p, batch["image"], rng, state.step, axis_name)

        params, opt, metrics = descend(loss, tx, state.params, state.opt["autoencoder"], axis_name)
        state = state.replace(step=state.step + 1, params=params, opt={"autoencoder": opt})
        return state, metrics

    def evaluate(state, batch, rng):
        x = batch["image"]
        mean, log_var = posterior(state.params, x)
        rate = losses.kl_to_standard_normal(mean, log_var)
        distortion = pixel.nll(outputs(state.params, draw(mean, log_var, rng)), x)
        return {"loss": rate + distortion, "rate": rate, "distortion": distortion}

    def encode(state, x, rng):
        return posterior(state.params, x)[0]

    def drawn(state, x, rng):
        return draw(*posterior(state.params, x), rng)

    def decode(state, z, rng):
        return pixel.mean(outputs(state.params, z))

    def prior(rng, n):
        return jax.random.normal(rng, (n, config.latent))

    def sample(state, rng, n):
        return decode(state, prior(rng, n), rng)

    def log_weight(state, x, rng):
        mean, log_var = posterior(state.params, x)
        return log_weight_of(state.params, x, draw(mean, log_var, rng), mean, log_var)

    def daydream(state, x, rng):
        of_z, of_x = jax.random.split(rng)
        z = drawn(state, x, of_z)
        return pixel.sample(outputs(state.params, z), of_x)

    return Model(
        init,
        step,
        evaluate,
        encode=encode,
        posterior=drawn,
        decode=decode,
        sample=sample,
        prior=prior,
        log_weight=log_weight,
        daydream=daydream,
        likelihood=config.likelihood,
    )


def _optimiser(config: Config) -> optax.GradientTransformation:
    if config.optimiser == "adam":
        return adam(config.learning_rate, config.decay_steps)
    # Stage i lasts 3^i of the 3280 parts, at the rate * 10^(-i/7) (yburda/iwae: experiments.py).
    # Its first-moment decay of 0.99 and second moments that begin at one are not taken over.
    ends = np.cumsum(3.0 ** np.arange(8)) / 3280 * config.decay_steps
    falls = {}
    for end in ends[:-1]:  # of a short run several stages end at one step
        falls[int(end)] = falls.get(int(end), 1.0) * 10 ** (-1 / 7)
    return optax.adam(
        optax.piecewise_constant_schedule(config.learning_rate, falls), b2=0.999, eps=1e-4
    )
