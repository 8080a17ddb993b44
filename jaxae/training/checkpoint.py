"""Checkpoints with verified integrity.

Orbax writes them in the background, but it loads flipped bits without an error, takes any folder
with a number as name for a checkpoint, and silently saves nothing if a step exists already. So
every complete step has a manifest of its files with sizes and SHA-256, a step is used only if its
manifest is correct, and folders without one are moved before Orbax sees them.

    checkpoints/30/state, meta, metrics, ...    Orbax's files
    checkpoints/30/MANIFEST.json                written after Orbax has committed the step
    checkpoints/.saving                         the step being written, until its manifest exists
    checkpoints/.deleted/                       old steps: first renamed, then removed
    damaged/30                                  damaged steps are moved here

One process at a time: the caller holds the run's lock (`jaxae.training.workdir`).
"""

import contextlib
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

from jaxae.training.leaves import check_array, differences, restore_target, signature
from jaxae.training.manifest import MANIFEST, find_damage, make_manifest, move_aside
from jaxae.training.workdir import strict, write_atomically

SAVING = ".saving"
DELETED = ".deleted"
TEMPORARY = ".orbax-checkpoint-tmp"  # Orbax's mark of steps that are not committed


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, or none can be used; the message names the folder."""


class DamagedCheckpoint(UserWarning):
    """A damaged or unfinished checkpoint was found and an earlier one is used."""


class Checkpoints:
    """The checkpoints of one run: the newest `keep` and the best (a context manager).

    Args:
        directory: folder of the steps; created at the first save.
        keep: number of newest steps that are kept, at least 2, so that there is one before a
            damaged one.
    """

    def __init__(self, directory: str | os.PathLike, keep: int = 2):
        if keep < 2:
            raise ValueError(f"keep must be at least 2, is {keep}")
        self.directory = pathlib.Path(directory).absolute()
        self._keep = keep
        self._manager = None
        self._writing: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def save(
        self, step: int, tree: Any, metric: float | None = None, meta: dict | None = None
    ) -> None:
        """Copies `tree` to the host and writes it in the background.

        The caller may donate or overwrite the arrays as soon as this returns. Saving a step that
        exists and is intact does nothing.

        Args:
            step: not less than the newest step.
            tree: pytree of jax or numpy arrays, typed keys allowed.
            metric: lower is better; None or not finite: not a candidate for the best.
            meta: JSON values that are restored with the arrays.
        Raises:
            CheckpointError: this save cannot start, or the one before has failed.
            TypeError: a leaf is not an array or has a dtype that JAX cannot restore, or `meta` is
                not JSON.
        """
        step = int(step)
        tree = jax.tree.map_with_path(check_array, tree)
        about = {"meta": json.loads(json.dumps(strict(meta or {}))), "leaves": signature(tree)}
        metric = None if metric is None or not math.isfinite(metric) else float(metric)
        self.wait()
        with self._report(f"step {step} cannot be saved"):
            if (self.directory / str(step)).exists():
                if find_damage(self.directory / str(step)) is None:
                    return
                self._release()
            manager = self._open()
            newest = max(self._numbers(), default=step)
            if newest > step:
                raise CheckpointError(
                    f"{self.directory}: step {step} is older than step {newest}, which exists"
                )
            self._check_space(tree)
            self._start(manager, step, tree, metric, about)

    def restore(
        self, template: Any, refuse: Callable[[Any], str | None] | None = None
    ) -> tuple[int, Any, dict] | None:
        """The newest intact checkpoint; damaged newer ones are moved aside with a warning.

        Args:
            template: pytree of arrays or `jax.ShapeDtypeStruct` (as from `jax.eval_shape`) with
                the expected structure; leaves without a sharding go to the default device.
            refuse: returns the reason why a tree must not be used, or None; a refused step is
                moved aside like a damaged one.
        Returns:
            step, tree of jax arrays, meta; None if there is no complete checkpoint.
        Raises:
            CheckpointError: no checkpoint is intact (they are not moved), or the newest intact one
                does not match the template (the leaves are named).
        """
        self.wait()
        self._release()
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
                    f"{self.directory}: no checkpoint can be continued ({every}); start a new run "
                    "in another --workdir"
                )
            return None

    def restore_best(self, template: Any) -> tuple[int, Any, dict] | None:
        """As `restore`, for the checkpoint with the lowest metric (in a tie the latest).

        None if no checkpoint has a metric.
        """
        self.wait()
        self._release()
        with self._report("the best checkpoint cannot be restored"):
            manager = self._open(must_find=True)
            metrics = {step: _rank(manager.metrics(step)) for step in self._numbers()}
            ranked = [step for step in metrics if metrics[step] < math.inf]
            best = min(ranked, key=lambda step: (metrics[step], -step), default=None)
            return self._load(manager, best, template)

    def steps(self) -> list[int]:
        """The intact steps in increasing order (every file is read)."""
        self.wait()
        return [int(folder.name) for folder in self._folders() if find_damage(folder) is None]

    def meta(self, step: int | None = None) -> dict:
        """The `meta` of `step`, or of the newest intact step.

        Raises:
            CheckpointError: there is no such step, or it is damaged.
        """
        self.wait()
        if step is None:
            intact = self.steps()
            if not intact:
                damaged = "; ".join(f"step {f.name}: {find_damage(f)}" for f in self._folders())
                raise CheckpointError(
                    f"{self.directory}: there is no intact checkpoint ({damaged or 'none at all'})"
                )
            step = intact[-1]
        folder = self.directory / str(step)
        if wrong := find_damage(folder):
            raise CheckpointError(f"{self.directory}: step {step} cannot be read: {wrong}")
        return self._about(step)["meta"]

    def wait(self) -> None:
        """Waits until the current save, if any, is complete with its manifest.

        Raises:
            CheckpointError: it failed; earlier steps are unchanged.
        """
        if self._writing is not None:
            self._writing.join()
            self._writing = None
        if self._error is not None:
            error, self._error = self._error, None
            self._release()
            raise CheckpointError(
                f"{self.directory}: a checkpoint could not be written ({_short(error)}); "
                "earlier ones are unchanged"
            ) from error

    def close(self) -> None:
        """Waits, then ends Orbax's threads; a later call starts them again.

        Raises:
            CheckpointError: the last save failed.
        """
        try:
            self.wait()
        finally:
            self._release()

    def _check_space(self, tree: Any) -> None:
        """Raises OSError if the disk may be too full, before Orbax starts to write."""
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
        free = shutil.disk_usage(self.directory).free
        if needed > free:
            raise OSError(
                f"No space left on device: it needs up to {needed / 2**20:.3g} MiB, there are "
                f"{free / 2**20:.3g} MiB"
            )

    def _start(self, manager, step: int, tree: Any, metric: float | None, about: dict) -> None:
        """Starts the save by Orbax and the thread that writes the manifest."""
        import orbax.checkpoint as ocp

        write_atomically(self.directory / SAVING, str(step).encode())
        # force: otherwise Orbax may take the step for an old one, return False and save nothing.
        manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(about)
            ),
            metrics={"metric": metric},
            force=True,
        )
        self._writing = threading.Thread(target=self._write_manifest, args=(manager, step))
        self._writing.start()

    def _write_manifest(self, manager, step: int) -> None:
        """In a thread: waits for Orbax's commit, then writes the manifest."""
        try:
            manager.wait_until_finished()
            folder = self.directory / str(step)
            write_atomically(folder / MANIFEST, make_manifest(folder))
            (self.directory / SAVING).unlink()
            shutil.rmtree(self.directory / DELETED, ignore_errors=True)
        except BaseException as error:
            self._error = error

    def _load(self, manager, step: int | None, template: Any) -> tuple[int, Any, dict] | None:
        import orbax.checkpoint as ocp

        if step is None:
            return None
        about = self._about(step)
        if mismatch := differences(about["leaves"], signature(template)):
            raise CheckpointError(
                f"{self.directory}: step {step} does not fit this model:\n" + mismatch
            )
        template = jax.tree.map(restore_target, template)
        restored = manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(template))
        )
        return step, restored["state"], about["meta"]

    def _about(self, step: int) -> dict:
        """The JSON saved with the arrays: the caller's meta, and shape and dtype of every leaf."""
        import orbax.checkpoint as ocp
        from etils import epath

        handler = ocp.JsonCheckpointHandler()
        try:
            return handler.restore(epath.Path(self.directory / str(step) / "meta"))
        finally:
            handler.close()

    def _folders(self) -> list[pathlib.Path]:
        """All folders that Orbax would take for a step, intact or not, in increasing order."""
        if not self.directory.is_dir():
            return []
        found = [path for path in self.directory.iterdir() if re.fullmatch("[0-9]+", path.name)]
        return sorted(found, key=lambda path: (int(path.name), path.name))

    def _numbers(self) -> list[int]:
        return [int(folder.name) for folder in self._folders()]

    def _open(self, must_find: bool = False):
        """Orbax's manager, after all folders that are not intact steps were moved away."""
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
        """Moves damaged steps to `damaged/`; returns messages about them, newest first."""
        saving = self.directory / SAVING
        unfinished = saving.read_text() if saving.exists() else None
        wrong, intact, damaged = [], [], []
        for folder in self._folders():
            reason = find_damage(folder)
            if reason is None:
                intact.append(folder.name)
            elif folder.name == unfinished and not (folder / MANIFEST).exists():
                wrong.append((folder, "is unfinished: writing it was interrupted"))
            else:
                wrong.append((folder, f"is damaged: {reason}"))
                damaged.append(f"step {folder.name}: {reason}")
        # Not moved, because otherwise the run would look as if it had never been saved.
        if must_find and damaged and not intact:
            raise CheckpointError(
                f"{self.directory}: no checkpoint is intact ({'; '.join(damaged)}); restore one "
                "or start a new run in another --workdir"
            )
        instead = f"step {intact[-1]} is used instead" if intact else "there is no step before it"
        found = [
            f"checkpoint {folder} {reason}; it was moved to {move_aside(folder)}, and {instead}"
            for folder, reason in reversed(wrong)
        ]
        for folder in sorted(self.directory.glob(f"[0-9]*{TEMPORARY}*")):
            found.append(
                f"checkpoint {folder} is unfinished: writing it was interrupted; it is removed, "
                f"and {instead}"
            )
        return found

    def _move_refused(self, refused: dict[int, str], used: int) -> None:
        """Moves steps that were refused to `damaged/`, with a warning."""
        if refused:
            self._release()  # a new manager does not know them
        for step, wrong in refused.items():
            folder = self.directory / str(step)
            warnings.warn(
                f"checkpoint {folder} cannot be continued: {wrong}; it was moved to "
                f"{move_aside(folder)}, and step {used} is used instead",
                DamagedCheckpoint,
                stacklevel=3,
            )

    def _release(self) -> None:
        """Closes Orbax's manager. Its errors were reported by `wait` before."""
        manager, self._manager = self._manager, None
        if manager is not None:
            with contextlib.suppress(Exception):
                manager.wait_until_finished()
            with contextlib.suppress(Exception):
                manager.close()

    @contextlib.contextmanager
    def _report(self, what: str):
        """Turns any error of Orbax or the file system into a CheckpointError with the folder."""
        try:
            yield
        except (CheckpointError, DamagedCheckpoint):
            raise
        except Exception as error:
            self._release()
            raise CheckpointError(f"{self.directory}: {what} ({_short(error)})") from error


def _is_not_of_orbax(record: logging.LogRecord) -> bool:
    """False for Orbax's error logs: the errors are raised too, as CheckpointError."""
    return record.levelno < logging.ERROR or "orbax" not in record.pathname


def _manager(directory: pathlib.Path, keep: int):
    import orbax.checkpoint as ocp
    from orbax.checkpoint.checkpoint_managers import preservation_policy as policy

    return ocp.CheckpointManager(
        directory,
        options=ocp.CheckpointManagerOptions(
            # Orbax writes the metric to disk only if best_fn is set, although the policy decides.
            best_fn=_rank,
            best_mode="min",
            preservation_policy=policy.AnyPreservationPolicy(
                [policy.LatestN(keep), policy.BestN(get_metric_fn=_rank, n=1, reverse=True)]
            ),
            # Otherwise a save that fails at its start leaves threads waiting for the folder.
            async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
            cleanup_tmp_directories=True,
            todelete_subdir=DELETED,
        ),
    )


def _rank(metrics: dict | None) -> float:
    """The metric of a step; infinity if it has none."""
    metric = (metrics or {}).get("metric")
    return math.inf if metric is None else metric


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
