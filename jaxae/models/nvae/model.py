"""NVAE: a deep hierarchical VAE with one top-down network for inference and generation.

Vahdat & Kautz 2020, arXiv:2007.03898; facts of the networks and of the training from NVlabs/NVAE.

x [B,H,W,C] image; z_l [B,h,w,Z] a latent group, l = 0..L-1 from the coarsest scale to the finest.

    p(z) = prod p(z_l | z_<l)      q(z|x) = prod q(z_l | x, z_<l)
    loss = D + beta(t) sum_l kappa_l KL_l + lambda (sum of spectral norms + sum of max |gain|)

in nats per image; D = -log p(x|z), z ~ q. q is relative to p: N(m_p + dm, s_p * ds). beta rises
linearly in the first 30 % of the steps; until it is 1, kappa_l is larger the larger KL_l is
for the size of the group. The gains are those of the batch norms. One player owns both towers.
`evaluate` and `log_weight` use the plain sum of the KL_l, with the batch statistics of training;
samples come from the prior, with batch statistics of samples (`readjust`).

Deviations: images are padded with black to sides that the halvings divide, and the outputs are
cropped back, so that images may have any size; the output bias starts at the mean image; the
readjusted statistics are those of one large batch, where the official code averages over 500
batches of 16 with a memory of twenty; the logistic mixture sums to one (the official one counts the
second-highest of 256 values as an edge).
"""

import dataclasses
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxae import losses, nets
from jaxae.fields import (
    Checked,
    Depth,
    DepthOrZero,
    Positive,
    Range,
    Rate,
    Share,
    Size,
    SizeOrZero,
    Steps,
    StepsOrZero,
    Weight,
)
from jaxae.models.nvae.cells import init_kernels
from jaxae.models.nvae.networks import Hierarchy, Layout
from jaxae.models.shared.batch_needs import min_batch_for_batch_norm
from jaxae.models.shared.gaussian import output_start
from jaxae.nets.custom import Networks, refuse_networks
from jaxae.training.state import Model, Need, Spec, State, adam, all_gather, descend

FIRST_ITERATIONS, ITERATIONS = 40, 4  # of the power method, in the first step and after it
ONE_HIERARCHY = (
    "model nvae is one hierarchy, in which the posterior of each group reads both encoder and "
    "decoder; it takes no networks of your own"
)


@dataclasses.dataclass(frozen=True)
class Config(Checked):
    """Every field is a flag of the command line; the line below a field is its help text."""

    groups: tuple[Depth, ...] = (2, 2)
    """number of latent groups per scale, from the coarsest scale to the finest"""
    latent: Size = 4
    """channels Z of a group"""
    width: Annotated[int, Range(2, 65_536)] = 16
    """channels after the first convolution, doubled at each halving"""
    blocks: Annotated[int, Range(0, 16)] = 1
    """halvings of the image before the finest scale"""
    block_cells: Depth = 2
    """cells for each of these halvings"""
    cells: Depth = 1
    """cells before each group, in both towers"""
    flows: DepthOrZero = 0
    """pairs of volume-preserving flow cells in each group's posterior; rates are then estimates"""
    residual: bool = True
    """posteriors are relative to their priors"""
    likelihood: Literal["bernoulli", "gaussian", "logistic_mixture"] = "bernoulli"
    """distribution of a pixel"""
    scale: Positive = 0.1
    """standard deviation of a pixel (gaussian)"""
    mixtures: Size = 10
    """components of the logistic mixture"""
    warmup: Share = 0.3
    """share of decay_steps in which the rate's weight rises to 1; 0: off"""
    balance: bool = True
    """while the rate's weight rises, weigh a group more the larger its rate"""
    spectral: Weight = 1e-2
    """lambda, weight of the spectral norms and of the batch norms' largest gains"""
    spectral_start: Weight = 0.0
    """initial weight, which falls geometrically to lambda as beta rises (0: constant)"""
    readjust: SizeOrZero = 256
    """samples that give the decoder's batch statistics for sampling (0: those of training)"""
    temperature: Weight = 1.0
    """factor of the prior's standard deviations in samples"""
    optimiser: Literal["adamax", "adam"] = "adamax"
    """adamax has eps 1e-3 and weight decay in the gradient, as published"""
    learning_rate: Rate = 1e-2
    """learning rate after its warm-up"""
    rate_warmup: StepsOrZero = 100
    """steps in which the learning rate of adamax rises from zero"""
    weight_decay: Weight = 3e-4
    """of adamax: this times the weights is added to the gradient"""
    decay_steps: Steps = 3000
    """T: steps after which the learning rate has fallen along a cosine, to a hundredth (adamax) or
    to zero"""

    def __post_init__(self):
        super().__post_init__()
        if not self.groups:
            raise ValueError(f"groups={self.groups} must name the groups of at least one scale")
        if self.spectral_start and not self.spectral:
            raise ValueError("spectral_start falls to spectral, which is 0: set spectral too")
        if self.optimiser == "adamax" and self.rate_warmup >= self.decay_steps:
            raise ValueError(
                f"rate_warmup={self.rate_warmup} must be less than decay_steps={self.decay_steps}"
            )


