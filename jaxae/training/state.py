"""The contract of all models: `State`, `Model`, `Spec`, and the update of a player.

This module does not depend on a paper, a data set or a device. Models import it; the training loop,
the evaluation and the tests use models only through it.
"""

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax


@flax.struct.dataclass
class State:
    """Everything that a step changes and a checkpoint contains."""

    step: jax.Array  # int32 scalar
    params: dict[str, Any]  # by network, e.g. enc, dec, critic
    opt: dict[str, Any]  # by player, e.g. autoencoder, critic; by network where players share it
    extra: dict[str, Any]  # not updated by gradients: batch statistics, codebooks, code memory


class Spec(NamedTuple):
    """Properties of the data that a model may use at construction."""

    image_shape: tuple[int, int, int]  # H, W, C
    size: int  # training examples; `index` runs over 0..size-1
    classes: int  # 0 without labels
    levels: int  # number of values of a pixel: 256, 17 (digits), 2 (binarised), 0 (continuous)
    mean: np.ndarray  # [H, W, C] mean training image, after preprocessing

    def __repr__(self) -> str:
        fields = [f"{name}={value!r}" for name, value in zip(self._fields[:-1], self, strict=False)]
        average = f"{self.mean.dtype} {self.mean.shape} of average {self.mean.mean():.4g}"
        return f"Spec({', '.join(fields)}, mean=<{average}>)"


class Need(NamedTuple):
    """A requirement of a step on the number of examples; checked by `Plan.check`."""

    reason: str
    """a clause that begins with the configuration field that is the reason"""
    least: int = 1
    """minimum number of examples"""
    multiple: int = 1
    """the number must be a multiple of this"""
    of: Literal["batch_size", "labels_batch"] = "batch_size"
    """which examples: the batch, or the additional labelled ones"""
    by_device: bool = False
    """the requirement holds for the share of each device under `pmap`"""

    def check(self, count: int, setting: str) -> None:
        """Raises ValueError if `count` is too small or not a multiple.

        Args:
            count: number of examples.
            setting: the setting with this number; the message begins with it.
        """
        if count >= self.least and count % self.multiple == 0:
            return
        share = "for each device " if self.by_device else ""
        required = [f"a multiple of {self.multiple}"] if self.multiple > 1 else []
        required += [f"at least {self.least}"] if self.least > 1 or not required else []
        raise ValueError(
            f"{setting}: {self.reason}; {self.of} must be {share}{' and '.join(required)}"
        )


