"""The contract every model keeps: `State`, `Model`, `Spec`, and one player's descent.

This module knows nothing about a paper, a data set or a device. Models import it; the
training loop, the evaluation and the tests talk to models only through it.
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
    """All that a step changes, and all that a checkpoint holds."""

    step: jax.Array  # int32 scalar
    params: dict[str, Any]  # by network, e.g. enc, dec, critic
    opt: dict[str, Any]  # by player, e.g. autoencoder, critic; by network where players share it
    extra: dict[str, Any]  # what no gradient moves: batch statistics, codebooks, code memory


class Spec(NamedTuple):
    """What a model may know about its data before it has seen a batch."""

    image_shape: tuple[int, int, int]  # H, W, C
    size: int  # training examples; `index` runs over 0..size-1
    classes: int  # 0 where there are no labels
    levels: int  # values a pixel can take: 256, 17 (digits), 2 (binarised), 0 (continuous)
    mean: np.ndarray  # [H, W, C] mean training image, in the range the model sees

    def __repr__(self) -> str:
        said = [f"{name}={value!r}" for name, value in zip(self._fields[:-1], self, strict=False)]
        average = f"{self.mean.dtype} {self.mean.shape} of average {self.mean.mean():.4g}"
        return f"Spec({', '.join(said)}, mean=<{average}>)"


class Need(NamedTuple):
    """What a step needs of the examples that it is given, beyond one: `Plan.check` asks for it."""

    reason: str
    """a clause that begins with the field of the configuration that is the reason"""
    least: int = 1
    """examples at least"""
    multiple: int = 1
    """their number is a multiple of this"""
    of: Literal["batch_size", "labels_batch"] = "batch_size"
    """which examples: the batch, or the labelled ones beside it"""
    by_device: bool = False
    """examples meet within a device's share under `pmap`, so that each share needs as much"""

    def check(self, count: int, said: str) -> None:
        """Raises ValueError where `count` examples are too few or do not divide.

        Args:
            count: examples that meet.
            said: where the number stands, which the message begins with.
        """
        if count >= self.least and count % self.multiple == 0:
            return
        share = "for each device " if self.by_device else ""
        wanted = [f"a multiple of {self.multiple}"] if self.multiple > 1 else []
        wanted += [f"at least {self.least}"] if self.least > 1 or not wanted else []
        raise ValueError(f"{said}: {self.reason}; {self.of} must be {share}{' and '.join(wanted)}")


class Model(NamedTuple):
    """A bundle of pure functions. Nothing in it is compiled; the caller compiles.

    A batch is a dict: `image` [B,H,W,C] float32 (in [0,1] unless standardised), `index` [B]
    int32 (position in the training set, -1 for an image that is not in it), and where the data
    has them `label` [B] int32 and `labelled` [B] bool. A capability that a paper lacks is None.
    """

    init: Callable
    """rng -> State"""
    step: Callable
    """state, batch, rng, axis_name=None -> State, {name: scalar}: one step of all players.
    `rng` is fresh at every step; under `axis_name` the batch is this device's share."""
    evaluate: Callable
    """state, batch, rng -> {name: [B]}: per example, in nats or squared error, unreduced.
    Holds `loss`, the number by which the best checkpoint is chosen (lower is better)."""
    encode: Callable | None = None
    """state, x [B,H,W,C], rng -> z [B,Z]: the code that probes and retrieval read"""
    posterior: Callable | None = None
    """state, x, rng -> z [B,Z]: a draw from q(z|x), for models whose `encode` gives its mean"""
    decode: Callable | None = None
    """state, z [B,Z], rng -> x [B,H,W,C]: the mean image, or a sample where only that exists"""
    sample: Callable | None = None
    """state, rng, n -> x [n,H,W,C]"""
    prior: Callable | None = None
    """rng, n -> z [n,Z]: for two-sample comparisons with the codes"""
    predict: Callable | None = None
    """state, x, rng -> logits [B,K]: label or cluster heads"""
    assess: Callable | None = None
    """state, data, rng -> {name: number}: what needs a whole set, not a batch"""
    advise: Callable | None = None
    """numbers of `assess` -> [text]: what in them calls for action, each with its remedy; none
    where all is well"""
    log_weight: Callable | None = None
    """state, x, rng -> [B] nats: log p(x,z) - log q(z|x) for one z ~ q(z|x)"""
    daydream: Callable | None = None
    """state, x, rng -> x': one link of a chain that wanders through image space"""
    restore: Callable | None = None
    """state, x, rng -> seen, restored, both [B,H,W,C]: a damaged image and its repair"""
    mix: Callable | None = None
    """state, x, y, rng -> [K,B,H,W,C]: x with the k-th part of its code, coarse to fine, from y"""
    refresh: Callable | None = None
    """state, batch, rng -> State: re-reads training images without a gradient (a code memory,
    batch statistics, a codebook's start); the caller passes over the whole training set. What
    evaluates, samples and encodes is given states that have been refreshed"""
    result_names: Mapping[str, str] = types.MappingProxyType({})
    """what results call a number of `evaluate` whose own name would invite a false comparison: a
    `loss` in nats that is no bound on -log p(x) must not stand where another model's bound does"""
    draws: bool = False
    """what `decode` and `sample` give: images like those of the data (drawn from p(x|z), pixel by
    pixel, or by a generator that a critic has held against the data), of bits where the data is of
    bits; False: the means of pixels, which lie between the values that a pixel takes"""
    needs: tuple[Need, ...] = ()
    """what a step needs of its batch, such as pairs; one example will do where nothing is said"""
    likelihood: str | None = None
    """p(x|z) by its name in `losses.likelihood`, where the model states one: it says whether
    `log_weight` is of probabilities or of densities, and that a Bernoulli's draws are bits"""