def make(config: Config, spec: Spec, networks: Networks = None) -> Model:
    """The NVAE for images of `spec`.

    Args:
        config: the settings.
        spec: of the data.
        networks: must be None: encoder and decoder are one hierarchy, in which every group's
            posterior reads features of both, so neither can be replaced by itself.
    Raises:
        ValueError: a likelihood that the data's levels cannot take, or networks of the caller's
            own.
    """
    refuse_networks(networks, ONE_HIERARCHY)
    pixel = losses.likelihood(
        config.likelihood, spec.image_shape, levels=spec.levels, scale=config.scale,
        mixtures=config.mixtures,
    )  # fmt: skip
    layout = _layout(config, spec)
    border = [(a - b) // 2 for a, b in zip(layout.image[:2], spec.image_shape[:2], strict=True)]
    start = output_start(config.likelihood, spec, pixel.channels).mean((0, 1))
    build = lambda **fields: Hierarchy(
        layout, pixel.channels, config.residual, config.flows, out_bias=start, **fields
    )
    network = build()
    network_without_momentum = build(momentum=0.0)  # statistics are those of the last batch
    shapes, alpha = layout.code_shapes(), losses.group_weights(config.groups)
    tx = _optimiser(config)

    def pad(x):
        rest = [a - b - c for a, b, c in zip(layout.image, spec.image_shape, border, strict=False)]
        return jnp.pad(x, ((0, 0), (border[0], rest[0]), (border[1], rest[1]), (0, 0)))

    def crop(out):
        (top, left), (height, width) = border, spec.image_shape[:2]
        return out[:, top : top + height, left : left + width]

    def sample_noise(rng, n):
        """N(0, I) for each group, `[n,h,w,Z]`."""
        keys = jax.random.split(rng, len(shapes))
        return [jax.random.normal(k, (n, *s)) for k, s in zip(keys, shapes, strict=True)]

    def variables(state):
        return {"params": state.params, "batch_stats": state.extra["stats"]}

    def group_rates(groups):
        """KL_l `[B,L]`: exact, or with flows an estimate from one sample."""
        if not config.flows:
            kl = [
                losses.kl_diagonal_gaussians_per_dimension(
                    g.q.mean, 2 * jnp.log(g.q.deviation), g.p.mean, 2 * jnp.log(g.p.deviation)
                ).sum((1, 2, 3))
                for g in groups
            ]
        else:
            kl = [_log_normal(g.z_0, g.q) - _log_normal(g.z, g.p) for g in groups]
        return jnp.stack(kl, axis=-1)

    # -- the contract --------------------------------------------------------------------------

    def init(rng):
        network_key, vectors_key = jax.random.split(rng)
        x = jnp.zeros((1, *layout.image))
        no_noise = [jnp.zeros((1, *shape)) for shape in shapes]
        init_key, kernels_key = jax.random.split(network_key)
        initial = network.init(init_key, x, no_noise, method="infer")
        params = init_kernels(kernels_key, initial["params"])
        vectors = nets.init_spectral_vectors(vectors_key, initial["weights"])
        extra = {"stats": initial["batch_stats"], "vectors": vectors}
        return State(jnp.int32(0), params, {"autoencoder": tx.init(params)}, extra)

    def step(state, batch, rng, axis_name=None):
        x = batch["image"]
        noise = sample_noise(rng, x.shape[0])
        steps = config.warmup * config.decay_steps
        steps_done = state.step - 1e-4 * config.decay_steps
        beta = jnp.clip(steps_done / steps, 1e-4, 1.0) if steps else jnp.float32(1.0)
        penalty_weight = config.spectral
        if config.spectral_start:
            first, last = np.log(config.spectral_start), np.log(config.spectral)
            penalty_weight = jnp.exp((1 - beta) * first + beta * last)

        def loss_fn(p):
            (out, groups), updates = network.apply(
                {"params": p, "batch_stats": state.extra["stats"]}, pad(x), noise, True,
                axis_name, method="infer", mutable=["batch_stats", "weights"],
            )  # fmt: skip
            distortion = jnp.mean(pixel.nll(crop(out), x))
            kl = group_rates(groups)
            rate_loss = beta * jnp.mean(jnp.sum(kl, axis=-1))
            if config.balance:
                kappa = losses.kl_balance(all_gather(kl, axis_name), alpha)
                kappa = jnp.where(beta < 1, kappa, 1.0)
                rate_loss = beta * jnp.mean(jnp.sum(kappa[None] * kl, axis=-1))
            penalty, vectors = _largest_gains(p), state.extra["vectors"]
            if config.spectral:
                iterations = jnp.where(state.step == 0, FIRST_ITERATIONS, ITERATIONS)
                norms, vectors = nets.spectral_norms(updates["weights"], vectors, iterations)
                penalty += jnp.sum(norms)
            loss = distortion + rate_loss + penalty_weight * penalty
            rate = jnp.mean(jnp.sum(kl, axis=-1))
            metrics = {
                "loss": rate + distortion, "rate": rate, "distortion": distortion,
                "objective": loss, "beta": beta, "penalty": penalty,
            }  # fmt: skip
            stats = nets.cast_like(updates["batch_stats"], state.extra["stats"])
            extra = {"stats": stats, "vectors": vectors}
            return loss, (metrics, extra)

        params, opt, (metrics, extra) = descend(
            loss_fn, tx, state.params, state.opt["autoencoder"], axis_name
        )
        opt = {"autoencoder": opt}
        return state.replace(step=state.step + 1, params=params, opt=opt, extra=extra), metrics

    def infer(state, x, noise):
        """Outputs and groups, z ~ q(z|x)."""
        out, groups = network.apply(variables(state), pad(x), noise, method="infer")
        return crop(out), groups

    def evaluate(state, batch, rng):
        x = batch["image"]
        out, groups = infer(state, x, sample_noise(rng, x.shape[0]))
        kl, distortion = group_rates(groups), pixel.nll(out, x)
        rate = jnp.sum(kl, axis=-1)
        by_group = {f"rate_{number:02d}": kl[:, number] for number in range(len(shapes))}
        return {"loss": rate + distortion, "rate": rate, "distortion": distortion} | by_group

    def log_weight(state, x, rng):
        out, groups = infer(state, x, sample_noise(rng, x.shape[0]))
        log_ratio = sum(_log_normal(g.z, g.p) - _log_normal(g.z_0, g.q) for g in groups)
        return log_ratio - pixel.nll(out, x)

    def encode(state, x, rng):
        """The posteriors' means from the coarsest group to the finest, concatenated."""
        no_noise = [jnp.zeros((x.shape[0], *shape)) for shape in shapes]
        _, groups = infer(state, x, no_noise)
        return jnp.concatenate([g.z.reshape(x.shape[0], -1) for g in groups], axis=-1)

    def decode(state, z, rng):
        ends = np.cumsum([np.prod(shape) for shape in shapes])[:-1]
        flat_codes = zip(jnp.split(z, ends, axis=-1), shapes, strict=True)
        codes = [code.reshape(-1, *shape) for code, shape in flat_codes]
        out, _ = network.apply(variables(state), codes, method="decode")
        return pixel.mean(crop(out))

    def readjust_statistics(state, rng):
        """Variables with the decoder's batch statistics on samples of the prior."""
        _, updates = network_without_momentum.apply(
            variables(state), sample_noise(rng, config.readjust), config.temperature, True,
            method="generate", mutable=["batch_stats"],
        )  # fmt: skip
        return variables(state) | {"batch_stats": updates["batch_stats"]}

    def sample(state, rng, n):
        z_key, statistics_key = jax.random.split(rng)
        v = readjust_statistics(state, statistics_key) if config.readjust else variables(state)
        out, _ = network.apply(v, sample_noise(z_key, n), config.temperature, method="generate")
        return pixel.mean(crop(out))

    def daydream(state, x, rng):
        z_key, x_key = jax.random.split(rng)
        out, _ = infer(state, x, sample_noise(z_key, x.shape[0]))
        return pixel.sample(out, x_key)

    return Model(
        init,
        step,
        evaluate,
        encode=encode,
        decode=decode,
        sample=sample,
        log_weight=log_weight,
        daydream=daydream,
        likelihood=config.likelihood,
        needs=_needs(config, layout),
    )


def _needs(config: Config, layout: Layout) -> tuple[Need, ...]:
    height, width, _ = layout.map_of(0)
    least = min_batch_for_batch_norm(height * width)
    return () if least == 1 else (
        Need(f"groups={config.groups} and blocks={config.blocks} end in maps of {height}x{width}, "
             f"which batch normalisation needs {least} examples for", least),
    )  # fmt: skip


def _layout(config: Config, spec: Spec) -> Layout:
    """The towers' sizes, for images padded to sides that the halvings divide."""
    factor = 2 ** (config.blocks + len(config.groups) - 1)
    height, width, colours = spec.image_shape
    sides = (factor * -(-height // factor), factor * -(-width // factor))
    return Layout(
        (*sides, colours), config.groups, config.latent, config.width, config.blocks,
        config.block_cells, config.cells,
    )  # fmt: skip


def _log_normal(z, normal):
    """log N(z; mean, deviation^2) over a group: [B,h,w,Z] -> [B] nats."""
    flat = lambda a: a.reshape(a.shape[0], -1)
    return losses.gaussian_log_prob(flat(z), flat(normal.mean), flat(2 * jnp.log(normal.deviation)))


def _largest_gains(params) -> jax.Array:
    """The sum over batch norms of their largest |gain|."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return sum(jnp.max(jnp.abs(leaf)) for path, leaf in leaves if path[-1].key == "scale")


def _optimiser(config: Config) -> optax.GradientTransformation:
    if config.optimiser == "adam":
        return adam(config.learning_rate, config.decay_steps)
    rate = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, config.rate_warmup, config.decay_steps,
        end_value=0.01 * config.learning_rate,
    )  # fmt: skip
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_adamax(eps=1e-3),
        optax.scale_by_learning_rate(rate),
    )
