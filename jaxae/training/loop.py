"""The training loop: chunks of compiled steps, metrics one chunk late, checkpoints, clean stops.

A run of `fit` can be killed at any moment and continued by the same call: step t depends on the
seed and t only, and everything else is in the checkpoint.
"""

import contextlib
import copy
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxae.training.checkpoint import Checkpoints
from jaxae.training.logs import Events, Progress, plain
from jaxae.training.memory import check_memory
from jaxae.training.parallel import DeviceError, Engine, Mode
from jaxae.training.plan import Plan
from jaxae.training.records import MetricsFile
from jaxae.training.state import Model, State


class NonFiniteLoss(RuntimeError):
    """A metric of a training step, or a number of a state to be saved, is NaN or infinite."""


class Stopped(Exception):
    """SIGTERM or Ctrl-C arrived; the run was saved and can be continued."""

    def __init__(self, signum: int, step: int, saved: bool):
        where = "saved; the same command goes on from there" if saved else "nothing was kept"
        super().__init__(f"{signal.Signals(signum).name} after step {step}: {where}")
        self.signum, self.step = signum, step


class Fitted(NamedTuple):
    """The result of training."""

    states: list[State]  # one per seed, as evaluation reads them (`Engine.to_evaluate`)
    records: list[dict[str, Any]]  # what metrics.jsonl holds
    seconds: float  # spent in training, earlier sessions of the run included
    mode: Mode
    start: list[float] | None = None  # the loss of the very first step, one per seed


