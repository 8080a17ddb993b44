"""A run: its data, model, folder and training."""

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

# Choices of a model that require pixels in [0, 1].
OF_UNIT_PIXELS = {"likelihood": "bernoulli", "loss": "bce", "output": "sigmoid"}
EVALUATION_KEY = 2**31 - 1  # different from all training seeds
# Entries of config.json that may change during a run.
FREE = ("report", "plan.steps")
ARRAYS = "arrays"  # name of a data set given as arrays from Python, or the prefix of its name


@dataclasses.dataclass(frozen=True)
class Run:
    """A run in memory: its settings, its model, and its data, which is loaded on first use."""

    name: str
    """of the model"""
    settings: Settings
    model: Model
    known: specs.Known
    """properties of the data that the model depends on"""
    load_data: Callable[[], Data]
    networks: Mapping[str, Any] | None = None
    """the caller's own modules by network name"""

    @functools.cached_property
    def data(self) -> Data:
        """The data set."""
        return self.load_data()

    def identity(self) -> dict:
        """What determines the result of training, as in config.json (`Settings.identity`)."""
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
    """Builds the model for the data that the settings name.

    Args:
        name: of the model.
        settings: of the run.
        data_dir: a folder of data sets, see `jaxae.data.load`.
        data: the data set itself, if it has no name.
        known: the properties of the data, if known already; the data is then loaded on first use.
        networks: the caller's own modules by network name.
    Raises:
        DataError: the data is unknown, missing or broken.
        UsageError: the model does not fit this data, configuration, networks or plan.
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
        jax.eval_shape(model.init, jax.random.key(0))  # networks check shapes only here
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
    """The entry of config.json for the caller's own modules: their `repr`, without addresses."""
    return {name: re.sub(r" at 0x[0-9a-fA-F]+", "", repr(m)) for name, m in networks.items()}


def check_bits(settings: Settings, data: Data) -> None:
    """Checks that a Bernoulli likelihood is used on binary images.

    Applies to models that have other likelihoods too. For grey levels, which are then taken as
    probabilities, prints a note to stderr.

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
    """Checks before the first step that data, devices and memory are sufficient for the plan.

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
    """Assigns the folder to this run; until a step is saved, the run's settings may be changed.

    Args:
        lengthened: the plan may have another number of steps than the folder's, see `lengthen`.
    Raises:
        WorkdirError: the folder holds checkpoints of other settings, or that many steps are done.
        UsageError: it holds checkpoints of other data, or see `check_bits`.
        DeviceError, DataError: the plan does not fit devices or data; nothing is written.
    """
    check_plan(run)
    if all(path.name == "0" for path in (workdir.path / "checkpoints").iterdir()):
        (workdir.path / "config.json").unlink(missing_ok=True)
        if (workdir.path / "checkpoints" / "0").exists():  # written again with the new settings
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
    """Changes the number of steps of the folder's run to that of the plan.

    No step depends on the number of steps after it: schedules have lengths of their own
    (`decay_steps`, `warmup_steps`, ...), which do not change. If a learning-rate schedule ends
    before the new last step, a line on stderr says so.

    Raises:
        WorkdirError: that many steps are done already, or an earlier version ended the run without
            a refresh that a longer run needs.
    """
    old_steps = read_config(workdir.path).get("plan", {}).get("steps")
    plan, new_steps = run.settings.plan, run.settings.plan.steps
    if new_steps == old_steps:
        return
    with Checkpoints(workdir.path / "checkpoints") as checkpoints:
        done = max(checkpoints.steps(), default=0)
        refresh_recorded = "refresh_owed" in checkpoints.meta(done) if done else True
    if new_steps <= done:
        raise WorkdirError(
            f"steps={new_steps}: the run in {workdir.path} has done {done} of {old_steps} steps; "
            f"ask for more than {done}, or choose another --workdir"
        )
    if not refresh_recorded and plan.refresh_every and done % plan.refresh_every == 0:
        raise WorkdirError(
            f"steps={new_steps}: an earlier version ended the run in {workdir.path} at step {done} "
            "without the refresh that a longer run has there; choose another --workdir"
        )
    for name, end in dataclasses.asdict(run.settings.model).items():
        if name.endswith("decay_steps") and 0 < end < new_steps:
            say(f"note: {name}={end}, a setting of its own, stays: later steps have the last rate")
    workdir.change_config("plan.steps", new_steps)


