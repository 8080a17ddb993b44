"""A run: its data and model, its folder, its training."""

import dataclasses
import functools
import pathlib
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import jax

from jaxae import evaluation
from jaxae.command import spec as specs
from jaxae.command.flags import say
from jaxae.data import Data
from jaxae.data import load as load_named
from jaxae.fields import field_types
from jaxae.models import MODELS
from jaxae.settings import Settings, UsageError
from jaxae.training import Fitted, Model, State, Workdir, fit
from jaxae.training.checkpoint import Checkpoints
from jaxae.training.memory import check_memory
from jaxae.training.parallel import Engine, Mode, choose
from jaxae.training.workdir import WorkdirError, digest, read_config

# Choices of a model that know pixels in [0, 1] only.
OF_UNIT_PIXELS = {"likelihood": "bernoulli", "loss": "bce", "output": "sigmoid"}
EVALUATION_KEY = 2**31 - 1  # apart from every training seed
# Of config.json, what may change while a run stays the same one.
FREE = ("report", "plan.steps")
ARRAYS = "arrays"  # the data set's name, or its beginning, where images were given from Python


@dataclasses.dataclass(frozen=True)
class Run:
    """A run in memory: its settings, its model, and its data, which is loaded when it is needed."""

    name: str
    """of the model"""
    settings: Settings
    model: Model
    known: specs.Known
    """what the model knows of the data"""
    load_data: Callable[[], Data]
    networks: Mapping[str, Any] | None = None
    """modules of the caller's own by network name"""

    @functools.cached_property
    def data(self) -> Data:
        """The data set."""
        return self.load_data()

    def identity(self) -> dict:
        """What decides the outcome of training, as config.json holds it (`Settings.identity`)."""
        networks = {"networks": describe_networks(self.networks)} if self.networks else {}
        return self.settings.identity(self.name) | networks


def build(
    name: str,
    settings: Settings,
    data_dir: str | None = None,
    *,
    data: Data | None = None,
    known: specs.Known | None = None,
    networks: Mapping[str, Any] | None = None,
) -> Run:
    """Makes the model, for the data that the settings name.

    Args:
        name: of the model.
        settings: what the run is.
        data_dir: a folder of data sets, see `jaxae.data.load`.
        data: the data set itself, where it has no name.
        known: what is known of the data already; it is then loaded when it is first needed.
        networks: modules of the caller's own by network name.
    Raises:
        DataError: the data is unknown, missing or broken.
        UsageError: the model cannot take this data, this configuration, these networks or this
            plan.
    """
    if settings.options.labels and getattr(settings.model, "reads_every_label", False):
        raise UsageError(
            f"labels={settings.options.labels}: task={settings.model.task} reads the label of "
            "every image; leave labels at 0"
        )
    if settings.options.standardise:
        for field, value in OF_UNIT_PIXELS.items():
            if getattr(settings.model, field, None) == value:
                raise UsageError(
                    f"standardise: {field}={value} is of pixels in [0, 1], which standardised ones "
                    f"are not; leave standardise off, or choose another {field}"
                )
    make = MODELS[name].make
    load_data = lambda: _load_data(settings, data_dir) if data is None else data
    if known is None:
        data = load_data()
        known = specs.known(data)
    try:
        own = {"networks": networks} if networks else {}
        model = make(settings.model, known.spec, **own)
        jax.eval_shape(model.init, jax.random.key(0))  # networks refuse a shape only here
        settings.plan.check(model, settings.options.labels_batch)
    except ValueError as error:
        raise UsageError(f"model {name} on {settings.data}: {error}") from error
    return Run(name, settings, model, known, load_data, networks)


def _load_data(settings: Settings, data_dir: str | None) -> Data:
    if settings.data.partition(":")[0] == ARRAYS:
        raise UsageError(
            f"{settings.data}: these images were given from Python and have no name by which they "
            "could be loaded; give the same again as data= of jaxae.train or jaxae.load"
        )
    return load_named(settings.data, settings.options, data_dir)


def describe_networks(networks: Mapping[str, Any]) -> dict[str, str]:
    """What config.json holds of the caller's own modules: their `repr`, without addresses."""
    return {name: re.sub(r" at 0x[0-9a-fA-F]+", "", repr(m)) for name, m in networks.items()}


