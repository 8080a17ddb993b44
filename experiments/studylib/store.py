"""The store of runs: each run is trained once in its own folder, each measure is computed once.

The name of a run's folder has digests of its settings and of the code that its training depends on.
It is an ordinary run folder: interrupted training continues with the next call.
"""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxae.command import run as command
from jaxae.evaluation import environment
from jaxae.models import MODELS
from jaxae.training import Workdir, fit
from jaxae.training.divergence import Diverged, find_divergence
from jaxae.training.records import MetricsFile
from jaxae.training.workdir import digest as settings_digest
from jaxae.training.workdir import read_config, write_atomically
from studylib.code import digest, function_digest, module_digests, source_of
from studylib.declare import Run, Trained

FOLDER = pathlib.Path("runs") / "studies"
# Modules of `jaxae.training` that do not affect parameters: checks, logs and checkpoints.
AROUND_TRAINING = tuple(
    f"jaxae.training.{name}"
    for name in ("checkpoint", "divergence", "lock", "logs", "memory", "records", "workdir")
)


class Store:
    """Runs and measures in a folder.

    Args:
        folder: of all runs.
        data_dir: folder of data files, as `--data-dir`; None: `$JAXAE_DATA_DIR`.
        trial: changes to all runs, for a trial; `seeds` and fields of settings.
    """

    def __init__(
        self,
        folder: pathlib.Path = FOLDER,
        data_dir: str | None = None,
        trial: dict[str, Any] | None = None,
    ):
        self.folder, self.data_dir, self.trial = folder, data_dir, trial or {}
        self._trained: dict[str, list[Trained]] = {}

    # -- names and states ----------------------------------------------------------------------

    def with_trial(self, run: Run) -> Run:
        """The run with the changes of the trial, if there is one."""
        seeds = self.trial.get("seeds", run.seeds)
        fields = {k: v for k, v in self.trial.items() if k != "seeds"}
        return dataclasses.replace(run, seeds=seeds, changes={**run.changes, **fields})

    def key(self, run: Run) -> tuple[str, str]:
        """Digests of a run's settings, and of the code that its training depends on."""
        run = self.with_trial(run)
        identity = run.settings().identity(run.model)
        modules = [MODELS[run.model].make.__module__, "jaxae.training.loop", "jaxae.data"]
        code: list[Any] = [module_digests(modules, AROUND_TRAINING)]
        if run.make is not None:
            code.append(function_digest(run.make))
        # `make` is part of the settings: runs that differ in it are different runs.
        make_name = None if run.make is None else f"{run.make.__module__}.{run.make.__name__}"
        return digest([identity, make_name]), digest(code)

    def path(self, run: Run) -> pathlib.Path:
        """The folder of a run."""
        settings, code = self.key(run)
        return self.folder / f"{run.model}-{run.recipe}-{settings}-{code}"

    def status(self, run: Run) -> str:
        """`done`, `started`, `stale` (trained by other code) or `missing`."""
        path = self.path(run)
        if (path / "done.json").exists():
            return "done"
        if (path / "config.json").exists():
            return "started"
        settings, _ = self.key(run)
        by_other_code = self.folder.glob(f"{run.model}-{run.recipe}-{settings}-*/done.json")
        return "stale" if any(by_other_code) else "missing"

    def done(self, run: Run) -> dict[str, Any] | None:
        """The record of a finished run (`seconds`, `made_with`, `settings`, `code`), else None."""
        file = self.path(run) / "done.json"
        return json.loads(file.read_text()) if file.exists() else None

    # -- training ------------------------------------------------------------------------------

    def train(self, run: Run, quiet: bool = False) -> dict[str, Any]:
        """Trains a run, or continues its training; returns the same record as `done`.

        Raises:
            Diverged: the last losses are far above the first one.
            DataError, UsageError, NonFiniteLoss, Stopped: as in the command.
        """
        if record := self.done(run):
            return record
        prepared, path = self._prepared(run), self.path(run)
        with Workdir.open(path) as workdir:
            command.claim(prepared, workdir)
            fitted = fit(
                prepared.model,
                prepared.data,
                prepared.settings.plan,
                path,
                quiet=quiet,
                guard=workdir.check,
                about={"settings": settings_digest(read_config(path), command.FREE)},
            )
            records = MetricsFile(path / "metrics.jsonl").read()
            if reason := find_divergence(fitted.start, records):
                raise Diverged(f"{path}: {reason}")
            settings, code = self.key(run)
            record = {
                "seconds": fitted.seconds,
                "settings": settings,
                "code": code,
                "made_with": made_with(),
            }
            write_atomically(path / "done.json", json.dumps(record, indent=1).encode())
        self._trained[str(path)] = self._seeds(prepared, fitted.states, records)
        return record

    def trained(self, run: Run) -> list[Trained]:
        """The seeds of a finished run."""
        path = self.path(run)
        if str(path) not in self._trained:
            prepared = self._prepared(run)
            with Workdir.open(path) as workdir:
                _, states, _ = command.restore(prepared, workdir)
            records = MetricsFile(path / "metrics.jsonl").read()
            self._trained[str(path)] = self._seeds(prepared, states, records)
        return self._trained[str(path)]

    def forget(self, run: Run) -> None:
        """Frees the memory of a run's states and data."""
        self._trained.pop(str(self.path(run)), None)

    def remove_stale(self, run: Run) -> None:
        """Deletes runs with the same settings that were trained by other code."""
        settings, _ = self.key(run)
        for other in self.folder.glob(f"{run.model}-{run.recipe}-{settings}-*"):
            if other != self.path(run):
                shutil.rmtree(other)

    def _prepared(self, run: Run):
        run = self.with_trial(run)
        prepared = command.build(run.model, run.settings(), self.data_dir)
        if run.make is not None:
            model = run.make(prepared.settings.model, prepared.known.spec)
            prepared = dataclasses.replace(prepared, model=model)
        return prepared

    def _seeds(self, prepared, states, records) -> list[Trained]:
        plan = prepared.settings.plan
        return [
            Trained(
                prepared.model,
                state,
                prepared.data,
                prepared.settings,
                plan.seed + i,
                [_of_seed(record, i) for record in records],
            )
            for i, state in enumerate(states)
        ]

    # -- measures ------------------------------------------------------------------------------

    def measured(self, run: Run, measure: Callable[[Trained], Any]) -> dict[str, np.ndarray]:
        """A measure of every seed of a finished run: `{name: [seeds, ...]}`."""
        file = self._measure_file(run, measure)
        if not file.exists():
            start = time.monotonic()
            values = [as_json(measure(seed)) for seed in self.trained(run)]
            content = {"values": values, "seconds": time.monotonic() - start}
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps(content, indent=1).encode())
        return stacked(json.loads(file.read_text())["values"])

    def measure_seconds(self, run: Run, measure: Callable[[Trained], Any]) -> float:
        """Seconds that the computation of a measure took."""
        return json.loads(self._measure_file(run, measure).read_text())["seconds"]

    def is_measured(self, run: Run, measure: Callable[[Trained], Any]) -> bool:
        """Whether a measure of a run is stored."""
        return self._measure_file(run, measure).exists()

    def _measure_file(self, run: Run, measure) -> pathlib.Path:
        code = function_digest(measure)
        return self.path(run) / "measures" / f"{measure.__name__}-{code}.json"


def _of_seed(record: dict[str, Any], i: int) -> dict[str, Any]:
    return {k: v[i] if isinstance(v, list) else v for k, v in record.items()}


def as_json(values: Any) -> Any:
    """Numbers and arrays as JSON values."""
    if isinstance(values, dict):
        return {str(name): as_json(value) for name, value in values.items()}
    return np.asarray(values).tolist()


def stacked(values: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """`{name: [seeds, ...]}` from a dict per seed."""
    return {name: np.array([each[name] for each in values]) for name in values[0]}


def made_with() -> dict[str, Any]:
    """Device, versions and commit; the commit ends in `, changed` if Python files differ."""
    root = source_of("jaxae").parents[1]
    git = lambda *words: subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)
    try:
        commit = git("rev-parse", "--short", "HEAD").stdout.strip()
        changed = git("diff", "--quiet", "HEAD", "--", "*.py").returncode != 0
    except FileNotFoundError:  # no git on this machine
        commit = ""
    if commit and changed:
        commit += ", changed"
    return environment() | {"commit": commit or "unknown"}
