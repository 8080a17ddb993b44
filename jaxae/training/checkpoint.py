"""Checkpoints that are either whole or not there.

Orbax writes them in the background, but it loads a flipped bit without complaint, takes any
folder with a number for a checkpoint, and silently saves nothing where a step exists already.
So every finished step carries a manifest of its files with sizes and SHA-256, a step counts
only while its manifest holds, and Orbax never meets a folder that does not count.

    checkpoints/30/state, meta, metrics, ...    Orbax's files
    checkpoints/30/MANIFEST.json                written after Orbax has committed the step
    checkpoints/.saving                         the step being written, until its manifest exists
    checkpoints/.deleted/                       old steps on their way out: renamed, then removed
    damaged/30                                  what did not verify, moved here

One process at a time: the caller holds the run's lock (`jaxae.training.workdir`).
"""

import contextlib
import hashlib
import json
import logging
import math
import os
import pathlib
import re
import shutil
import threading
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.training.workdir import strict, write_atomically

MANIFEST = "MANIFEST.json"
SAVING = ".saving"
DELETED = ".deleted"
TEMPORARY = ".orbax-checkpoint-tmp"  # how Orbax marks what it has not committed


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, or none can be used; the message names the folder."""


class DamagedCheckpoint(UserWarning):
    """A damaged or unfinished checkpoint was found and an earlier one is used."""


class Checkpoints:
    """The checkpoints of one run: the newest `keep` and the best (a context manager).

    Args:
        directory: where the steps live; created at the first save.
        keep: how many of the newest stay, at least 2: a newest that does not verify needs one
            before it.
    """

    def __init__(self, directory: str | os.PathLike, keep: int = 2):
        if keep < 2:
            raise ValueError(f"keep: at least 2 checkpoints must stay, got {keep}")
        self.directory = pathlib.Path(directory).absolute()
        self._keep = keep
        self._manager = None
        self._sealing: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def save(
        self, step: int, tree: Any, metric: float | None = None, meta: dict | None = None
    ) -> None:
        """Copies `tree` to the host and writes it in the background.

        The caller may donate or overwrite the arrays as soon as this returns. Saving a step
        that is there already and intact does nothing.

        Args:
            step: not before the newest step there is.
            tree: pytree of jax or numpy arrays, typed keys allowed.
            metric: lower is better; None or not finite: not a candidate for the best.
            meta: JSON values that come back with the arrays.
        Raises:
            CheckpointError: this save cannot start, or the one before has failed.
            TypeError: a leaf is not an array or has a dtype that JAX would not give back, or
                `meta` is not JSON.
        """
        step = int(step)
        tree = jax.tree.map_with_path(_checked, tree)
        about = {"meta": json.loads(json.dumps(strict(meta or {}))), "leaves": _signature(tree)}
        metric = None if metric is None or not math.isfinite(metric) else float(metric)
        self.wait()
        with self._report(f"step {step} cannot be saved"):
            if (self.directory / str(step)).exists():
                if problem(self.directory / str(step)) is None:
                    return
                self._let_go()
            manager = self._open()
            newest = max(self._numbers(), default=step)
            if newest > step:
                raise CheckpointError(
                    f"{self.directory}: step {step} is older than step {newest}, which is there"
                )
            self._check_space(tree)
            self._start(manager, step, tree, metric, about)

    def restore(
        self, template: Any, refuse: Callable[[Any], str | None] | None = None
    ) -> tuple[int, Any, dict] | None:
        """The newest intact checkpoint; newer ones that are not are moved aside with a warning.

        Args:
            template: pytree of arrays or `jax.ShapeDtypeStruct` (as from `jax.eval_shape`) with
                the structure, shapes and dtypes to expect; a leaf that names a sharding comes
                back with it, others on the default device.
            refuse: says what is wrong with a tree that is not to be used; it counts as damaged.
        Returns:
            step, tree of jax arrays, meta; None where nothing was ever saved completely.
        Raises:
            CheckpointError: there are checkpoints but none is intact (they stay where they are),
                or the newest intact one does not fit the template (the leaves are named).
        """
        self.wait()
        self._let_go()
        with self._report("no checkpoint can be restored"):
            manager, refused = self._open(must_find=True), {}
            for step in reversed(self._numbers()):
                found = self._load(manager, step, template)
                wrong = refuse(found[1]) if refuse else None
                if wrong is None:
                    self._move_refused(refused, step)
                    return found
                refused[step] = wrong
            if refused:
                every = "; ".join(f"step {step}: {wrong}" for step, wrong in refused.items())
                raise CheckpointError(
                    f"{self.directory}: no checkpoint can be gone on from ({every}); start anew in "
                    "another --workdir"
                )
            return None

    def restore_best(self, template: Any) -> tuple[int, Any, dict] | None:
        """As `restore`, for the checkpoint of the lowest metric (the latest of equals).

        None where no checkpoint has a metric.
        """
        self.wait()
        self._let_go()
        with self._report("the best checkpoint cannot be restored"):
            manager = self._open(must_find=True)
            metrics = {step: _rank(manager.metrics(step)) for step in self._numbers()}
            ranked = [step for step in metrics if metrics[step] < math.inf]
            best = min(ranked, key=lambda step: (metrics[step], -step), default=None)
            return self._load(manager, best, template)

    def steps(self) -> list[int]:
        """The intact steps in rising order (every file is read)."""
        self.wait()
        return [int(folder.name) for folder in self._folders() if problem(folder) is None]

    def meta(self, step: int | None = None) -> dict:
        """What was saved beside the arrays, at `step` or at the newest intact one.

        Raises:
            CheckpointError: there is no such step, or it is damaged.
        """
        self.wait()
        if step is None:
            intact = self.steps()
            if not intact:
                damaged = "; ".join(f"step {f.name}: {problem(f)}" for f in self._folders())
                raise CheckpointError(
                    f"{self.directory}: there is no intact checkpoint ({damaged or 'none at all'})"
                )
            step = intact[-1]
        folder = self.directory / str(step)
        if wrong := problem(folder):
            raise CheckpointError(f"{self.directory}: step {step} cannot be read: {wrong}")
        return self._about(step)["meta"]

    def wait(self) -> None:
        """Returns when the save under way, if any, is complete with its manifest.

        Raises:
            CheckpointError: it failed; earlier steps are as they were.
        """
        if self._sealing is not None:
            self._sealing.join()
            self._sealing = None
        if self._error is not None:
            error, self._error = self._error, None
            self._let_go()
            raise CheckpointError(
                f"{self.directory}: a checkpoint could not be written ({_short(error)}); "
                "earlier ones are untouched"
            ) from error

    def close(self) -> None:
        """Waits, then gives up Orbax's threads; a later call starts them again.

        Raises:
            CheckpointError: the last save failed.
        """
        try:
            self.wait()
        finally:
            self._let_go()

    def _check_space(self, tree: Any) -> None:
        """Refuses what may not fit, rather than let Orbax's threads fail halfway through."""
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
        free = shutil.disk_usage(self.directory).free
        if needed > free:
            raise OSError(
                f"No space left on device: it takes up to {needed / 2**20:.3g} MiB, and there are "
                f"{free / 2**20:.3g} MiB"
            )

    def _start(self, manager, step: int, tree: Any, metric: float | None, about: dict) -> None:
        """Hands the arrays to Orbax and starts the thread that seals the step."""
        import orbax.checkpoint as ocp

        write_atomically(self.directory / SAVING, str(step).encode())
        # force: without it, Orbax returns False for a step it takes for old and saves nothing.
        manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(about)
            ),
            metrics={"metric": metric},
            force=True,
        )
        self._sealing = threading.Thread(target=self._seal, args=(manager, step), name="seal")
        self._sealing.start()

    def _seal(self, manager, step: int) -> None:
        """In the background: waits for Orbax's commit, then writes the manifest."""
        try:
            manager.wait_until_finished()
            folder = self.directory / str(step)
            write_atomically(folder / MANIFEST, manifest(folder))
            (self.directory / SAVING).unlink()
            shutil.rmtree(self.directory / DELETED, ignore_errors=True)
        except BaseException as error:
            self._error = error

    def _load(self, manager, step: int | None, template: Any) -> tuple[int, Any, dict] | None:
        import orbax.checkpoint as ocp

        if step is None:
            return None
        about = self._about(step)
        if differences := _differences(about["leaves"], _signature(template)):
            raise CheckpointError(
                f"{self.directory}: step {step} does not fit this model:\n" + differences
            )
        template = jax.tree.map(_target, template)
        restored = manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(template))
        )
        return step, restored["state"], about["meta"]

    def _about(self, step: int) -> dict:
        """The JSON beside the arrays: the caller's meta and every leaf's shape and dtype."""
        import orbax.checkpoint as ocp
        from etils import epath

        handler = ocp.JsonCheckpointHandler()
        try:
            return handler.restore(epath.Path(self.directory / str(step) / "meta"))
        finally:
            handler.close()

    def _folders(self) -> list[pathlib.Path]:
        """Whatever Orbax would take for a step, intact or not, in rising order."""
        if not self.directory.is_dir():
            return []
        found = [path for path in self.directory.iterdir() if re.fullmatch("[0-9]+", path.name)]
        return sorted(found, key=lambda path: (int(path.name), path.name))

    def _numbers(self) -> list[int]:
        return [int(folder.name) for folder in self._folders()]

    def _open(self, must_find: bool = False):
        """Orbax's manager over a directory that holds nothing but intact steps."""
        if self._manager is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            found = self._move_damaged(must_find)
            shutil.rmtree(self.directory / DELETED, ignore_errors=True)
            (self.directory / SAVING).unlink(missing_ok=True)
            self._manager = _manager(self.directory, self._keep)
            logging.getLogger("absl").addFilter(_is_not_of_orbax)
            for message in found:
                warnings.warn(message, DamagedCheckpoint, stacklevel=3)
        return self._manager

    def _move_damaged(self, must_find: bool) -> list[str]:
        """Moves what does not verify to `damaged/`; says what it found, newest first."""
        saving = self.directory / SAVING
        unfinished = saving.read_text() if saving.exists() else None
        wrong, intact, damaged = [], [], []
        for folder in self._folders():
            reason = problem(folder)
            if reason is None:
                intact.append(folder.name)
            elif folder.name == unfinished and not (folder / MANIFEST).exists():
                wrong.append((folder, "is unfinished: its writing was cut off"))
            else:
                wrong.append((folder, f"is damaged: {reason}"))
                damaged.append(f"step {folder.name}: {reason}")
        # Moved aside, they would look like a run that never saved to whoever starts it again.
        if must_find and damaged and not intact:
            raise CheckpointError(
                f"{self.directory}: no checkpoint is intact ({'; '.join(damaged)}); put one back "
                "or start anew in another --workdir"
            )
        instead = f"step {intact[-1]} is used instead" if intact else "there is no step before it"
        found = [
            f"checkpoint {folder} {reason}; it was moved to {_aside(folder)}, and {instead}"
            for folder, reason in reversed(wrong)
        ]
        for folder in sorted(self.directory.glob(f"[0-9]*{TEMPORARY}*")):
            found.append(
                f"checkpoint {folder} is unfinished: its writing was cut off; it is removed, "
                f"and {instead}"
            )
        return found

    def _move_refused(self, refused: dict[int, str], used: int) -> None:
        """Moves steps that are intact and yet not to be used to `damaged/`, and says so."""
        if refused:
            self._let_go()  # Orbax must not remember them
        for step, wrong in refused.items():
            folder = self.directory / str(step)
            warnings.warn(
                f"checkpoint {folder} cannot be gone on from: {wrong}; it was moved to "
                f"{_aside(folder)}, and step {used} is used instead",
                DamagedCheckpoint,
                stacklevel=3,
            )

    def _let_go(self) -> None:
        """Closes Orbax's manager. An error that it repeats has been reported by `wait`."""
        manager, self._manager = self._manager, None
        if manager is not None:
            with contextlib.suppress(Exception):
                manager.wait_until_finished()
            with contextlib.suppress(Exception):
                manager.close()

    @contextlib.contextmanager
    def _report(self, what: str):
        """Any failure of Orbax or the file system becomes a CheckpointError with the folder."""
        try:
            yield
        except (CheckpointError, DamagedCheckpoint):
            raise
        except Exception as error:
            self._let_go()
            raise CheckpointError(f"{self.directory}: {what} ({_short(error)})") from error


