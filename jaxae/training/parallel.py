"""Devices, compiled loops and several seeds: the only module that knows about them.

An `Engine` runs chunks of steps. In every arrangement step t of a seed uses the batch
`split.batch_indices(seed, t)` and the key `fold_in(key(seed), t)`, so the arrangement changes speed
and rounding only. Since rounding differs, a resumed run keeps the `Mode` with which it started.
"""

import concurrent.futures
import dataclasses
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxae.training.plan import Plan
from jaxae.training.state import Model, State

AXIS = "data"
PIECE_BYTES = 2**28  # bytes of streamed rows in memory at once; as many again are read ahead
# Before 0.8, jax cannot vmap the gradient of a convolution on a mesh.
VMAPS_CONVOLUTIONS = jax.__version_info__ >= (0, 8)


class DeviceError(ValueError):
    """The plan does not fit the devices."""


@dataclasses.dataclass(frozen=True)
class Mode:
    """The arrangement of a run; stored with its checkpoints."""

    parallel: str  # mesh | pmap
    devices: int
    loop: str  # scan | calls
    seeds_by: str  # vmap | sequence


def data_mesh(devices: int) -> jax.sharding.Mesh:
    """A one-dimensional mesh over the first `devices` devices, its axis named "data"."""
    return jax.make_mesh(
        (devices,), (AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )


def shard_rows(function, mesh: jax.sharding.Mesh):
    """`function(whole, rows, axis_name=...)` with the rows of the second argument sharded.

    For exact searches in a large table: the function gets the rows of its device and merges the
    results by collectives over `axis_name`.
    """

    def local(whole, rows):
        return function(whole, rows, axis_name=AXIS)

    return jax.jit(
        jax.shard_map(local, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P(), check_vma=False)
    )


def choose(plan: Plan, convolves: bool) -> Mode:
    """The arrangement for a plan: its fields, or a rule for those that are auto.

    On a CPU a convolution inside a compiled loop is about four times slower than outside, and seeds
    in parallel threads are faster than one vmapped program (`experiments/speed_seeds.py`);
    elsewhere scan and vmap are faster.

    Raises:
        DeviceError: more devices than there are, a batch that is not divisible by them, or
            seeds_by=vmap for convolutions with a jax that does not support it.
    """
    available = jax.device_count()
    devices = plan.devices or available
    if devices > available:
        raise DeviceError(f"devices={devices}, but there are only {available}")
    if plan.batch_size % devices:
        raise DeviceError(
            f"batch_size={plan.batch_size} is not divisible by the {devices} devices; choose a "
            f"multiple of {devices}, or devices=1"
        )
    if plan.parallel == "pmap" and jax.process_count() > 1:
        raise DeviceError("parallel=pmap runs in one process; use parallel=mesh on several hosts")
    on_cpu = jax.default_backend() == "cpu"
    loop = plan.loop if plan.loop != "auto" else ("calls" if convolves and on_cpu else "scan")
    cannot = convolves and plan.parallel == "mesh" and not VMAPS_CONVOLUTIONS
    by = plan.seeds_by if plan.seeds_by != "auto" else ("sequence" if on_cpu or cannot else "vmap")
    if by == "vmap" and cannot:
        raise DeviceError(
            f"seeds_by=vmap: jax {jax.__version__} cannot vmap a convolution's gradient over a "
            "mesh; use seeds_by=sequence or jax 0.8 or later"
        )
    return Mode(plan.parallel, devices, loop, by)


class Engine:
    """Compiled chunks of steps of one model on one training split.

    Args:
        model: the bundle of pure functions.
        split: the training data (`jaxae.data.Split` or anything with its methods).
        plan: steps, batch, seeds, arrangement.
        mode: the arrangement of the run that is continued; None chooses one.
    """

    def __init__(self, model: Model, split, plan: Plan, mode: Mode | None = None):
        self.model, self.split, self.plan = model, split, plan
        there = jax.device_count()
        if mode and mode.devices > there:
            raise DeviceError(
                f"this run started on {mode.devices} devices, but there are only {there}: continue "
                f"it on {mode.devices} devices, or start a new run in another --workdir"
            )
        positions = split.batch_indices(plan.seed, 0, plan.batch_size)  # refuses too large a batch
        self.arrays = split.arrays if split.resident else {}
        self.mode = mode or choose(plan, self.convolves())
        for part in jax.tree.leaves(positions):
            if len(part) % self.mode.devices:
                raise DeviceError(
                    f"labels_batch={len(part)} labelled examples per batch are not "
                    f"divisible by the {self.mode.devices} devices"
                )
        self.seeds = [plan.seed + i for i in range(plan.seeds)]
        self.mesh = data_mesh(self.mode.devices)
        self.whole = NamedSharding(self.mesh, P())
        self.arrays = jax.device_put(self.arrays, self.whole)
        self._run = self._compile()
        # One seed rarely keeps all cores of a CPU busy. An accelerator would run threads one after
        # another, and several devices need the same order of collectives.
        in_threads = self.mode.seeds_by == "sequence" and self.mode.devices == 1
        in_threads = in_threads and plan.seeds > 1 and jax.default_backend() == "cpu"
        self._threads = concurrent.futures.ThreadPoolExecutor(plan.seeds) if in_threads else None
        self._prefetch = self._before = None
        if not split.resident:
            rows = jax.tree.leaves(split.gather(positions))
            step_bytes = plan.seeds * sum(x.nbytes for x in rows)
            self._piece = max(1, min(PIECE_BYTES // step_bytes, plan.log_every))
            self._prefetch = _Prefetch(self._read, self._piece, plan.steps)

    def convolves(self) -> bool:
        """Whether a training step contains a convolution."""
        payload = self.split.batch_indices(0, 0, self.plan.batch_size)
        rows = self.split.rows(self.arrays, payload) if self.arrays else self.split.gather(payload)
        shapes = jax.eval_shape(lambda rows: rows, rows)
        state = jax.eval_shape(self.model.init, jax.random.key(0))
        jaxpr = jax.make_jaxpr(lambda s, r, k: self._step(s, r, k, None))(
            state, shapes, jax.random.key(0)
        )
        return "conv_general_dilated" in str(jaxpr)

    def _step(self, state: State, rows, key, axis_name):
        rng = jax.random.fold_in(key, state.step)
        batch = self.split.preprocess(rows, jax.random.fold_in(rng, 0))
        noise = jax.random.fold_in(rng, 1)
        if axis_name is not None:
            noise = jax.random.fold_in(noise, jax.lax.axis_index(axis_name))
        return self.model.step(state, batch, noise, axis_name)

    def _compile(self):
        """`run(states, arrays, payload, keys)` for one call: a chunk under scan, else a step."""
        scan, vmap = self.mode.loop == "scan", self.mode.seeds_by == "vmap"
        mapped = self.mode.parallel == "pmap"
        lead = int(scan) + int(vmap)  # axes of the payload before the batch

        def one(state, arrays, payload, key):
            rows = self.split.rows(arrays, payload) if self.split.resident else payload
            if not mapped:
                rows = jax.lax.with_sharding_constraint(rows, NamedSharding(self.mesh, P(AXIS)))
            state, metrics = self._step(state, rows, key, AXIS if mapped else None)
            return state, jax.lax.pmean(metrics, AXIS) if mapped else metrics

        def chunk(state, arrays, payload, key):
            return jax.lax.scan(lambda s, p: one(s, arrays, p, key), state, payload)

        run = chunk if scan else one
        if vmap:
            run = jax.vmap(run, in_axes=(0, None, 0, 0))
        if not mapped:
            split = NamedSharding(self.mesh, P(*[None] * lead, AXIS))
            compiled = jax.jit(
                run,
                in_shardings=(self.whole, self.whole, split, self.whole),
                out_shardings=self.whole,
                donate_argnums=0,
            )
            if jax.process_count() == 1:
                return compiled
            # Every process has the whole payload; jit needs a global array.
            place = lambda x: jax.make_array_from_callback(x.shape, split, lambda i: x[i])
            return lambda states, arrays, payload, keys: compiled(
                states, arrays, jax.tree.map(place, payload), keys
            )
        devices = self.mode.devices
        parallel = jax.pmap(
            run,
            AXIS,
            in_axes=(None, None, lead, None),
            out_axes=None,
            donate_argnums=0,
            devices=jax.devices()[:devices],
        )
        share = lambda x: x.reshape(*x.shape[:lead], devices, -1, *x.shape[lead + 1 :])
        return lambda states, arrays, payload, keys: parallel(
            states, arrays, jax.tree.map(share, payload), keys
        )

    def init(self) -> Any:
        """The states of all seeds before the first step."""
        init = jax.jit(self.model.init, out_shardings=self.whole)
        states = [init(jax.random.key(seed)) for seed in self.seeds]
        return self.join(states)

    def join(self, states: list[State]) -> Any:
        """One pytree for all seeds: stacked under vmap, else a list."""
        if self.mode.seeds_by == "vmap":
            return jax.device_put(jax.tree.map(lambda *x: jax.numpy.stack(x), *states), self.whole)
        return list(states)

    def part(self, states: Any) -> list[State]:
        """The state of each seed."""
        if self.mode.seeds_by == "vmap":
            return [jax.tree.map(lambda x: x[i], states) for i in range(len(self.seeds))]
        return list(states)

    def _read(self, step: int):
        """The inputs of a step from the host, one tree per seed: [B] indices for data on the
        device, [B,...] rows for streamed data."""
        orders = [self.split.batch_indices(seed, step, self.plan.batch_size) for seed in self.seeds]
        return orders if self.split.resident else [self.split.gather(order) for order in orders]

    def _payload(self, step: int, steps: int):
        """The inputs of steps `step .. step+steps-1`, one tree of [n,B,...] per seed."""
        if self._prefetch:
            needs = self._prefetch(step, steps)
        else:
            needs = [self._read(step + i) for i in range(steps)]
        stack = lambda *trees: jax.tree.map(lambda *x: np.stack(x), *trees)
        return [stack(*seed) for seed in zip(*needs, strict=True)]

    def run(self, states: Any, step: int, steps: int):
        """`steps` training steps from `step` on. The given states are donated.

        Returns:
            the new states, and metrics, possibly not computed yet: see `fetch`.
        """
        if not self._prefetch:
            states, metrics = self._run_piece(states, step, steps)
            return states, [metrics]
        pieces, end = [], step + steps
        for first in range(step, end, self._piece):
            states, metrics = self._run_piece(states, first, min(self._piece, end - first))
            # At most one piece waits for the device while it works on another.
            jax.block_until_ready(self._before)
            self._before = metrics
            pieces.append(metrics)
        return states, pieces

    def _run_piece(self, states: Any, step: int, steps: int):
        payload = self._payload(step, steps)
        keys = [jax.random.key(seed) for seed in self.seeds]
        if self.mode.seeds_by == "vmap":
            stacked = jax.tree.map(lambda *x: np.stack(x), *payload)
            states, metrics = self._run_chunk(states, stacked, jax.numpy.stack(keys), steps)
            return states, [metrics]
        each = self._threads.map if self._threads else map
        ran = list(each(self._run_chunk, states, payload, keys, [steps] * len(keys)))
        return [state for state, _ in ran], [metrics for _, metrics in ran]

    def _run_chunk(self, states, payload, keys, steps: int):
        if self.mode.loop == "scan":
            return self._run(states, self.arrays, payload, keys)
        metrics, axis = [], int(self.mode.seeds_by == "vmap")
        for i in range(steps):
            now = jax.tree.map(lambda x: np.take(x, i, axis=axis), payload)
            states, seen = self._run(states, self.arrays, now, keys)
            metrics.append(seen)
        return states, metrics

    def fetch(self, metrics) -> dict[str, np.ndarray]:
        """Waits for metrics of `run`: `{name: [seeds, steps]}` as numpy."""
        pieces = [_by_seed(piece) for piece in jax.device_get(metrics)]
        return jax.tree.map(lambda *x: np.concatenate(x, axis=1), *pieces)

    def refresh(self, states: Any, step: int) -> Any:
        """Passes the whole training set, in order, through `model.refresh`, for every seed. The
        given states are donated."""
        return self.join(self._refreshed(self.part(states), step))

    def to_evaluate(self, states: Any, step: int) -> list[State]:
        """The state of each seed for evaluation, sampling and encoding.

        If the model has `refresh`, a copy is refreshed: the entries of a code memory are outdated
        or missing until an image is visited again, and results would depend on the order of the
        data. The given states are not changed.
        """
        parts = self.part(states)
        if self.model.refresh is None:
            return parts
        return self._refreshed(jax.tree.map(jax.numpy.copy, parts), step)

    def _refreshed(self, parts: list[State], step: int) -> list[State]:
        refresh, fresh = jax.jit(self.model.refresh, donate_argnums=0), []
        for seed, state in zip(self.seeds, parts, strict=True):
            base = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), 2)
            for i, (batch, mask) in enumerate(self.split.examples(self.plan.batch_size)):
                batch = batch | {"index": np.where(mask, batch["index"], -1)}
                state = refresh(state, batch, jax.random.fold_in(base, i))
            fresh.append(state)
        return fresh


def _by_seed(metrics: list) -> dict[str, np.ndarray]:
    """The metrics of a piece, a part per seed or one for all, as `{name: [seeds, steps]}`."""
    seeds = []
    for part in metrics:
        if isinstance(part, list):
            part = jax.tree.map(lambda *x: np.stack(x, axis=-1), *part)
        seeds.append(jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]), part))
    return jax.tree.map(lambda *x: np.concatenate(x), *seeds)


class _Prefetch:
    """Reads the inputs of the next `count` steps on the host while the device works."""

    def __init__(self, read, count: int, end: int):
        self.read, self.count, self.end = read, count, end
        self.coming: dict[int, concurrent.futures.Future] = {}
        self.pool = concurrent.futures.ThreadPoolExecutor(1)

    def __call__(self, step: int, steps: int) -> list:
        """The inputs of the steps from `step` on, in order."""
        end = step + steps
        needs = [self._start(t).result() for t in range(step, end)]
        last = min(end + self.count, self.end)
        self.coming = {t: self._start(t) for t in range(end, last)}
        return needs

    def _start(self, step: int) -> concurrent.futures.Future:
        """The future that reads a step; started now if it was not before."""
        return self.coming.get(step) or self.pool.submit(self.read, step)
