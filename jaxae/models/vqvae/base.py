"""The common base of the VQ-VAEs for images and for signals: codebooks, objective, two stages.

x [B,...] an example; z_e [B,h,w,G,D] the encoder's output; e [G,K,D] the codebooks; k [B,h,w,G] the
nearest rows; z_q = e_k. The objective is described in `vqvae/model.py`. `Functions` holds what
differs between kinds of data. `extra` holds `table` (the codebooks; with codebook=gradient the
constant to which the learnt table is added), `count` (moving average of how many vectors of a batch
use each row), and with codebook=ema `total` (moving average of their sum).
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

import jaxae.training.state as contract
from jaxae.fields import (
    Checked,
    Decay,
    Depth,
    Range,
    Rate,
    Share,
    Size,
    SizeOrZero,
    StepsOrZero,
    Weight,
)
from jaxae.models.vqvae import code_usage
from jaxae.nets import codebook
from jaxae.training.state import Model, State, all_gather, select_networks


@dataclasses.dataclass(frozen=True)
class BaseConfig(Checked):
    """The fields that the Config of every VQ-VAE has."""

    codes: Annotated[int, Range(2, 65_536)] = 64
    """rows K of a codebook"""
    groups: Size = 1
    """codes G at each position, each with its own codebook"""
    code_width: Size = 16
    """length D of a row"""
    codebook: Literal["ema", "gradient"] = "ema"
    """how codebooks are trained: by moving averages of the vectors that use them, or by gradient"""
    decay: Decay = 0.99
    """decay of the moving averages: of the rows (codebook=ema), and of how often each is used"""
    commitment: Weight = 0.25
    """weight of the commitment loss, which pulls the encoder's output to the nearest rows"""
    distances: Literal["mean", "sum"] = "mean"
    """squared distances are means over D (public code) or sums (paper)"""
    restart: Share = 0.3
    """a row used by fewer vectors per step than this, in moving average, restarts at a vector of
    the batch, with an average of 1; 0: off"""
    decoder_first: StepsOrZero = 0
    """steps in which only the decoder trains, without the code; after them Adam's moments and
    decay_steps start again"""
    stage_one: StepsOrZero = 0
    """steps in which only the autoencoder trains; after them only the prior (0: both always)"""
    learning_rate: Rate = 1e-3
    """Adam's learning rate for the autoencoder at the first step"""
    decay_steps: StepsOrZero = 0
    """steps in which the autoencoder's learning rate falls to zero along a cosine (0: constant)"""
    prior_width: Size = 32
    """channels of the prior network"""
    prior_layers: Depth = 5
    """layers of the prior network"""
    prior_head: SizeOrZero = 0
    """features between the last two layers of the prior network; 0: as prior_width"""
    prior_learning_rate: Rate = 1e-3
    """Adam's learning rate for the prior at its first step"""
    prior_decay_steps: StepsOrZero = 0
    """steps in which the prior's learning rate falls to zero along a cosine (0: constant)"""

    def __post_init__(self):
        super().__post_init__()
        if self.stage_one and self.stage_one <= self.decoder_first:
            raise ValueError(
                f"stage_one={self.stage_one} must be more than decoder_first={self.decoder_first}: "
                "encoder and codebooks would never train"
            )


class Functions(NamedTuple):
    """What differs between kinds of data. `p` are all parameters, by network."""

    init: Callable
    """rng -> params of enc, dec and prior"""
    encode: Callable
    """p, x -> z_e"""
    reconstruction_losses: Callable
    """p, z_q, batch -> {name: [B]}, with `distortion`, -log p(x | z_q) in nats"""
    decode: Callable
    """p, z_q, rng -> x: the mean, or a sample where only that exists"""
    prior_logits: Callable
    """p, k -> [B,h,w,G,K]: of each code given those before it"""
    sample_prior: Callable
    """p, n, rng -> k"""
    size: tuple[int, int]
    """h, w"""
    dims: int
    """numbers in an example"""
    is_mass: bool
    """whether p(x | z_q) is a probability, so that the distortion has a meaning in bits"""
    needs_label: bool
    """whether the distortion needs the label, so that x alone has no likelihood"""
    draws: bool
    """whether `decode` gives samples"""
    likelihood: str
    """p(x | z_q), by its name in `losses.likelihood`"""