def fit(
    model: Model,
    data,
    plan: Plan,
    workdir: pathlib.Path | None = None,
    *,
    evaluate: Callable[[State], dict[str, float]] | None = None,
    quiet: bool = False,
    guard: Callable[[], None] = lambda: None,
    about: dict[str, Any] | None = None,
    callbacks: Sequence[Callable[[dict[str, Any]], None]] = (),
) -> Fitted:
    """Trains `model` on `data.train` according to `plan`, or continues the run in `workdir`.

    A plan that differs from the earlier one only in larger `steps` extends the run; its states are
    bitwise equal to those of a run of this length from the start.

    Args:
        model: the bundle of pure functions.
        data: a `jaxae.data.Data`.
        plan: steps, batch, seeds, arrangement, intervals.
        workdir: folder of `checkpoints/`, `metrics.jsonl` and TensorBoard events. The caller must
            lock it (`Workdir.open`). None: everything stays in memory.
        evaluate: numbers of a state on `data.eval_split`, called every `plan.eval_every` steps. If
            these are validation images, they are logged as `validation/<name>`, and the
            checkpoint with the smallest `loss` is kept as the best. Without validation images, the
            numbers of the test images are logged as `test/<name>` and not used. The states it gets,
            like the returned ones, are refreshed copies (`Engine.to_evaluate`); evaluation does not
            change training or the checkpoints.
        quiet: show no progress.
        guard: called before anything is written; raises if the folder is no longer the caller's.
        about: JSON values that are saved with every checkpoint.
        callbacks: each is called with every record of this session once it is written: a dict of
            `step`, `train/<name>`, `test/<name>` or `validation/<name>`, ..., a copy of its own,
            in the order of `metrics.jsonl`. The records of a chunk come while the next one runs. An
            exception stops the run as a signal does: the state is saved, no callback is called any
            more, and the exception is raised.

    Raises:
        NonFiniteLoss: names the step, the metric or the leaf of the state, and the checkpoint.
        Stopped: after SIGTERM or Ctrl-C, once the state is on disk.
        DeviceError, DataError, CheckpointError: before the first step.
        ValueError: before the first step, if the plan does not fit the model (`Plan.check`).
    """
    plan.check(model, data.train.labels_batch)
    check_memory(model, data.train, plan)
    if workdir is not None and jax.process_count() > 1:
        raise DeviceError(
            f"workdir={workdir}: a run folder is written by one process, and there are "
            f"{jax.process_count()}; on several hosts train with workdir=None"
        )
    with contextlib.ExitStack() as closing:
        checkpoints = metrics_file = events = None
        mode = None
        if workdir is not None:
            checkpoints = closing.enter_context(Checkpoints(pathlib.Path(workdir) / "checkpoints"))
            if checkpoints.steps():
                mode = Mode(**checkpoints.meta()["mode"])
        engine = Engine(model, data.train, plan, mode)
        states, step, seconds, records, start = None, 0, 0.0, [], None
        if workdir is not None:
            found = checkpoints.restore(jax.eval_shape(engine.init), not_finite)
            metrics_file = MetricsFile(pathlib.Path(workdir) / "metrics.jsonl")
            if found:
                step, states, meta = found
                states, seconds = jax.device_put(states, engine.whole), meta["seconds"]
                start = meta.get("start")
                if step < plan.steps and meta.get("refresh_owed"):
                    states = engine.refresh(states, step)
            guard()
            metrics_file.cut_back(step)
            if found and "metrics" in meta:
                metrics_file.compare(meta["metrics"], step)
            records = metrics_file.read()
            events = Events(pathlib.Path(workdir) / "tensorboard", records)
            closing.callback(events.close)

        def begin():
            states = engine.init()
            return engine.refresh(states, 0) if plan.refresh_first else states

        if states is None:
            states = begin()
        progress = Progress(plan.steps, step, quiet)
        closing.callback(progress.close)
        stop = closing.enter_context(_signals())
        clock = _Clock(step, seconds)

        failed: list[Exception] = []  # what a callback raised

        def write(record):
            records.append(record)
            if metrics_file:
                guard()
                metrics_file.write(record)
                events.write(record)
            try:
                for callback in () if failed else callbacks:
                    callback(copy.deepcopy(record))
            except Exception as error:
                failed.append(error)

        def save(step, states, metric=None, seconds=0.0, owed=False):
            """Saves a checkpoint; `owed`: a continued run must be refreshed first."""
            guard()
            seen = metrics_file.summary() if step else metrics_file.summary(0)
            meta = {"mode": vars(engine.mode), "seconds": seconds, "metrics": seen,
                    "start": start if step else None, "refresh_owed": owed}  # fmt: skip
            checkpoints.save(step, states, metric, (about or {}) | meta)

        def kept() -> str:
            """Text about the last good checkpoint; if there is none, saves the initial state."""
            none = "no checkpoint had been written yet"
            if not checkpoints:
                return none
            checkpoints.wait()
            if steps := checkpoints.steps():
                return f"the last good checkpoint is step {max(steps)}"
            start = begin()
            if wrong := not_finite(start):
                return f"{none}, and at the start {wrong}"
            save(0, start)
            checkpoints.wait()
            return f"{none}; the state before the first step was saved, as step 0"

        def log(first, steps, on_the_way):
            """Waits for a chunk's metrics, checks that they are finite, writes the means."""
            nonlocal start
            metrics = engine.fetch(on_the_way)
            _check_metrics(metrics, first, engine.seeds, kept)
            if first == 0 and "loss" in metrics:
                start = np.float64(metrics["loss"][:, 0]).tolist()
            end = first + steps
            speed = clock.tick(end)
            means = {f"train/{k}": plain(v.mean(axis=1)) for k, v in metrics.items()}
            write({"step": end} | means | {"seconds": clock.seconds(), "steps_per_s": speed})
            progress.update(end, means.get("train/loss", 0.0), speed)

        watched = "test" if data.validation is None else "validation"
        every = [plan.log_every, plan.refresh_every]
        every += [plan.eval_every] if evaluate else []
        every += [plan.save_every] if checkpoints else []
        pending = ready = None
        while step < plan.steps:
            ready = None  # the states as evaluation reads them, once that has been asked for
            steps = _chunk(step, plan.steps, every)
            states, on_the_way = engine.run(states, step, steps)
            if pending:
                log(*pending)
            pending = (step, steps, on_the_way)
            before, step = step, step + steps
            last = step == plan.steps
            due = lambda every: every > 0 and step // every > before // every
            evaluating = evaluate is not None and (due(plan.eval_every) or last)
            # A signal from here on is for the next chunk.
            stopping = stop.signum is not None or bool(failed)
            saving = due(plan.save_every) or last or stopping
            if evaluating or saving or due(plan.refresh_every):
                log(*pending)
                pending = None
            if due(plan.refresh_every) and not last:
                states = engine.refresh(states, step)
            held_out = None
            if evaluating:
                ready = engine.to_evaluate(states, step)
                seen = [evaluate(state) for state in ready]
                means = {k: plain(np.array([s[k] for s in seen])) for k in seen[0]}
                write({"step": step} | {f"{watched}/{k}": v for k, v in means.items()})
                if watched == "validation" and "loss" in means:
                    held_out = float(np.mean(means["loss"]))
                clock.skip(step)
            if failed and not stopping:  # by what was written since
                stopping = saving = True
            if saving and checkpoints:
                _check_states(engine.part(states), step, engine.seeds, kept)
                owed = last and due(plan.refresh_every)
                save(step, states, held_out, clock.seconds(), owed)
            if stopping:
                break
        if checkpoints:
            checkpoints.wait()
        if failed:
            raise failed[0]
        if stop.signum is not None:
            raise Stopped(stop.signum, step, checkpoints is not None)
        ready = ready or engine.to_evaluate(states, step)
        return Fitted(ready, records, clock.seconds(), engine.mode, start)


