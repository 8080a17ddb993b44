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

    states: list[State]  # one per seed, prepared for evaluation (`Engine.to_evaluate`)
    records: list[dict[str, Any]]  # the content of metrics.jsonl
    seconds: float  # of training, including earlier sessions of the run
    mode: Mode
    start: list[float] | None = None  # the loss of the first training step, one per seed


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
        guard: called before anything is written; raises if the folder or its lock was replaced.
        about: JSON values that are saved with every checkpoint.
        callbacks: each is called with every record of this session after it is written: a dict of
            `step`, `train/<name>`, `test/<name>` or `validation/<name>`, ..., its own copy,
            in the order of `metrics.jsonl`. The records of a chunk are written while the next chunk
            runs. An exception stops the run like a signal: the state is saved, no callback is
            called any more, and the exception is raised.

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
            restored = checkpoints.restore(jax.eval_shape(engine.init), not_finite)
            metrics_file = MetricsFile(pathlib.Path(workdir) / "metrics.jsonl")
            if restored:
                step, states, meta = restored
                states, seconds = jax.device_put(states, engine.whole), meta["seconds"]
                start = meta.get("start")
                if step < plan.steps and meta.get("refresh_owed"):
                    states = engine.refresh(states, step)
            guard()
            metrics_file.cut_back(step)
            if restored and "metrics" in meta:
                metrics_file.compare(meta["metrics"], step)
            records = metrics_file.read()
            events = Events(pathlib.Path(workdir) / "tensorboard", records)
            closing.callback(events.close)

        def initial_states():
            states = engine.init()
            return engine.refresh(states, 0) if plan.refresh_first else states

        if states is None:
            states = initial_states()
        progress = Progress(plan.steps, step, quiet)
        closing.callback(progress.close)
        stop = closing.enter_context(_signals())
        clock = _Clock(step, seconds)

        callback_errors: list[Exception] = []

        def write(record):
            records.append(record)
            if metrics_file:
                guard()
                metrics_file.write(record)
                events.write(record)
            try:
                for callback in () if callback_errors else callbacks:
                    callback(copy.deepcopy(record))
            except Exception as error:
                callback_errors.append(error)

        def save(step, states, metric=None, seconds=0.0, refresh_due=False):
            """Saves a checkpoint; `refresh_due`: a continued run must be refreshed first."""
            guard()
            summary = metrics_file.summary() if step else metrics_file.summary(0)
            meta = {"mode": vars(engine.mode), "seconds": seconds, "metrics": summary,
                    "start": start if step else None, "refresh_owed": refresh_due}  # fmt: skip
            checkpoints.save(step, states, metric, (about or {}) | meta)

        def describe_last_good() -> str:
            """Text about the last good checkpoint; if there is none, saves the initial state."""
            none = "no checkpoint had been written yet"
            if not checkpoints:
                return none
            checkpoints.wait()
            if steps := checkpoints.steps():
                return f"the last good checkpoint is step {max(steps)}"
            initial = initial_states()
            if problem := not_finite(initial):
                return f"{none}, and at the start {problem}"
            save(0, initial)
            checkpoints.wait()
            return f"{none}; the state before the first step was saved, as step 0"

        def log(first, steps, pending_metrics):
            """Waits for the metrics of a chunk, checks that they are finite, writes their means."""
            nonlocal start
            metrics = engine.fetch(pending_metrics)
            _check_metrics(metrics, first, engine.seeds, describe_last_good)
            if first == 0 and "loss" in metrics:
                start = np.float64(metrics["loss"][:, 0]).tolist()
            end = first + steps
            speed = clock.tick(end)
            means = {f"train/{k}": plain(v.mean(axis=1)) for k, v in metrics.items()}
            write({"step": end} | means | {"seconds": clock.seconds(), "steps_per_s": speed})
            progress.update(end, means.get("train/loss", 0.0), speed)

        eval_split = "test" if data.validation is None else "validation"
        intervals = [plan.log_every, plan.refresh_every]
        intervals += [plan.eval_every] if evaluate else []
        intervals += [plan.save_every] if checkpoints else []
        pending = eval_states = None
        while step < plan.steps:
            eval_states = None  # the states prepared for evaluation, if computed at this step
            steps = _chunk(step, plan.steps, intervals)
            states, pending_metrics = engine.run(states, step, steps)
            if pending:
                log(*pending)
            pending = (step, steps, pending_metrics)
            before, step = step, step + steps
            last = step == plan.steps
            due = lambda interval: interval > 0 and step // interval > before // interval
            evaluating = evaluate is not None and (due(plan.eval_every) or last)
            # A signal that arrives after this line takes effect after the next chunk.
            stopping = stop.signum is not None or bool(callback_errors)
            saving = due(plan.save_every) or last or stopping
            if evaluating or saving or due(plan.refresh_every):
                log(*pending)
                pending = None
            if due(plan.refresh_every) and not last:
                states = engine.refresh(states, step)
            validation_loss = None
            if evaluating:
                eval_states = engine.to_evaluate(states, step)
                results = [evaluate(state) for state in eval_states]
                means = {k: plain(np.array([r[k] for r in results])) for k in results[0]}
                write({"step": step} | {f"{eval_split}/{k}": v for k, v in means.items()})
                if eval_split == "validation" and "loss" in means:
                    validation_loss = float(np.mean(means["loss"]))
                clock.skip(step)
            if callback_errors and not stopping:  # from the records written above
                stopping = saving = True
            if saving and checkpoints:
                _check_states(engine.part(states), step, engine.seeds, describe_last_good)
                refresh_due = last and due(plan.refresh_every)
                save(step, states, validation_loss, clock.seconds(), refresh_due)
            if stopping:
                break
        if checkpoints:
            checkpoints.wait()
        if callback_errors:
            raise callback_errors[0]
        if stop.signum is not None:
            raise Stopped(stop.signum, step, checkpoints is not None)
        eval_states = eval_states or engine.to_evaluate(states, step)
        return Fitted(eval_states, records, clock.seconds(), engine.mode, start)