def descend(loss_fn, tx, owned, opt_state, axis_name=None):
    """One step down `loss_fn(owned) -> scalar, metrics`; what it closes over is a constant to it.

    Args:
        loss_fn: mean loss over this device's batch, with a dict of scalar metrics.
        tx: the player's optax transformation, and `opt_state` its state.
        owned: the parameters the player moves.
        axis_name: the mapped axis under `pmap`; None elsewhere (under `jit` over a mesh the
            batch mean is global already).
    Returns:
        the moved parameters, the optimiser's new state, the metrics.
    """
    grads, metrics = jax.grad(loss_fn, has_aux=True)(owned)
    if axis_name is not None:
        grads, metrics = jax.lax.pmean((grads, metrics), axis_name)
    updates, opt_state = tx.update(grads, opt_state, owned)
    return optax.apply_updates(owned, updates), opt_state, metrics


class Player(NamedTuple):
    """Who moves what, and how."""

    owns: tuple[str, ...]  # networks
    tx: optax.GradientTransformation
    shared: bool = False
    """the state of `tx`, then made by `per_network`, belongs to the networks: whoever moves a
    network next goes on from it; else it is the player's own"""


def per_network(
    txs: Mapping[str, optax.GradientTransformation],
) -> optax.GradientTransformation:
    """A transformation for each network, and a state for each, by name."""

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
    """Every player's optimiser state before its first move, by name; shared ones by network."""
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
    """Every player descends its own loss over what it owns, in the order of `losses`.

    Two players may own the same network if they move in turn (an encoder that reconstructs, then
    fools); each has its own optimiser state, unless both say that it is shared.

    Args:
        players: by name.
        losses: by player, `loss(params, stats) -> scalar, (metrics, stats)`: of all networks, of
            which only the player's own have a gradient. `stats` is what a forward pass leaves
            behind (batch statistics); the losses pass it on to one another.
        params: by network.
        opt: by player, or by network where it is shared.
        simultaneous: all move from `params`; else each from where the ones before it have moved.
    Returns:
        params, opt, stats, all metrics.
    """
    start, opt, metrics = params, dict(opt), {}
    for name, loss in losses.items():
        seen_by = start if simultaneous else params
        player = players[name]
        own = select_networks(seen_by, player.owns)
        state = select_networks(opt, player.owns) if player.shared else opt[name]
        moved, state, (seen, stats) = descend(
            lambda own: loss(seen_by | own, stats), player.tx, own, state, axis_name
        )
        opt |= state if player.shared else {name: state}
        params, metrics = params | moved, metrics | seen
    return params, opt, stats, metrics


def adam(
    learning_rate: float, decay_steps: int = 0, beta1: float = 0.9, beta2: float = 0.999
) -> optax.GradientTransformation:
    """Adam at a constant rate, or with the rate falling to zero along a cosine.

    Args:
        learning_rate: the rate at the first step.
        decay_steps: steps after which the rate is zero; 0 keeps it constant.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
    """
    if decay_steps:
        return optax.adam(optax.cosine_decay_schedule(learning_rate, decay_steps), beta1, beta2)
    return optax.adam(learning_rate, beta1, beta2)


def init_ema(
    names: Sequence[str], params: dict[str, Any], stats: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Moving averages of networks before the first step: copies, as entries of `State.extra`.

    An average of weights wants batch statistics of the same past, so these are averaged as well.

    Args:
        names: of the networks that are averaged; those that `params` lacks are passed over.
        params: by network.
        stats: batch statistics by network, for those that have any.
    Returns:
        `average`, and where one of them has batch statistics `average_stats`, both by network.
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
    """The same after a step: keep * average + (1 - keep) * now.

    Args:
        keep: what they keep of themselves, 0 to 1.
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
    """`keep`, or less in the first steps, (1 + step) / (10 + step): the start is soon forgotten.

    Args:
        keep: what a moving average keeps of itself in the long run.
        step: counted from 0.
    """
    return jnp.minimum(keep, (1.0 + step) / (10.0 + step))


def eval_params(state: State) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters and batch statistics that evaluation reads: averages where there are any."""
    params = state.params | state.extra.get("average", {})
    return params, state.extra.get("stats", {}) | state.extra.get("average_stats", {})


def all_gather(tree: Any, axis_name: str | None) -> Any:
    """The whole batch's rows on every device: `[B/n, ...]` -> `[B, ...]` under a mapped axis.

    What a step writes into `State.extra` must be computed from these, so that every device holds
    the same state. Without a mapped axis the rows are all there already.
    """
    if axis_name is None:
        return tree
    return jax.tree.map(lambda x: jax.lax.all_gather(x, axis_name, tiled=True), tree)


def select_networks(params: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The networks in `names`, as the dict that `descend` moves."""
    return {name: params[name] for name in names}