def _chunk(step: int, end: int, every: list[int]) -> int:
    """Number of steps from `step` to the next multiple of one of `every`, or to the end."""
    return min(end - step, *(n - step % n for n in every if n))


def not_finite(tree: Any) -> str | None:
    """A message about the first leaf with NaN or infinity; None if there is none.

    No model of this library has infinities in its state on purpose.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        fractional = jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact)
        if fractional and not np.all(np.isfinite(np.asarray(leaf))):
            return f"{jax.tree_util.keystr(path).lstrip('.')} is not finite"
    return None


def _check_metrics(metrics: dict[str, np.ndarray], first: int, seeds, kept) -> None:
    bad = [
        (int(step), name, int(seed), value[seed, step])
        for name, value in metrics.items()
        for seed, step in np.argwhere(~np.isfinite(value))
    ]
    if bad:
        step, name, seed, value = min(bad, key=lambda b: b[0])
        _refuse(f"{name} is {value} at step {first + step + 1}", seeds[seed], kept)


def _check_states(states: list[State], step: int, seeds, kept) -> None:
    """Raises NonFiniteLoss for a state with NaN, which a finite loss may have produced."""
    for state, seed in zip(states, seeds, strict=True):
        if wrong := not_finite(state):
            _refuse(f"{wrong} after step {step}", seed, kept)


def _refuse(what: str, seed: int, kept: Callable[[], str]) -> None:
    raise NonFiniteLoss(
        f"{what} (seed {seed}); {kept()}. A lower learning rate is the usual remedy."
    )


class _Clock:
    """Seconds spent in this run over all its sessions, and the speed of the last chunks."""

    def __init__(self, step: int, seconds: float):
        self.earlier, self.start = seconds, time.monotonic()
        self.mark, self.step = self.start, step

    def seconds(self) -> float:
        return self.earlier + time.monotonic() - self.start

    def tick(self, step: int) -> float:
        now = time.monotonic()
        speed = (step - self.step) / max(now - self.mark, 1e-9)
        self.mark, self.step = now, step
        return speed

    def skip(self, step: int) -> None:
        """Excludes the time since the last call from the speed."""
        self.mark, self.step = time.monotonic(), step


class _Signal:
    signum: int | None = None


@contextlib.contextmanager
def _signals():
    """Records the first SIGTERM or SIGINT; a second Ctrl-C raises KeyboardInterrupt."""
    caught = _Signal()
    if threading.current_thread() is not threading.main_thread():
        yield caught  # only the main thread may set handlers
        return

    def note(signum, frame):
        if caught.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        caught.signum = signum

    before = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield caught
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
