"""VAE: a latent-variable model trained by a lower bound on its log-likelihood.

Kingma & Welling 2014, arXiv:1312.6114; the importance-weighted bound of Burda, Grosse &
Salakhutdinov 2016, arXiv:1509.00519 (yburda/iwae: iwae.py); beta of Higgins et al. 2017, free
bits of Kingma et al. 2016, capacity of Burgess et al. 2018. The gradients `dreg` (Tucker et al.
2019) and `stl` (Roeder et al. 2017) are recalled and not re-read.

x [B,H,W,C] image; z [B,Z] code; prior p(z) = N(0, I); posterior q(z|x) = N(mean(x), var(x)) of the
encoder; p(x|z) of the decoder; rate R = KL(q(z|x) || p(z)); distortion D = -log p(x|z), z ~ q.

    loss = D + beta R                                                  = -ELBO for beta = 1
    loss = D + beta max(R_i, free bits) summed over dimensions i       free_bits
    loss = D + capacity_gamma |R - capacity|                           capacity
    loss = -log 1/k sum_j p(x, z_j) / q(z_j|x), z_j ~ q                iwae_k = k

in nats per image, mean over the batch. One player owns both networks. `evaluate` reports the plain
R and D, whatever the training loss.
Deviations: the posterior's log-variance is bounded smoothly to (-10, 10); two stochastic layers
(the second half of the IWAE paper's table) are not built.
"""

import dataclasses
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxae import losses, nets
from jaxae.fields import Checked, DepthOrZero, Positive, Rate, Size, StepsOrZero, Weight
from jaxae.models.shared.gaussian import (
    DENSE_FLOOR,
    mean_and_log_var,
    output_start,
    reparameterise,
)
from jaxae.nets.custom import Networks, replace_networks
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
    """standard deviation of a pixel (gaussian), or its initial value (gaussian_learned)"""
    mixtures: Size = 5
    """components of the logistic mixture"""
    beta: Weight = 1.0
    """weight of the rate in the loss"""
    warmup_steps: StepsOrZero = 0
    """steps in which the rate's weight rises linearly from 0 to beta"""
    free_bits: Weight = 0.0
    """nats per latent dimension, averaged over the batch, that the loss does not count (0: off)"""
    free_bits_per_example: bool = False
    """apply free_bits to each example, not to the batch's mean"""
    capacity: Weight = 0.0
    """target of the rate in nats, by the penalty |R - capacity| (0: off)"""
    capacity_steps: StepsOrZero = 10_000
    """steps in which the capacity rises linearly from 0"""
    capacity_gamma: Weight = 100.0
    """weight of |R - capacity|"""
    iwae_k: Size = 1
    """samples k of the importance-weighted bound that is maximised; 1 is the ELBO"""
    iwae_gradient: Literal["standard", "dreg", "stl"] = "standard"
    """gradient of the encoder: that of the bound, doubly reparameterised (Tucker et al. 2019), or,
    for iwae_k=1, without the score term (Roeder et al. 2017)"""
    learning_rate: Rate = 1e-3
    """Adam's learning rate at the first step"""
    decay_steps: StepsOrZero = 0
    """steps in which the learning rate falls to zero along a cosine (0: constant), or, with
    iwae-2015, to a tenth in eight stages"""
    optimiser: Literal["adam", "iwae-2015"] = "adam"
    """iwae-2015: Adam with eps 1e-4 and the eight stages of the paper's code over decay_steps"""

    def __post_init__(self):
        super().__post_init__()
        reweighted = self.beta != 1 or self.free_bits or self.capacity or self.warmup_steps
        if reweighted and (self.iwae_k > 1 or self.iwae_gradient != "standard"):
            raise ValueError(
                "iwae_k and iwae_gradient maximise a bound, which beta, free_bits, capacity and "
                "warmup_steps change: choose one"
            )
        if self.iwae_gradient == "stl" and self.iwae_k > 1:
            raise ValueError(
                f"iwae_gradient=stl is biased for iwae_k={self.iwae_k}: take iwae_gradient=dreg"
            )
        if self.capacity and (self.free_bits or self.beta != 1 or self.warmup_steps):
            raise ValueError("capacity replaces the rate's weight: leave beta, free_bits and "
                             "warmup_steps at their defaults")  # fmt: skip
        if self.optimiser == "iwae-2015" and not self.decay_steps:
            raise ValueError("optimiser=iwae-2015 needs decay_steps, the length of its stages")