def check_bits(settings: Settings, data: Data) -> None:
    """Looks whether a Bernoulli likelihood has bits, where the model offers others for pixels.

    Of grey levels, which it takes for probabilities, a line on stderr says what its numbers are.

    Raises:
        UsageError: the images have colours.
    """
    choices = get_args(field_types(type(settings.model)).get("likelihood"))
    if "logistic_mixture" not in choices or settings.model.likelihood != "bernoulli":
        return
    if data.spec.levels == 2:
        return
    instead = " or ".join(choice for choice in choices if choice != "bernoulli")
    remedies = f"take --likelihood {instead}; or --binarise dynamic, which makes bits of them"
    if data.spec.image_shape[-1] > 1:
        raise UsageError(
            f"likelihood=bernoulli is of bits, and the images of {settings.data} have colours: "
            + remedies
        )
    say(
        f"note: likelihood=bernoulli takes the pixels of {settings.data} for probabilities, so its "
        f"nats are no likelihood of the images: {remedies}"
    )


def check_plan(run: Run) -> None:
    """Looks before the first step whether data, devices and memory are enough for the plan.

    Raises:
        UsageError: see `check_bits`.
        DeviceError, DataError: the plan fits neither devices nor data.
    """
    plan = run.settings.plan
    check_bits(run.settings, run.data)
    run.data.train.batch_indices(plan.seed, 0, plan.batch_size)
    choose(plan, convolves=False)
    check_memory(run.model, run.data.train, plan)


def claim(run: Run, workdir: Workdir, lengthened: bool = False) -> None:
    """Makes the folder this run's own; before its first step is saved it may change its settings.

    Args:
        lengthened: the plan may have other steps than the folder's, as `lengthen` allows.
    Raises:
        WorkdirError: the folder holds checkpoints of other settings, or as many steps are done.
        UsageError: it holds checkpoints of other data, or see `check_bits`.
        DeviceError, DataError: the plan fits neither devices nor data, found before it is written.
    """
    check_plan(run)
    if all(path.name == "0" for path in (workdir.path / "checkpoints").iterdir()):
        (workdir.path / "config.json").unlink(missing_ok=True)
        if (workdir.path / "checkpoints" / "0").exists():  # the settings make it anew
            shutil.rmtree(workdir.path / "checkpoints" / "0")
    if not (workdir.path / "config.json").exists():
        specs.write_mean(workdir.path, run.known.spec)
    workdir.claim_config(
        run.identity(),
        {
            "report": dataclasses.asdict(run.settings.report),
            "digest": run.data.digest,
            "spec": specs.as_json(run.known),
        },
        late=("plan.eval_batch", "options.validation"),
        free=("plan.steps",) if lengthened else (),
    )
    check_data(run, workdir)
    if lengthened:
        lengthen(run, workdir)


def lengthen(run: Run, workdir: Workdir) -> None:
    """Gives the folder's run as many steps as the plan asks for, if those are others.

    No step depends on how many follow it: what falls or grows in the course of training has a
    length of its own (`decay_steps`, `warmup_steps`, ...), which stays. Where a rate has reached
    its end by then, a line says so.

    Raises:
        WorkdirError: as many steps are done already, or an earlier version left a run whose last
            refresh cannot be made up for.
    """
    there = read_config(workdir.path).get("plan", {}).get("steps")
    plan, asked = run.settings.plan, run.settings.plan.steps
    if asked == there:
        return
    with Checkpoints(workdir.path / "checkpoints") as checkpoints:
        done = max(checkpoints.steps(), default=0)
        owed = "refresh_owed" in checkpoints.meta(done) if done else True
    if asked <= done:
        raise WorkdirError(
            f"steps={asked}: the run in {workdir.path} has done {done} of {there} steps; ask for "
            f"more than {done}, or choose another --workdir"
        )
    if not owed and plan.refresh_every and done % plan.refresh_every == 0:
        raise WorkdirError(
            f"steps={asked}: an earlier version ended the run in {workdir.path} at step {done} "
            "without the refresh that a longer run has there; choose another --workdir"
        )
    for name, end in dataclasses.asdict(run.settings.model).items():
        if name.endswith("decay_steps") and 0 < end < asked:
            say(f"note: {name}={end}, a setting of its own, stays: later steps have the last rate")
    workdir.change_config("plan.steps", asked)


def check_data(run: Run, workdir: Workdir) -> None:
    """Compares the folder with what its run began with.

    Raises:
        UsageError: the data is no longer the same; see `check_folder`.
        WorkdirError: see `check_folder`.
    """
    config = check_folder(run, workdir)
    check_digest(run.settings, run.data, config, workdir.path)
    if "spec" in config:
        specs.write_mean(workdir.path, run.data.spec)


def check_digest(settings: Settings, data: Data, config: dict, folder: pathlib.Path) -> None:
    """Raises UsageError where the data is not that which the folder's run began with."""
    if config.get("digest") not in (None, data.digest):  # earlier versions have none
        raise UsageError(
            f"{settings.data} is no longer the data that {folder} began with: images or "
            "labels were added, removed or changed; put them back, or choose another --workdir"
        )


