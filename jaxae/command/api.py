"""`jaxae.load` and `jaxae.train`: the command as Python functions."""

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
    """Loads the trained model from a run's folder.

    The data is not read, unless an earlier version created the folder, or the model needs its
    training images for evaluation (ACN's memory of codes).

    Args:
        workdir: the folder, written by `jaxae --workdir` or `jaxae.train(workdir=...)`.
        checkpoint: the newest one, or the one with the lowest loss on validation images.
        seed: which of the run's seeds; None: the first.
        data: the `data` argument of `train` if that had no name; or the present name of the data
            set, if that has changed.
        data_dir: a folder of data sets, see `jaxae.data.load`.
        networks: the caller's own modules that the run was trained with.
        batch_size: images per batch in the methods of the result.
    Raises:
        UsageError: no run in the folder, no such checkpoint or seed, other data or networks.
        WorkdirError, CheckpointError: the folder is in use, is damaged or was edited.
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
    load_data = run.load_data

    def load_and_check():
        loaded = load_data()
        runs.check_digest(settings, loaded, config, folder)
        return loaded

    run = dataclasses.replace(run, load_data=load_and_check)
    if known is None:
        load_and_check()
    with Workdir.open(folder) as locked:
        runs.check_folder(run, locked)
        step, states, _ = runs.restore(run, locked, best=checkpoint == "best")
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
    """Trains a model with the settings of a recipe, and returns it.

    `jaxae.train("vae", "digits", steps=500, latent=8)` is `jaxae --model vae --recipe digits
    --steps 500 --latent 8` without the final evaluation; for a run with a folder, `jaxae evaluate
    --workdir` does that.

    Args:
        model: its name, see `jaxae --list`.
        recipe: its name; None: the model's first one.
        data: None: the recipe's data set; the name of another one; a `jaxae.data.Data`; or arrays:
            `train_images`, a tuple of up to `train_images, train_labels, test_images, test_labels`,
            or a dict of arguments of `jaxae.data.from_arrays`. As with the flag --data, a recipe's
            options (`binarise`, ...) are reset to their defaults for another data set.
        workdir: the run's folder; a run in it is continued, or lengthened if `steps` is larger, as
            with the command. None: everything stays in memory.
        networks: the caller's own flax modules by network name, see `nets.replace_networks`; the
            folder records their `repr`.
        callbacks: called with each logged record, see `jaxae.training.fit`.
        quiet: show no progress.
        data_dir: a folder of data sets, see `jaxae.data.load`.
        changes: fields of the model's `Config`, of `Plan`, `Options` or `Report` that differ from
            the recipe: the flags of the command.
    Returns:
        the trained model of the first seed; `states` has the states of all seeds.
    Raises:
        UsageError: an unknown name, or arguments that do not fit together.
        DataError, DeviceError, WorkdirError: see `jaxae.training.fit`.
        NonFiniteLoss: a loss is NaN or infinite.
        Stopped: SIGTERM or Ctrl-C; the state is kept in `workdir`.
    """
    settings, given = recipes.get(model, recipe), None
    if isinstance(data, Data):
        options = [name for name in changes if owners(model).get(name) == "Options"]
        if options:
            raise UsageError(f"{options[0]}: the options of a Data are its own; give it there")
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
    """The name, in config.json, of data that was given from Python."""
    return runs.ARRAYS if data.name == runs.ARRAYS else f"{runs.ARRAYS}:{data.name}"


def _data(data: Any, options: Options, data_dir: Any = None) -> Data:
    """The data set of a caller's `data` argument: a name, arrays or a `Data`.

    Raises:
        UsageError: `data` has none of the types that `train` takes.
        DataError: the arrays do not fit.
    """
    if isinstance(data, Data):
        return data
    if isinstance(data, str):
        return load_named(data, options, data_dir)
    if isinstance(data, dict):
        allowed = inspect.signature(from_arrays).parameters.keys() - {"options", "name"}
        if unknown := [key for key in data if key not in allowed]:
            raise UsageError(f"data has the key {unknown[0]!r}, which is none of {sorted(allowed)}")
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