def make(config: Config, spec: Spec, networks: Networks = None) -> Model:
    """The VAE for images of `spec`.

    Args:
        config: the settings.
        spec: of the data.
        networks: flax modules in place of the model's own, by their names in `State.params`:
            `enc`: x `[B,H,W,C]` -> `[B,2Z]`, means and log-variances (before their bound).
            `dec`: z `[B,Z]` -> the likelihood's parameters, `[B,H,W,channels]` with network=conv
            and `[B, H W channels]` with network=mlp. `channels` is C (Bernoulli logits, Gaussian
            means), or for logistic_mixture that of `losses.likelihood`.
    Raises:
        ValueError: an unknown activation, a likelihood that the data's levels cannot take, or
            networks of other names or output shapes.
    """
    pixel = losses.likelihood(
        config.likelihood,
        spec.image_shape,
        levels=spec.levels,
        scale=config.scale,
        mixtures=config.mixtures,
    )
    learned_scale = config.likelihood == "gaussian_learned"
    channels = spec.image_shape[2] if learned_scale else pixel.channels
    defaults = {"enc": _encoder(config), "dec": _decoder(config, spec, channels)}

    def example_inputs():
        return {
            "enc": jnp.zeros((1, *spec.image_shape)),
            "dec": jnp.zeros((1, config.latent)),
        }

    networks = replace_networks(defaults, networks, example_inputs)
    tx = _optimiser(config)

    # -- the parts of the objective ------------------------------------------------------------

    def posterior(p, x):
        """Mean and log-variance of q(z|x), `[B,Z]` each."""
        return mean_and_log_var(networks["enc"].apply({"params": p["enc"]}, x))

    def sample_gaussian(mean, log_var, rng):
        return reparameterise(mean, log_var, jax.random.normal(rng, mean.shape))

    def decode_outputs(p, z):
        """The parameters of p(x|z), `[B,H,W,channels]`."""
        out = networks["dec"].apply({"params": p["dec"]}, z)
        out = out.reshape(-1, *spec.image_shape[:2], channels)
        if learned_scale:  # the means, and the log-scale that all pixels share
            log_scale = p["scale"]["log_scale"].reshape(1, 1, 1, 1)
            out = jnp.concatenate([out, jnp.broadcast_to(log_scale, out.shape)], axis=-1)
        return out

    def elbo_loss(p, x, rng, step, axis_name):
        mean, log_var = posterior(p, x)
        distortion = pixel.nll(decode_outputs(p, sample_gaussian(mean, log_var, rng)), x)
        kl = losses.kl_to_standard_normal_per_dimension(mean, log_var)  # [B, Z]
        rate = jnp.sum(kl, axis=-1)
        if config.capacity:
            target = losses.linear_warmup(step, config.capacity_steps, 0.0, config.capacity)
            mean_rate = jnp.mean(all_gather(rate, axis_name))  # |.| needs the whole batch's mean
            rate_loss = losses.capacity_penalty(mean_rate, target, config.capacity_gamma)
        else:
            rate_loss = jnp.mean(rate)
            if config.free_bits and config.free_bits_per_example:
                rate_loss = jnp.mean(losses.free_bits_per_example(kl, config.free_bits))
            elif config.free_bits:
                rate_loss = losses.free_bits(all_gather(kl, axis_name), config.free_bits)
            rate_loss *= losses.linear_warmup(step, config.warmup_steps, 0.0, config.beta)
        loss = jnp.mean(distortion) + rate_loss
        return loss, {"loss": loss, "rate": jnp.mean(rate), "distortion": jnp.mean(distortion)}

    def log_importance_weight(p, x, z, mean, log_var):
        """log p(x, z) - log q(z|x), `[B]` nats, for z of the posterior N(mean, exp(log_var))."""
        log_prior = losses.gaussian_log_prob(z, jnp.zeros_like(z), jnp.zeros_like(z))
        log_posterior = losses.gaussian_log_prob(z, mean, log_var)
        return log_prior - pixel.nll(decode_outputs(p, z), x) - log_posterior

    def iwae_loss(p, x, rng):
        mean, log_var = posterior(p, x)
        keys = jax.random.split(rng, config.iwae_k)
        z = jax.vmap(lambda key: sample_gaussian(mean, log_var, key))(keys)  # [k, B, Z]
        log_weights = jax.vmap(lambda z, q: log_importance_weight(p, x, z, *q), in_axes=(0, None))
        if config.iwae_gradient == "standard":
            log_w = log_weights(z, (mean, log_var))
            loss = -jnp.mean(losses.importance_weighted_bound(log_w))
        else:  # q's density is a constant; dreg multiplies z's gradient by the weight twice
            constant_q = jax.lax.stop_gradient((mean, log_var))
            log_w = jax.lax.stop_gradient(log_weights(z, constant_q))
            weight = jax.nn.softmax(log_w, axis=0)
            if config.iwae_gradient == "dreg":
                z = weight[..., None] * z + jax.lax.stop_gradient((1 - weight[..., None]) * z)
            loss = -jnp.mean(jnp.sum(weight * log_weights(z, constant_q), axis=0))
        bound = jnp.mean(losses.importance_weighted_bound(jax.lax.stop_gradient(log_w)))
        return loss, {"loss": -bound, "elbo": jnp.mean(jax.lax.stop_gradient(log_w))}

    # -- the contract --------------------------------------------------------------------------

    def init(rng):
        encoder_key, decoder_key = jax.random.split(rng)
        inputs = example_inputs()
        params = {
            "enc": networks["enc"].init(encoder_key, inputs["enc"])["params"],
            "dec": networks["dec"].init(decoder_key, inputs["dec"])["params"],
        }
        if learned_scale:
            params["scale"] = {"log_scale": jnp.log(jnp.float32(config.scale))}
        return State(jnp.int32(0), params, {"autoencoder": tx.init(params)}, {})

    def step(state, batch, rng, axis_name=None):
        def loss_fn(p):
            if config.iwae_k > 1 or config.iwae_gradient != "standard":
                return iwae_loss(p, batch["image"], rng)
            return elbo_loss(p, batch["image"], rng, state.step, axis_name)

        opt = state.opt["autoencoder"]
        params, opt, metrics = descend(loss_fn, tx, state.params, opt, axis_name)
        state = state.replace(step=state.step + 1, params=params, opt={"autoencoder": opt})
        return state, metrics

    def evaluate(state, batch, rng):
        x = batch["image"]
        mean, log_var = posterior(state.params, x)
        rate = losses.kl_to_standard_normal(mean, log_var)
        z = sample_gaussian(mean, log_var, rng)
        distortion = pixel.nll(decode_outputs(state.params, z), x)
        return {"loss": rate + distortion, "rate": rate, "distortion": distortion}

    def encode(state, x, rng):
        return posterior(state.params, x)[0]

    def sample_posterior(state, x, rng):
        return sample_gaussian(*posterior(state.params, x), rng)

    def decode(state, z, rng):
        return pixel.mean(decode_outputs(state.params, z))

    def prior(rng, n):
        return jax.random.normal(rng, (n, config.latent))

    def sample(state, rng, n):
        return decode(state, prior(rng, n), rng)

    def log_weight(state, x, rng):
        mean, log_var = posterior(state.params, x)
        z = sample_gaussian(mean, log_var, rng)
        return log_importance_weight(state.params, x, z, mean, log_var)

    def daydream(state, x, rng):
        z_key, x_key = jax.random.split(rng)
        z = sample_posterior(state, x, z_key)
        return pixel.sample(decode_outputs(state.params, z), x_key)

    return Model(
        init,
        step,
        evaluate,
        encode=encode,
        posterior=sample_posterior,
        decode=decode,
        sample=sample,
        prior=prior,
        log_weight=log_weight,
        daydream=daydream,
        likelihood=config.likelihood,
    )