class Model(NamedTuple):
    """A bundle of pure functions. Nothing in it is compiled; the caller compiles.

    A batch is a dict: `image` [B,H,W,C] float32 (in [0,1] unless standardised), `index` [B]
    int32 (position in the training set, -1 for other images), and, if the data has labels,
    `label` [B] int32 and `labelled` [B] bool. A capability that a paper lacks is None.
    """

    init: Callable
    """rng -> State"""
    step: Callable
    """state, batch, rng, axis_name=None -> State, {name: scalar}: one step of all players.
    `rng` is fresh at every step; under `axis_name` the batch is this device's share."""
    evaluate: Callable
    """state, batch, rng -> {name: [B]}: per example, in nats or squared error, unreduced.
    Includes `loss`, by which the best checkpoint is chosen (lower is better)."""
    encode: Callable | None = None
    """state, x [B,H,W,C], rng -> z [B,Z]: the code for probes and retrieval"""
    posterior: Callable | None = None
    """state, x, rng -> z [B,Z]: a sample of q(z|x), for models whose `encode` returns its mean"""
    decode: Callable | None = None
    """state, z [B,Z], rng -> x [B,H,W,C]: the mean image, or a sample if there is no mean"""
    sample: Callable | None = None
    """state, rng, n -> x [n,H,W,C]"""
    prior: Callable | None = None
    """rng, n -> z [n,Z]: for two-sample comparisons with the codes"""
    predict: Callable | None = None
    """state, x, rng -> logits [B,K]: label or cluster heads"""
    assess: Callable | None = None
    """state, data, rng -> {name: number}: measures of a whole data set"""
    advise: Callable | None = None
    """numbers of `assess` -> [text]: problems that they show, each with its remedy"""
    log_weight: Callable | None = None
    """state, x, rng -> [B] nats: log p(x,z) - log q(z|x) for one z ~ q(z|x)"""
    daydream: Callable | None = None
    """state, x, rng -> x': one step of a Markov chain of images"""
    restore: Callable | None = None
    """state, x, rng -> corrupted, restored, both [B,H,W,C]"""
    mix: Callable | None = None
    """state, x, y, rng -> [K,B,H,W,C]: x with the k-th part of its code, coarse to fine, from y"""
    refresh: Callable | None = None
    """state, batch, rng -> State: updates a code memory, batch statistics or an initial codebook
    from training images, without gradients; the caller passes the whole training set. Evaluation,
    sampling and encoding use refreshed states"""
    result_names: Mapping[str, str] = types.MappingProxyType({})
    """names in results for numbers of `evaluate` that are not comparable under their own name, such
    as a `loss` in nats that is not a bound on -log p(x)"""
    draws: bool = False
    """True: `decode` and `sample` return images like the data (samples of p(x|z), or of a generator
    trained by a critic), binary for binary data; False: means of pixels"""
    needs: tuple[Need, ...] = ()
    """requirements of a step on the number of examples; by default one is enough"""
    likelihood: str | None = None
    """name of p(x|z) in `losses.likelihood`, if there is one: it determines whether `log_weight` is
    of probabilities or densities, and that samples of a Bernoulli are binary"""


def descend(loss_fn, tx, owned, opt_state, axis_name=None):
    """One optimiser step on `loss_fn(owned) -> scalar, metrics`.

    Args:
        loss_fn: mean loss over this device's batch, with a dict of scalar metrics.
        tx: the player's optax transformation, and `opt_state` its state.
        owned: the parameters that the player updates.
        axis_name: the mapped axis under `pmap`; None elsewhere (under `jit` over a mesh the
            batch mean is global already).
    Returns:
        the updated parameters, the new optimiser state, the metrics.
    """
    grads, metrics = jax.grad(loss_fn, has_aux=True)(owned)
    if axis_name is not None:
        grads, metrics = jax.lax.pmean((grads, metrics), axis_name)
    updates, opt_state = tx.update(grads, opt_state, owned)
    return optax.apply_updates(owned, updates), opt_state, metrics


class Player(NamedTuple):
    """The networks and the optimiser of one player."""

    owns: tuple[str, ...]  # networks
    tx: optax.GradientTransformation
    shared: bool = False
    """the state of `tx` (of `per_network`) is stored by network and shared by all players that
    update the network; False: it is stored by player"""


def per_network(
    txs: Mapping[str, optax.GradientTransformation],
) -> optax.GradientTransformation:
    """An optax transformation with one transformation and state per network, by name."""

    def init(params):
        return {name: txs[name].init(params[name]) for name in params}

    def update(grads, state, params=None):
        found = {
            name: txs[name].update(grads[name], state[name], params and params[name])
            for name in grads
        }
        return ({name: updates for name, (updates, _) in found.items()},
                {name: state for name, (_, state) in found.items()})  # fmt: skip

    return optax.GradientTransformation(init, update)


def init_opt_state(players: dict[str, Player], params: dict[str, Any]) -> dict[str, Any]:
    """The initial optimiser state of every player, by name; shared ones by network."""
    opt = {}
    for name, player in players.items():
        state = player.tx.init(select_networks(params, player.owns))
        opt |= state if player.shared else {name: state}
    return opt