def assemble(
    config: BaseConfig, functions: Functions, tx: dict[str, optax.GradientTransformation]
) -> Model:
    """The VQ-VAE with these functions; `tx` by player: autoencoder, prior."""
    shape = (*functions.size, config.groups, config.code_width)
    uniform = math.prod(functions.size) * config.groups * math.log(config.codes)  # nats per example
    by_gradient = config.codebook == "gradient"
    owns = {
        "autoencoder": ("enc", "dec", "codebook") if by_gradient else ("enc", "dec"),
        "prior": ("prior",),
    }

    # -- the losses ----------------------------------------------------------------------------

    def codebooks(p, extra):
        """e `[G,K,D]`."""
        return extra["table"] + p["codebook"]["table"] if by_gradient else extra["table"]

    def distance(a, b):
        """|a - sg[b]|^2, `[B]`: mean over positions and codes, mean or sum over D."""
        squares = codebook.squared_distance_to_constant(a, b)
        squares = squares / config.code_width if config.distances == "mean" else squares
        return jnp.mean(squares, axis=(1, 2, 3))

    def prior_nll(p, k):
        """-log p(k) under the prior network, `[B]` nats."""
        log_p = jax.nn.log_softmax(functions.prior_logits(p, k))
        return -jnp.sum(jnp.take_along_axis(log_p, k[..., None], axis=-1), axis=(1, 2, 3, 4))

    def restart_rows(extra, p, vectors, where):
        """Sets rows `where` `[G,K]` to `vectors` `[G,K,D]`, with a count of one."""
        rows = where[..., None]
        offset = p["codebook"]["table"] if by_gradient else 0.0
        restarted = {
            "table": jnp.where(rows, vectors - offset, extra["table"]),
            "count": jnp.where(where, 1.0, extra["count"]),
        }
        if not by_gradient:
            restarted["total"] = jnp.where(rows, vectors, extra["total"])
        return jax.lax.stop_gradient(restarted)

    def autoencoder_loss(p, extra, batch, priority, step, axis_name):
        """The loss at `step`; its metrics, and `extra` after the step.

        `priority` `[B,h,w]` chooses the vectors at which rows restart.
        """
        z_e = functions.encode(p, batch["image"])
        vectors, priorities = all_gather((jax.lax.stop_gradient(z_e), priority), axis_name)
        vectors = vectors.reshape(-1, *shape[2:])
        restart_vectors = codebook.select_vectors(vectors, priorities.reshape(-1), config.codes)
        first = step == config.decoder_first  # codebooks start at vectors of a batch
        first = jnp.full(extra["count"].shape, first)
        extra = restart_rows(extra, p, restart_vectors, first)

        e = codebooks(p, extra)
        z_q, _ = codebook.look_up(z_e, e)
        use_code = jnp.float32(step >= config.decoder_first)
        decoder_input = use_code * codebook.straight_through(z_e, z_q)
        distortion = functions.reconstruction_losses(p, decoder_input, batch)["distortion"]
        distortion, commitment = jnp.mean(distortion), jnp.mean(distance(z_e, z_q))
        loss = distortion / functions.dims + use_code * (config.commitment * commitment)
        if by_gradient:
            loss += use_code * jnp.mean(distance(z_q, z_e))

        _, index = codebook.look_up(vectors, e)
        counts, sums = codebook.code_statistics(vectors, index, config.codes)
        averages = codebook.update_moving_average(
            extra["count"], extra.get("total", jnp.zeros_like(e)), counts, sums, config.decay
        )
        if by_gradient:
            extra = extra | {"count": averages[0]}
        else:
            extra = dict(zip(("count", "total", "table"), averages, strict=True))
        metrics = {
            "autoencoder": loss,
            "distortion": distortion,
            "commitment": commitment,
            "perplexity": jnp.mean(codebook.perplexity(counts)),
            "codes_used": jnp.mean(counts > 0),
        }
        if config.restart:
            unused = extra["count"] < config.restart
            extra = restart_rows(extra, p, restart_vectors, unused)
            metrics["restarted"] = jnp.sum(unused).astype(jnp.float32)
        return loss, (metrics, extra)

    # -- the players ---------------------------------------------------------------------------

    def train_autoencoder(state, batch, priority, axis_name):
        def loss_fn(owned):
            p = state.params | owned
            return autoencoder_loss(p, state.extra, batch, priority, state.step, axis_name)

        owned, opt = select_networks(state.params, owns["autoencoder"]), state.opt["autoencoder"]
        if config.decoder_first:  # as in `acn`: moments without gradients make steps too long
            starts = state.step == config.decoder_first
            reset = tx["autoencoder"].init(owned)
            opt = jax.tree.map(lambda new, old: jnp.where(starts, new, old), reset, opt)
        owned, opt, (metrics, extra) = contract.descend(
            loss_fn, tx["autoencoder"], owned, opt, axis_name
        )
        opt, params = state.opt | {"autoencoder": opt}, state.params | owned
        return state.replace(params=params, opt=opt, extra=extra), metrics

    def train_prior(state, batch, axis_name, metrics):
        """Fits the prior to the batch's codes; adds its loss to `metrics`."""
        z_e = functions.encode(state.params, batch["image"])
        _, k = codebook.look_up(z_e, codebooks(state.params, state.extra))

        def loss_fn(owned):
            loss = jnp.mean(prior_nll(owned, k))
            return loss, metrics | {"prior": loss}

        owned, opt = select_networks(state.params, owns["prior"]), state.opt["prior"]
        owned, opt, metrics = contract.descend(loss_fn, tx["prior"], owned, opt, axis_name)
        return state.replace(params=state.params | owned, opt=state.opt | {"prior": opt}), metrics

    # -- the contract --------------------------------------------------------------------------

    def init(rng):
        networks_key, table_key = jax.random.split(rng)
        params = functions.init(networks_key)
        table = jax.random.normal(table_key, (config.groups, config.codes, config.code_width))
        extra = {"table": table, "count": jnp.ones(table.shape[:2])}
        if by_gradient:
            params["codebook"] = {"table": jnp.zeros_like(table)}
        else:
            extra["total"] = jnp.copy(table)
        opt = {name: tx[name].init(select_networks(params, owns[name])) for name in tx}
        return State(jnp.int32(0), params, opt, extra)

    def step(state, batch, rng, axis_name=None):
        priority = jax.random.uniform(rng, (batch["image"].shape[0], *functions.size))

        def stage_one(state):
            state, metrics = train_autoencoder(state, batch, priority, axis_name)
            return state, metrics | {"prior": jnp.float32(uniform)}

        def stage_two(state):
            _, (metrics, _) = autoencoder_loss(
                state.params, state.extra, batch, priority, state.step, axis_name
            )
            return train_prior(state, batch, axis_name, metrics)

        if config.stage_one:
            in_stage_one = state.step < config.stage_one
            state, metrics = _either(in_stage_one, stage_one, stage_two, state)
        else:
            state, metrics = train_autoencoder(state, batch, priority, axis_name)
            state, metrics = train_prior(state, batch, axis_name, metrics)
        metrics["loss"] = metrics["distortion"] + metrics["prior"]
        return state.replace(step=state.step + 1), metrics

    def quantise(state, x):
        """z_e, z_q, k"""
        z_e = functions.encode(state.params, x)
        return z_e, *codebook.look_up(z_e, codebooks(state.params, state.extra))

    def encode_codes(state, x):
        return quantise(state, x)[2]

    def evaluate(state, batch, rng):
        z_e, z_q, k = quantise(state, batch["image"])
        rate = prior_nll(state.params, k)
        reconstruction = functions.reconstruction_losses(state.params, z_q, batch)
        return {
            "loss": rate + reconstruction["distortion"],
            "rate": rate,
            **reconstruction,
            "rate_uniform": jnp.full(len(rate), uniform, jnp.float32),
            "commitment": distance(z_e, z_q),
        }

    def encode(state, x, rng):
        return functions.encode(state.params, x).reshape(x.shape[0], -1)

    def decode(state, z, rng):
        z_q, _ = codebook.look_up(z.reshape(-1, *shape), codebooks(state.params, state.extra))
        return functions.decode(state.params, z_q, rng)

    def sample(state, rng, n):
        codes_key, x_key = jax.random.split(rng)
        k = functions.sample_prior(state.params, n, codes_key)
        z_q = codebook.gather_rows(codebooks(state.params, state.extra), k)
        return functions.decode(state.params, z_q, x_key)

    def log_weight(state, x, rng):
        _, z_q, k = quantise(state, x)
        reconstruction = functions.reconstruction_losses(state.params, z_q, {"image": x})
        return -reconstruction["distortion"] - prior_nll(state.params, k)

    def assess(state, data, rng):
        """How the codes are used, and rates: see `measure_code_usage`."""
        return code_usage.measure_code_usage(
            encode_codes,
            evaluate,
            state,
            data,
            rng,
            codes=config.codes,
            uniform=uniform,
            dims=functions.dims if functions.is_mass else None,
        )

    def advise(measures):
        return code_usage.advise(measures, config.codes, config.restart, BaseConfig.restart)

    return Model(
        init,
        step,
        evaluate,
        encode=encode,
        decode=decode,
        sample=sample,
        assess=assess,
        advise=advise,
        log_weight=None if functions.needs_label else log_weight,
        draws=functions.draws,
        likelihood=functions.likelihood,
    )


def _either(condition: jax.Array, if_true: Callable, if_false: Callable, state: State) -> Any:
    """`if_true(state)` or `if_false(state)`.

    On a CPU both are computed: there XLA takes eight times as long for a convolution within a
    conditional (a step of the recipe `mnist`: 260 ms of processor time, and 80 for both stages).
    """
    if jax.default_backend() != "cpu":
        return jax.lax.cond(condition, if_true, if_false, state)
    results = if_true(state), if_false(state)
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), *results)