def _encoder(config: Config) -> nn.Module:
    """x `[B,H,W,C]` -> `[B,2Z]`"""
    if config.network == "mlp":
        return nets.MLP(config.widths, 2 * config.latent, config.activation)
    return nets.ConvEncoder(
        config.conv_width, 2 * config.latent, config.conv_blocks, config.activation
    )


def _decoder(config: Config, spec: Spec, channels: int) -> nn.Module:
    """z `[B,Z]` -> `[B, H W channels]` (mlp) or `[B,H,W,channels]` (conv)."""
    as_published = config.network == "conv" or config.optimiser == "iwae-2015"
    start = output_start(config.likelihood, spec, channels, 0.001 if as_published else DENSE_FLOOR)
    if config.network == "mlp":
        height, width, _ = spec.image_shape
        return nets.MLP(
            config.widths[::-1], height * width * channels, config.activation, start.reshape(-1)
        )
    return nets.ConvDecoder(
        spec.image_shape,
        channels,
        config.conv_width,
        config.conv_blocks,
        config.activation,
        start.mean((0, 1)),
    )


def _optimiser(config: Config) -> optax.GradientTransformation:
    if config.optimiser == "adam":
        return adam(config.learning_rate, config.decay_steps)
    # Stage i lasts 3^i of 3280 parts, at learning_rate * 10^(-i/7) (yburda/iwae: experiments.py).
    # Its first-moment decay of 0.99 and its initial second moments of one are not copied.
    ends = np.cumsum(3.0 ** np.arange(8)) / 3280 * config.decay_steps
    factors = {}
    for end in ends[:-1]:  # in a short run several stages end at the same step
        factors[int(end)] = factors.get(int(end), 1.0) * 10 ** (-1 / 7)
    schedule = optax.piecewise_constant_schedule(config.learning_rate, factors)
    return optax.adam(schedule, b2=0.999, eps=1e-4)