def check_data(run: Run, workdir: Workdir) -> None:
    """Checks that data, networks and settings are those that the folder's run began with.

    Raises:
        UsageError: the data is no longer the same; see `check_folder`.
        WorkdirError: see `check_folder`.
    """
    config = check_folder(run, workdir)
    check_digest(run.settings, run.data, config, workdir.path)
    if "spec" in config:
        specs.write_mean(workdir.path, run.data.spec)


def check_digest(settings: Settings, data: Data, config: dict, folder: pathlib.Path) -> None:
    """Raises UsageError if the data is not the data that the folder's run began with."""
    if config.get("digest") not in (None, data.digest):  # missing in earlier versions
        raise UsageError(
            f"{settings.data} is no longer the data that {folder} began with: images or "
            "labels were added, removed or changed; put them back, or choose another --workdir"
        )


def check_folder(run: Run, workdir: Workdir) -> dict:
    """The content of config.json, checked against the networks and the newest checkpoint.

    Raises:
        UsageError: the folder's run has other networks.
        WorkdirError: config.json differs from the settings of the newest checkpoint.
    """
    config = read_config(workdir.path)
    stored, given = config.get("networks", {}), describe_networks(run.networks or {})
    for name in sorted(stored.keys() | given.keys()):
        if stored.get(name) != given.get(name):
            raise UsageError(
                f"the run in {workdir.path} has as its network {name!r} "
                f"{stored.get(name, 'that of the model')}, and not "
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
    """Trains, or continues training, in a claimed folder; without a folder, in memory."""
    model, data, plan = run.model, run.data, run.settings.plan
    rng = jax.random.key(EVALUATION_KEY)

    def held_out(state):
        means = evaluation.mean_over(
            model.evaluate, state, data.eval_split, plan.eval_batch, rng, plan.eval_examples,
            per_example=False,
        )  # fmt: skip
        return {k: v for k, v in means.items() if not k.endswith("_se")}

    folder_arguments = {}
    if workdir is not None:
        about = {"settings": digest(read_config(workdir.path), FREE)}
        folder_arguments = {"workdir": workdir.path, "guard": workdir.check, "about": about}
    return fit(
        model, data, plan, evaluate=held_out, quiet=quiet, callbacks=callbacks,
        **folder_arguments,
    )  # fmt: skip


def restore(run: Run, workdir: Workdir, best: bool = False) -> tuple[int, list[State], dict]:
    """Step, states (one per seed) and metadata of the newest (or best) intact checkpoint.

    The states are prepared for evaluation, see `Engine.to_evaluate`: for a model with `refresh`
    this reads the training images. The best checkpoint has the lowest validation loss of those
    that were evaluated when they were saved.

    Raises:
        UsageError: there is no such checkpoint, or the best is wanted and there are no validation
            images (test images must not be used for the choice).
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
        restored = (checkpoints.restore_best if best else checkpoints.restore)(template)
        if restored is None and best and checkpoints.steps():
            raise UsageError(
                f"{workdir.path}: no saved step was looked at, so none is the best; take "
                "--checkpoint last, and in a new run a save_every that is a multiple of eval_every"
            )
        if restored is None:
            raise UsageError(f"{workdir.path} holds no complete checkpoint: train first")
        step, states, meta = restored
        if run.model.refresh is not None:
            engine = Engine(run.model, run.data.train, plan, mode)
            return step, engine.to_evaluate(states, step), meta
        if mode.seeds_by == "vmap":
            states = [jax.tree.map(lambda x: x[i], states) for i in range(plan.seeds)]
        return step, list(states), meta