def manifest(folder: pathlib.Path) -> bytes:
    """The canonical JSON text on a step's files: path, size and SHA-256 of each, and its own."""
    files = {}
    for file in sorted(path for path in folder.rglob("*") if not path.is_dir()):
        name = file.relative_to(folder).as_posix()
        if name != MANIFEST:
            with open(file, "rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            files[name] = {"size": file.stat().st_size, "sha256": digest}
    about = {"format": 1, "step": folder.name, "files": files}
    return json.dumps(about | {"sha256": _digest(about)}, indent=1).encode()


def problem(folder: pathlib.Path) -> str | None:
    """What is wrong with a step, naming the file; None where all is as it was written."""
    if not folder.is_dir():
        return "there is no such folder"
    try:
        stored = (folder / MANIFEST).read_bytes()
        found = manifest(folder)
    except FileNotFoundError as error:
        return f"{os.path.relpath(error.filename, folder)} is missing"
    except OSError as error:
        return f"it cannot be read ({error})"
    if stored == found:
        return None
    changed = f"{MANIFEST} has changed"
    try:
        about = json.loads(stored)
        if about.pop("sha256") != _digest(about):
            return changed
    except (ValueError, KeyError, TypeError, AttributeError):
        return changed
    then, now = about["files"], json.loads(found)["files"]
    for name in then | now:
        if name not in now:
            return f"{name} is missing"
        if name not in then:
            return f"{name} was not there when it was saved"
        if then[name]["size"] != now[name]["size"]:
            return f"{name} has {now[name]['size']} bytes, not {then[name]['size']}"
        if then[name] != now[name]:
            return f"{name} has changed"
    return changed


def _is_not_of_orbax(record: logging.LogRecord) -> bool:
    """Orbax logs a failure up to five times, each with a traceback, and then raises it: once, as a
    CheckpointError, is enough."""
    return record.levelno < logging.ERROR or "orbax" not in record.pathname


def _digest(about: dict) -> str:
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()


def _manager(directory: pathlib.Path, keep: int):
    import orbax.checkpoint as ocp
    from orbax.checkpoint.checkpoint_managers import preservation_policy as policy

    return ocp.CheckpointManager(
        directory,
        options=ocp.CheckpointManagerOptions(
            # Orbax writes the metric to disk only where best_fn is set, though the policy rules.
            best_fn=_rank,
            best_mode="min",
            preservation_policy=policy.AnyPreservationPolicy(
                [policy.LatestN(keep), policy.BestN(get_metric_fn=_rank, n=1, reverse=True)]
            ),
            # A save that fails at its start would leave threads waiting for the folder otherwise.
            async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
            cleanup_tmp_directories=True,
            todelete_subdir=DELETED,
        ),
    )


def _rank(metrics: dict | None) -> float:
    """The metric of a step, the last of all where it has none."""
    metric = (metrics or {}).get("metric")
    return math.inf if metric is None else metric


def _checked(path, leaf: Any) -> jax.Array | np.ndarray:
    """`leaf` as an array that Orbax takes and JAX gives back unchanged."""
    name = jax.tree_util.keystr(path)
    if isinstance(leaf, np.generic):
        leaf = np.asarray(leaf)
    if not isinstance(leaf, jax.Array | np.ndarray):
        raise TypeError(f"{name}: a checkpoint holds arrays, got {type(leaf).__name__}")
    if isinstance(leaf, np.ndarray) and jax.dtypes.canonicalize_dtype(leaf.dtype) != leaf.dtype:
        raise TypeError(f"{name}: JAX cannot give back {leaf.dtype} (jax_enable_x64 is off)")
    return leaf


def _target(leaf: Any) -> jax.ShapeDtypeStruct | jax.Array:
    """What Orbax is to fill: the leaf's shape, dtype and sharding (or the default device)."""
    sharding = getattr(leaf, "sharding", None) or jnp.zeros(()).sharding
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        # Orbax 0.11 reads a typed key only into a typed key.
        return jax.device_put(jax.lax.full(leaf.shape, 0, leaf.dtype), sharding)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _signature(tree: Any) -> dict[str, str]:
    """Every leaf's dtype and shape (the type, where it is no array) under its path."""
    return {
        jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}"
        if hasattr(leaf, "dtype")
        else type(leaf).__name__
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _differences(saved: dict[str, str], wanted: dict[str, str]) -> str:
    """A line per leaf that differs, at most ten of them."""
    lines = [
        f"  {name}: {saved.get(name, 'missing')} in the checkpoint, "
        f"{wanted.get(name, 'missing')} wanted"
        for name in saved | wanted
        if saved.get(name) != wanted.get(name)
    ]
    more = [f"  and {len(lines) - 10} more"] if len(lines) > 10 else []
    return "\n".join(lines[:10] + more)


def _aside(folder: pathlib.Path) -> pathlib.Path:
    """Moves a step to `damaged/` beside the checkpoints; returns where it lies now."""
    target = _free(folder.parent.parent / "damaged" / folder.name)
    target.parent.mkdir(exist_ok=True)
    folder.rename(target)
    return target


def _free(path: pathlib.Path) -> pathlib.Path:
    """`path`, or the first of `path-1`, `path-2`, ... that does not exist."""
    number, free = 0, path
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