def _chunk(step: int, end: int, intervals: list[int]) -> int:
    """Number of steps from `step` to the next multiple of one of `intervals`, or to the end."""
    return min(end - step, *(n - step % n for n in intervals if n))


def not_finite(tree: Any) -> str | None:
    """A message about the first leaf with NaN or infinity; None if there is none.

    No model of this library has infinities in its state on purpose.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        is_float = jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact)
        if is_float and not np.all(np.isfinite(np.asarray(leaf))):
            return f"{jax.tree_util.keystr(path).lstrip('.')} is not finite"
    return None


def _check_metrics(metrics: dict[str, np.ndarray], first: int, seeds, describe_last_good) -> None:
    bad = [
        (int(step), name, int(seed), value[seed, step])
        for name, value in metrics.items()
        for seed, step in np.argwhere(~np.isfinite(value))
    ]
    if bad:
        step, name, seed, value = min(bad, key=lambda b: b[0])
        _raise_non_finite(
            f"{name} is {value} at step {first + step + 1}", seeds[seed], describe_last_good
        )


def _check_states(states: list[State], step: int, seeds, describe_last_good) -> None:
    """Raises NonFiniteLoss for a state with NaN, which may occur although the loss was finite."""
    for state, seed in zip(states, seeds, strict=True):
        if problem := not_finite(state):
            _raise_non_finite(f"{problem} after step {step}", seed, describe_last_good)


def _raise_non_finite(problem: str, seed: int, describe_last_good: Callable[[], str]) -> None:
    raise NonFiniteLoss(
        f"{problem} (seed {seed}); {describe_last_good()}. "
        "A lower learning rate is the usual remedy."
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

    def record(signum, frame):
        if caught.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        caught.signum = signum

    before = {s: signal.signal(s, record) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield caught
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
