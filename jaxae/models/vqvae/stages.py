"""What all VQ-VAEs share, whatever they encode: codebooks, the objective, the two stages.

x [B,...] an example; z_e [B,h,w,G,D] what its encoder says; e [G,K,D] the codebooks; k [B,h,w,G]
the nearest rows; z_q = e_k. `vqvae` says what is minimised and why; `Parts` is what a kind of data
adds. `extra` holds `table` (the codebooks, or what a learnt codebook counts from) and `count` (how
many vectors a step each row is chosen by, in moving average), and with codebook=ema `total`.
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
from jaxae.models.vqvae import measures
from jaxae.nets import codebook
from jaxae.training.state import Model, State, all_gather, select_networks


@dataclasses.dataclass(frozen=True)
class Quantised(Checked):
    """The fields that every VQ-VAE's Config has."""

    codes: Annotated[int, Range(2, 65_536)] = 64
    """rows K of a codebook"""
    groups: Size = 1
    """codes G at each place, each with a codebook of its own"""
    code_width: Size = 16
    """length D of a row"""
    codebook: Literal["ema", "gradient"] = "ema"
    """codebooks follow what chose them as moving averages, or by the gradient of their own term"""
    decay: Decay = 0.99
    """of the moving averages: rows (codebook=ema), and how often each is chosen"""
    commitment: Weight = 0.25
    """weight of the term that holds the encoder to the rows it chose"""
    distances: Literal["mean", "sum"] = "mean"
    """squared distances as a mean over D (public code) or a sum (paper)"""
    restart: Share = 0.3
    """a row chosen by fewer vectors per step than this, in moving average, begins anew at a vector
    of the batch, with an average of 1; 0: off"""
    decoder_first: StepsOrZero = 0
    """steps in which the decoder learns alone, before encoder and codebooks join; Adam's moments
    and decay_steps begin anew when they do"""
    stage_one: StepsOrZero = 0
    """steps in which only the autoencoder learns; after them only the prior (0: both always)"""
    learning_rate: Rate = 1e-3
    """Adam's rate for the autoencoder at the first step"""
    decay_steps: StepsOrZero = 0
    """steps in which the autoencoder's rate falls to zero along a cosine (0: constant)"""
    prior_width: Size = 32
    """channels of the prior's network"""
    prior_layers: Depth = 5
    """layers of the prior's network"""
    prior_head: SizeOrZero = 0
    """features between its last two layers; 0: as prior_width"""
    prior_learning_rate: Rate = 1e-3
    """Adam's rate for the prior at its first step"""
    prior_decay_steps: StepsOrZero = 0
    """steps in which the prior's rate falls to zero along a cosine (0: constant)"""

    def __post_init__(self):
        super().__post_init__()
        if self.stage_one and self.stage_one <= self.decoder_first:
            raise ValueError(
                f"stage_one={self.stage_one} must be more than decoder_first={self.decoder_first}: "
                "encoder and codebooks would never learn"
            )


class Parts(NamedTuple):
    """What a kind of data adds. `p` is all parameters by network."""

    init: Callable
    """rng -> params of enc, dec and prior"""
    encoded: Callable
    """p, x -> z_e"""
    costs: Callable
    """p, z_q, batch -> {name: [B]}, among them `distortion`, -log p(x | z_q) in nats"""
    shown: Callable
    """p, z_q, rng -> x: the mean, or a sample where only that exists"""
    logits: Callable
    """p, k -> [B,h,w,G,K]: the prior's, of each code given those before it"""
    drawn: Callable
    """p, n, rng -> k: samples of the prior"""
    size: tuple[int, int]
    """h, w"""
    dims: int
    """numbers in an example"""
    is_mass: bool
    """whether the distortion is a probability's, so that it can be told in bits"""
    needs_label: bool
    """whether the distortion depends on the label, so that x alone has none"""
    draws: bool
    """whether `shown` gives samples"""
    likelihood: str
    """what the distortion is of, by its name in `losses.likelihood`"""