def check_folder(run: Run, workdir: Workdir) -> dict:
    """What config.json holds, compared with the networks and with the newest checkpoint.

    Raises:
        UsageError: the run has other networks of the caller's own.
        WorkdirError: config.json is not what the newest checkpoint was trained with.
    """
    config = read_config(workdir.path)
    there, given = config.get("networks", {}), describe_networks(run.networks or {})
    for name in sorted(there.keys() | given.keys()):
        if there.get(name) != given.get(name):
            raise UsageError(
                f"the run in {workdir.path} has as its network {name!r} "
                f"{there.get(name, 'that of the model')}, and not "
                f"{given.get(name, 'that of the model')}: give the same networks= to jaxae.load or "
                "jaxae.train (the command cannot take any)"
            )
    with Checkpoints(workdir.path / "checkpoints") as checkpoints:
        steps = checkpoints.steps()
        trained = checkpoints.meta(steps[-1]).get("settings") if steps else None
    if trained not in (None, digest(config, FREE)):
        raise WorkdirError(
            f"{workdir.path / 'config.json'} is not what step {steps[-1]} was trained with: it was "
            "edited or is another run's; put it back, or name --model and a new --workdir"
        )
    return config


def train(
    run: Run,
    workdir: Workdir | None,
    quiet: bool = False,
    callbacks: Sequence[Callable[[dict[str, Any]], None]] = (),
) -> Fitted:
    """Trains, or goes on training, in a claimed folder; without one, in memory."""
    model, data, plan = run.model, run.data, run.settings.plan
    rng = jax.random.key(EVALUATION_KEY)

    def held_out(state):
        means = evaluation.mean_over(
            model.evaluate, state, data.eval_split, plan.eval_batch, rng, plan.eval_examples,
            per_example=False,
        )  # fmt: skip
        return {k: v for k, v in means.items() if not k.endswith("_se")}

    of_folder = {}
    if workdir is not None:
        about = {"settings": digest(read_config(workdir.path), FREE)}
        of_folder = {"workdir": workdir.path, "guard": workdir.check, "about": about}
    return fit(
        model, data, plan, evaluate=held_out, quiet=quiet, callbacks=callbacks, **of_folder
    )  # fmt: skip


def restore(run: Run, workdir: Workdir, best: bool = False) -> tuple[int, list[State], dict]:
    """The step, the states, one per seed, and the meta of the newest (or best) intact checkpoint.

    The states are as evaluation reads them, see `Engine.to_evaluate`: for a model with `refresh`
    this reads the training images. The best has the lowest validation loss of those that were
    looked at when they were saved.

    Raises:
        UsageError: there is no such checkpoint, or no validation images by which one could be
            chosen: chosen by the test images, it would not be fit to be measured on them.
    """
    if best and not run.known.validation:
        raise UsageError(
            f"--checkpoint best: {run.settings.data} has no validation images, and by test images "
            "none is chosen. Train a new run with --validation N, which holds N training images "
            "out, or with a folder val/ beside train/ and test/; or take --checkpoint last"
        )
    plan = run.settings.plan
    with Checkpoints(workdir.path / "checkpoints") as checkpoints:
        if not any((workdir.path / "checkpoints").iterdir()):
            raise UsageError(f"{workdir.path} holds no checkpoint: train first")
        mode = Mode(**checkpoints.meta()["mode"] | {"parallel": "mesh", "devices": 1})
        one = jax.eval_shape(run.model.init, jax.random.key(plan.seed))
        template = [one] * plan.seeds
        if mode.seeds_by == "vmap":
            stacked = lambda x: jax.ShapeDtypeStruct((plan.seeds, *x.shape), x.dtype)
            template = jax.tree.map(stacked, one)
        found = (checkpoints.restore_best if best else checkpoints.restore)(template)
        if found is None and best and checkpoints.steps():
            raise UsageError(
                f"{workdir.path}: no saved step was looked at, so none is the best; take "
                "--checkpoint last, and in a new run a save_every that is a multiple of eval_every"
            )
        if found is None:
            raise UsageError(f"{workdir.path} holds no complete checkpoint: train first")
        step, states, meta = found
        if run.model.refresh is not None:
            engine = Engine(run.model, run.data.train, plan, mode)
            return step, engine.to_evaluate(states, step), meta
        if mode.seeds_by == "vmap":
            states = [jax.tree.map(lambda x: x[i], states) for i in range(plan.seeds)]
        return step, list(states), meta