def step_players(
    players: dict[str, Player],
    losses: dict[str, Callable],
    params: dict[str, Any],
    opt: dict[str, Any],
    stats: Any,
    axis_name: str | None = None,
    simultaneous: bool = False,
):
    """One step of every player on its own loss and networks, in the order of `losses`.

    Two players may own the same network if they are updated one after the other (an encoder, first
    for reconstruction, then as adversary); each has its own optimiser state, unless it is shared.

    Args:
        players: by name.
        losses: by player, `loss(params, stats) -> scalar, (metrics, stats)`, of the parameters of
            all networks; only the player's own get a gradient. `stats` are batch statistics, which
            each loss returns for the next.
        params: by network.
        opt: by player, or by network if shared.
        simultaneous: every loss is taken at `params`; else at the parameters updated by the
            players before.
    Returns:
        params, opt, stats, all metrics.
    """
    start, opt, metrics = params, dict(opt), {}
    for name, loss in losses.items():
        current = start if simultaneous else params
        player = players[name]
        own = select_networks(current, player.owns)
        state = select_networks(opt, player.owns) if player.shared else opt[name]
        updated, state, (new_metrics, stats) = descend(
            lambda own: loss(current | own, stats), player.tx, own, state, axis_name
        )
        opt |= state if player.shared else {name: state}
        params, metrics = params | updated, metrics | new_metrics
    return params, opt, stats, metrics


def adam(
    learning_rate: float, decay_steps: int = 0, beta1: float = 0.9, beta2: float = 0.999
) -> optax.GradientTransformation:
    """Adam with a constant learning rate, or with cosine decay to zero.

    Args:
        learning_rate: initial learning rate.
        decay_steps: steps until the rate is zero; 0: constant.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
    """
    if decay_steps:
        return optax.adam(optax.cosine_decay_schedule(learning_rate, decay_steps), beta1, beta2)
    return optax.adam(learning_rate, beta1, beta2)


def init_ema(
    names: Sequence[str], params: dict[str, Any], stats: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Initial moving averages of networks: copies, as entries of `State.extra`.

    Batch statistics are averaged too, so that they match the averaged weights.

    Args:
        names: networks that are averaged; names that are not in `params` are ignored.
        params: by network.
        stats: batch statistics by network.
    Returns:
        `average`, and, if one of the networks has batch statistics, `average_stats`; by network.
    """
    average = {name: params[name] for name in names if name in params}
    of_stats = {name: (stats or {})[name] for name in average if name in (stats or {})}
    found = {"average": average} | ({"average_stats": of_stats} if of_stats else {})
    return jax.tree.map(jnp.copy, found)


def update_ema(
    keep: float | jax.Array,
    extra: dict[str, Any],
    params: dict[str, Any],
    stats: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The moving averages after a step: keep * average + (1 - keep) * params.

    Args:
        keep: decay of the averages, 0 to 1.
        extra: `State.extra` before the step, with the entries of `init_ema`.
        params, stats: after the step.
    """
    now = {"average": params, "average_stats": stats or {}}
    return {
        entry: {
            name: jax.tree.map(
                lambda old, new: keep * old + (1 - keep) * new, average, now[entry][name]
            )
            for name, average in extra[entry].items()
        }
        for entry in now
        if entry in extra
    }


def ema_decay(keep: float, step: jax.Array | int) -> jax.Array:
    """min(keep, (1 + step) / (10 + step)): a smaller decay in the first steps.

    Args:
        keep: decay of the average in the long run.
        step: counted from 0.
    """
    return jnp.minimum(keep, (1.0 + step) / (10.0 + step))


def eval_params(state: State) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters and batch statistics for evaluation: the moving averages if there are any."""
    params = state.params | state.extra.get("average", {})
    return params, state.extra.get("stats", {}) | state.extra.get("average_stats", {})


def all_gather(tree: Any, axis_name: str | None) -> Any:
    """The whole batch's rows on every device: `[B/n, ...]` -> `[B, ...]` under a mapped axis.

    New values of `State.extra` must be computed from these, so that every device has the same
    state. Without a mapped axis the rows are returned unchanged.
    """
    if axis_name is None:
        return tree
    return jax.tree.map(lambda x: jax.lax.all_gather(x, axis_name, tiled=True), tree)


def select_networks(params: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The networks in `names`, as the dict for `descend`."""
    return {name: params[name] for name in names}