def assemble(config: Quantised, parts: Parts, tx: dict[str, optax.GradientTransformation]) -> Model:
    """The VQ-VAE of these parts; `tx` by player: autoencoder, prior."""
    shape = (*parts.size, config.groups, config.code_width)
    uniform = math.prod(parts.size) * config.groups * math.log(config.codes)  # nats per example
    by_gradient = config.codebook == "gradient"
    owns = {
        "autoencoder": ("enc", "dec", "codebook") if by_gradient else ("enc", "dec"),
        "prior": ("prior",),
    }

    # -- the parts of the objective ------------------------------------------------------------

    def tables(p, extra):
        """e [G,K,D]. What no gradient moves is in `extra`; a learnt table counts from there."""
        return extra["table"] + p["codebook"]["table"] if by_gradient else extra["table"]

    def distance(a, b):
        """|a - sg[b]|^2 per example, [B]: mean over places and codes, mean or sum over D."""
        squares = codebook.squared_distance_to_constant(a, b)
        squares = squares / config.code_width if config.distances == "mean" else squares
        return jnp.mean(squares, axis=(1, 2, 3))

    def rate_of(p, k):
        """-log p(k) under the learnt prior, [B] nats."""
        log_p = jax.nn.log_softmax(parts.logits(p, k))
        return -jnp.sum(jnp.take_along_axis(log_p, k[..., None], axis=-1), axis=(1, 2, 3, 4))

    def begun(extra, p, fresh, where):
        """Rows `where [G,K]` begin anew at the vectors `fresh [G,K,D]`, with a count of one."""
        rows = where[..., None]
        offset = p["codebook"]["table"] if by_gradient else 0.0
        found = {
            "table": jnp.where(rows, fresh - offset, extra["table"]),
            "count": jnp.where(where, 1.0, extra["count"]),
        }
        if not by_gradient:
            found["total"] = jnp.where(rows, fresh, extra["total"])
        return jax.lax.stop_gradient(found)

    def objective(p, extra, batch, priority, at, axis_name):
        """The autoencoder's loss at step `at`; its metrics, and `extra` after the step."""
        z_e = parts.encoded(p, batch["image"])
        vectors, priorities = all_gather((jax.lax.stop_gradient(z_e), priority), axis_name)
        vectors = vectors.reshape(-1, *shape[2:])
        fresh = codebook.select_vectors(vectors, priorities.reshape(-1), config.codes)
        first = at == config.decoder_first
        extra = begun(extra, p, fresh, jnp.full(extra["count"].shape, first))

        e = tables(p, extra)
        z_q, _ = codebook.look_up(z_e, e)
        joined = jnp.float32(at >= config.decoder_first)
        costs = parts.costs(p, joined * codebook.straight_through(z_e, z_q), batch)
        distortion, commitment = jnp.mean(costs["distortion"]), jnp.mean(distance(z_e, z_q))
        total = distortion / parts.dims + joined * (config.commitment * commitment)
        if by_gradient:
            total += joined * jnp.mean(distance(z_q, z_e))

        _, chosen = codebook.look_up(vectors, e)
        counts, sums = codebook.code_statistics(vectors, chosen, config.codes)
        moved = codebook.update_moving_average(
            extra["count"], extra.get("total", jnp.zeros_like(e)), counts, sums, config.decay
        )
        if by_gradient:
            extra = extra | {"count": moved[0]}
        else:
            extra = dict(zip(("count", "total", "table"), moved, strict=True))
        metrics = {
            "autoencoder": total,
            "distortion": distortion,
            "commitment": commitment,
            "perplexity": jnp.mean(codebook.perplexity(counts)),
            "codes_used": jnp.mean(counts > 0),
        }
        if config.restart:
            dead = extra["count"] < config.restart
            extra = begun(extra, p, fresh, dead)
            metrics["restarted"] = jnp.sum(dead).astype(jnp.float32)
        return total, (metrics, extra)

    # -- the players ---------------------------------------------------------------------------

    def learn_codes(state, batch, priority, axis_name):
        def loss(own):
            p = state.params | own
            return objective(p, state.extra, batch, priority, state.step, axis_name)

        own, opt = select_networks(state.params, owns["autoencoder"]), state.opt["autoencoder"]
        if config.decoder_first:  # as in `acn`: averages over no gradients make moves too long
            anew = state.step == config.decoder_first
            fresh = tx["autoencoder"].init(own)
            opt = jax.tree.map(lambda new, old: jnp.where(anew, new, old), fresh, opt)
        own, opt, (metrics, extra) = contract.descend(loss, tx["autoencoder"], own, opt, axis_name)
        opt, params = state.opt | {"autoencoder": opt}, state.params | own
        return state.replace(params=params, opt=opt, extra=extra), metrics

    def learn_prior(state, batch, axis_name, metrics):
        """Fits the prior to the codes that x has now; hands on `metrics` of this device's share."""
        z_e = parts.encoded(state.params, batch["image"])
        _, k = codebook.look_up(z_e, tables(state.params, state.extra))

        def loss(own):
            rate = jnp.mean(rate_of(own, k))
            return rate, metrics | {"prior": rate}

        own = select_networks(state.params, owns["prior"])
        own, opt, metrics = contract.descend(loss, tx["prior"], own, state.opt["prior"], axis_name)
        return state.replace(params=state.params | own, opt=state.opt | {"prior": opt}), metrics

    # -- the contract --------------------------------------------------------------------------

    def init(rng):
        of_networks, of_table = jax.random.split(rng)
        params = parts.init(of_networks)
        table = jax.random.normal(of_table, (config.groups, config.codes, config.code_width))
        extra = {"table": table, "count": jnp.ones(table.shape[:2])}
        if by_gradient:
            params["codebook"] = {"table": jnp.zeros_like(table)}
        else:
            extra["total"] = jnp.copy(table)
        opt = {name: tx[name].init(select_networks(params, owns[name])) for name in tx}
        return State(jnp.int32(0), params, opt, extra)

    def step(state, batch, rng, axis_name=None):
        priority = jax.random.uniform(rng, (batch["image"].shape[0], *parts.size))

        def stage_one(state):
            state, metrics = learn_codes(state, batch, priority, axis_name)
            return state, metrics | {"prior": jnp.float32(uniform)}

        def stage_two(state):
            seen = objective(state.params, state.extra, batch, priority, state.step, axis_name)
            seen = seen[1][0]
            return learn_prior(state, batch, axis_name, seen)

        if config.stage_one:
            early = state.step < config.stage_one
            state, metrics = _either(early, stage_one, stage_two, state)
        else:
            state, metrics = learn_codes(state, batch, priority, axis_name)
            state, metrics = learn_prior(state, batch, axis_name, metrics)
        metrics["loss"] = metrics["distortion"] + metrics["prior"]
        return state.replace(step=state.step + 1), metrics

    def quantised(state, x):
        z_e = parts.encoded(state.params, x)
        return z_e, *codebook.look_up(z_e, tables(state.params, state.extra))

    def codes_of(state, x):
        return quantised(state, x)[2]

    def evaluate(state, batch, rng):
        z_e, z_q, k = quantised(state, batch["image"])
        costs, rate = parts.costs(state.params, z_q, batch), rate_of(state.params, k)
        return {
            "loss": rate + costs["distortion"],
            "rate": rate,
            **costs,
            "rate_uniform": jnp.full(len(rate), uniform, jnp.float32),
            "commitment": distance(z_e, z_q),
        }

    def encode(state, x, rng):
        return parts.encoded(state.params, x).reshape(x.shape[0], -1)

    def decode(state, z, rng):
        z_q, _ = codebook.look_up(z.reshape(-1, *shape), tables(state.params, state.extra))
        return parts.shown(state.params, z_q, rng)

    def sample(state, rng, n):
        of_codes, of_x = jax.random.split(rng)
        k = parts.drawn(state.params, n, of_codes)
        z_q = codebook.gather_rows(tables(state.params, state.extra), k)
        return parts.shown(state.params, z_q, of_x)

    def log_weight(state, x, rng):
        _, z_q, k = quantised(state, x)
        costs = parts.costs(state.params, z_q, {"image": x})
        return -costs["distortion"] - rate_of(state.params, k)

    def assess(state, data, rng):
        """How the codebooks are used, and what an example costs: see `measures`."""
        return measures.of_set(
            codes_of,
            evaluate,
            state,
            data,
            rng,
            codes=config.codes,
            uniform=uniform,
            dims=parts.dims if parts.is_mass else None,
        )

    def advise(found):
        return measures.advice(found, config.codes, config.restart, Quantised.restart)

    return Model(
        init,
        step,
        evaluate,
        encode=encode,
        decode=decode,
        sample=sample,
        assess=assess,
        advise=advise,
        log_weight=None if parts.needs_label else log_weight,
        draws=parts.draws,
        likelihood=parts.likelihood,
    )


def _either(which: jax.Array, yes: Callable, no: Callable, state: State) -> Any:
    """`yes(state)` or `no(state)`.

    On a CPU both are computed: XLA takes eight times as long there for a convolution within a
    conditional (a step of the preset `mnist`: 260 ms of processor time, and 80 for both stages).
    """
    if jax.default_backend() != "cpu":
        return jax.lax.cond(which, yes, no, state)
    return jax.tree.map(lambda a, b: jnp.where(which, a, b), yes(state), no(state))
