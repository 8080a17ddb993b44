"""`jaxae.load` and `jaxae.train`: what the command does, from Python."""

import contextlib
import dataclasses
import inspect
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from jaxae import recipes
from jaxae.command import run as runs
from jaxae.command import spec as specs
from jaxae.command.flags import from_changes, from_folder, owners
from jaxae.command.trained import BATCH, Trained
from jaxae.data import Data, Options, from_arrays
from jaxae.data import load as load_named
from jaxae.settings import UsageError
from jaxae.training import Workdir
from jaxae.training.workdir import read_config


def load(
    workdir: str | os.PathLike,
    *,
    checkpoint: Literal["last", "best"] = "last",
    seed: int | None = None,
    data: Any = None,
    data_dir: str | os.PathLike | None = None,
    networks: Mapping[str, Any] | None = None,
    batch_size: int = BATCH,
) -> Trained:
    """The trained model that a run's folder holds.

    The data is not read, unless the folder was begun by an earlier version, or the model re-reads
    its training images before it is evaluated (ACN's memory of codes).

    Args:
        workdir: the folder, as `jaxae --workdir` or `jaxae.train(workdir=...)` left it.
        checkpoint: the newest one, or that of the lowest loss on validation images.
        seed: which of the run's seeds; None: the first.
        data: what `train` was given, where the data has no name; or the name by which it is found
            now.
        data_dir: a folder of data sets, see `jaxae.data.load`.
        networks: the caller's own modules that the run was trained with.
        batch_size: images that the object's methods compute at a time.
    Raises:
        UsageError: no folder of a run, no such checkpoint or seed, other data or networks.
        WorkdirError, CheckpointError: the folder is in use, damaged or was edited.
        DataError: the data is needed, and missing or broken.
    """
    folder = pathlib.Path(workdir).expanduser()
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"{os.fspath(workdir)!r} is not the folder of a run (there is no config.json in it): "
            "jaxae.load takes a folder that `jaxae --workdir DIR` or jaxae.train(workdir=DIR) wrote"
        )
    if checkpoint not in ("last", "best"):
        raise UsageError(f"checkpoint={checkpoint!r} is none of last, best")
    name, settings = from_folder(folder, [])
    config = read_config(folder)
    given = data if data is None else _data(data, settings.options, data_dir)
    known = None if given is not None else specs.read(folder, config)
    run = runs.build(name, settings, data_dir, data=given, known=known, networks=networks)
    read = run.load_data

    def checked():
        found = read()
        runs.check_digest(settings, found, config, folder)
        return found

    run = dataclasses.replace(run, load_data=checked)
    if known is None:
        checked()
    with Workdir.open(folder) as opened:
        runs.check_folder(run, opened)
        step, states, _ = runs.restore(run, opened, best=checkpoint == "best")
    return Trained(run, states, step, seed, batch_size)


def train(
    model: str,
    recipe: str | None = None,
    *,
    data: Any = None,
    workdir: str | os.PathLike | None = None,
    networks: Mapping[str, Any] | None = None,
    callbacks: Sequence[Callable[[dict[str, Any]], None]] = (),
    quiet: bool = False,
    data_dir: str | os.PathLike | None = None,
    **changes: Any,
) -> Trained:
    """Trains a model by a recipe, and returns it.

    `jaxae.train("vae", "digits", steps=500, latent=8)` is `jaxae --model vae --recipe digits
    --steps 500 --latent 8` without the final evaluation, which `jaxae evaluate --workdir` makes of
    a run with a folder.

    Args:
        model: its name, see `jaxae --list`.
        recipe: its name; None: the model's first one.
        data: None: the recipe's data set; the name of another one; a `jaxae.data.Data`; or arrays:
            `train_images`, a tuple of up to `train_images, train_labels, test_images, test_labels`,
            or a dict of arguments of `jaxae.data.from_arrays`. As with the flag --data, a recipe's
            options (`binarise`, ...) are back at their defaults for another data set.
        workdir: the run's folder; a run that is there is continued, or lengthened where `steps` is
            larger, as the command does. None keeps everything in memory.
        networks: flax modules of the caller's own by network name, see `nets.replace_networks`; the
            folder records their `repr`.
        callbacks: called with each logged record, see `jaxae.training.fit`.
        quiet: no progress.
        data_dir: a folder of data sets, see `jaxae.data.load`.
        changes: fields of the model's `Config`, of `Plan`, `Options` or `Report` that differ from
            the recipe: the flags of the command.
    Returns:
        the trained model of the first seed; `states` has those of all.
    Raises:
        UsageError: an unknown name, or what does not fit together.
        DataError, DeviceError, WorkdirError: see `jaxae.training.fit`.
        NonFiniteLoss: a loss is NaN or infinite.
        Stopped: SIGTERM or Ctrl-C; the state is kept in `workdir`.
    """
    settings, given = recipes.get(model, recipe), None
    if isinstance(data, Data):
        fixed = [name for name in changes if owners(model).get(name) == "Options"]
        if fixed:
            raise UsageError(f"{fixed[0]}: the options of a Data are its own; give it there")
        settings = from_changes(model, settings, changes, _name(data))
        settings, given = dataclasses.replace(settings, options=data.options), data
    elif data is None or isinstance(data, str):
        settings = from_changes(model, settings, changes, data)
    else:
        settings = from_changes(model, settings, changes, runs.ARRAYS)
        given = _data(data, settings.options)
    run = runs.build(model, settings, data_dir, data=given, networks=networks)
    with contextlib.ExitStack() as closing:
        folder = None
        if workdir is None:
            runs.check_plan(run)
        else:
            folder = closing.enter_context(Workdir.open(workdir))
            runs.claim(run, folder, lengthened=True)
        fitted = runs.train(run, folder, quiet, callbacks)
    return Trained(run, fitted.states, settings.plan.steps)


def _name(data: Data) -> str:
    """What config.json calls data that was given from Python."""
    return runs.ARRAYS if data.name == runs.ARRAYS else f"{runs.ARRAYS}:{data.name}"


def _data(data: Any, options: Options, data_dir: Any = None) -> Data:
    """The data set that a caller gave by its name or as arrays.

    Raises:
        UsageError: it is none of what `train` takes.
        DataError: the arrays do not fit.
    """
    if isinstance(data, Data):
        return data
    if isinstance(data, str):
        return load_named(data, options, data_dir)
    if isinstance(data, dict):
        known = inspect.signature(from_arrays).parameters.keys() - {"options", "name"}
        if wrong := [key for key in data if key not in known]:
            raise UsageError(f"data has the key {wrong[0]!r}, which is none of {sorted(known)}")
        if "train_images" not in data:
            raise UsageError("data has no train_images")
        return from_arrays(**data, options=options)
    if isinstance(data, tuple) and 1 <= len(data) <= 4:
        return from_arrays(*data, options=options)
    if isinstance(data, np.ndarray):
        return from_arrays(data, options=options)
    raise UsageError(
        "data is the name of a data set, a jaxae.data.Data, an array of training images, a tuple "
        "(train_images, train_labels, test_images, test_labels) of which the last ones may be left "
        f"out, or a dict of these; it is {type(data).__name__}"
    )
