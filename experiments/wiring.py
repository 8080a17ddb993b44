"""From settings to a finished run folder: data, model, training, evaluation, figures, report."""

import contextlib
import dataclasses
import math
import os
import pathlib
import shutil
import time
from typing import Any, NamedTuple, get_args

import jax
import numpy as np
from settings import Settings, UsageError, say

from jaxae import evaluation
from jaxae.data import Data, load
from jaxae.fields import field_types
from jaxae.models import MODELS
from jaxae.training import Model, State, Workdir, fit
from jaxae.training.checkpoint import Checkpoints
from jaxae.training.divergence import Diverged, far_above_start
from jaxae.training.memory import check_memory
from jaxae.training.parallel import Engine, Mode, choose
from jaxae.training.records import MetricsFile
from jaxae.training.workdir import WorkdirError, digest, read_config

# Choices of a model that know pixels in [0, 1] only.
OF_UNIT_PIXELS = {"likelihood": "bernoulli", "loss": "bce", "output": "sigmoid"}
EVALUATION_KEY = 2**31 - 1  # apart from every training seed
# Of config.json, what may change while a run stays the same one.
FREE = ("report", "plan.steps")
SAMPLES = 250  # drawn at a time
MOST_SAMPLES = 1_000_000


class Run(NamedTuple):
    """What the settings name, made."""

    name: str
    settings: Settings
    data: Data
    model: Model


def build(name: str, settings: Settings, data_dir: str | None) -> Run:
    """Loads the data and makes the model.

    Raises:
        DataError: the data is unknown, missing or broken.
        UsageError: the model cannot take this data, this configuration or this plan.
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
    data = load(settings.data, settings.options, data_dir)
    try:
        model = MODELS[name].make(settings.model, data.spec)
        jax.eval_shape(model.init, jax.random.key(0))  # networks refuse a shape only here
        settings.plan.check(model, data.train.labels_batch)
    except ValueError as error:
        raise UsageError(f"model {name} on {settings.data}: {error}") from error
    return Run(name, settings, data, model)


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


def claim(run: Run, workdir: Workdir, lengthened: bool = False) -> None:
    """Makes the folder this run's own; before its first step is saved it may change its settings.

    Args:
        lengthened: the plan may have other steps than the folder's, as `lengthen` allows.
    Raises:
        WorkdirError: the folder holds checkpoints of other settings, or as many steps are done.
        UsageError: it holds checkpoints of other data, or see `check_bits`.
        DeviceError, DataError: the plan fits neither devices nor data, found before it is written.
    """
    plan = run.settings.plan
    check_bits(run.settings, run.data)
    run.data.train.order(plan.seed, 0, plan.batch_size)
    choose(plan, convolves=False)
    check_memory(run.model, run.data.train, plan)
    if all(path.name == "0" for path in (workdir.path / "checkpoints").iterdir()):
        (workdir.path / "config.json").unlink(missing_ok=True)
        if (workdir.path / "checkpoints" / "0").exists():  # the settings make it anew
            shutil.rmtree(workdir.path / "checkpoints" / "0")
    workdir.claim_config(
        run.settings.identity(run.name),
        {"report": dataclasses.asdict(run.settings.report), "digest": run.data.digest},
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
        UsageError: the data is no longer the same.
        WorkdirError: config.json is not what the newest checkpoint was trained with.
    """
    config = read_config(workdir.path)
    if config.get("digest") not in (None, run.data.digest):  # earlier versions have none
        raise UsageError(
            f"{run.settings.data} is no longer the data that {workdir.path} began with: images or "
            "labels were added, removed or changed; put them back, or choose another --workdir"
        )
    with Checkpoints(workdir.path / "checkpoints") as checkpoints:
        steps = checkpoints.steps()
        trained = checkpoints.meta(steps[-1]).get("settings") if steps else None
    if trained not in (None, digest(config, FREE)):
        raise WorkdirError(
            f"{workdir.path / 'config.json'} is not what step {steps[-1]} was trained with: it was "
            "edited or is another run's; put it back, or name --model and a new --workdir"
        )


def train(run: Run, workdir: Workdir, quiet: bool = False):
    """Trains, or goes on training, in a claimed folder."""
    model, data, plan = run.model, run.data, run.settings.plan
    rng = jax.random.key(EVALUATION_KEY)

    def held_out(state):
        seen = evaluation.mean_over(
            model.evaluate, state, data.watched, plan.eval_batch, rng, plan.eval_examples,
            apart=False,
        )  # fmt: skip
        return {k: v for k, v in seen.items() if not k.endswith("_se")}

    about = {"settings": digest(read_config(workdir.path), FREE)}
    return fit(
        model, data, plan, workdir.path, evaluate=held_out, quiet=quiet, guard=workdir.check,
        about=about,
    )  # fmt: skip


def restore(run: Run, workdir: Workdir, best: bool = False) -> tuple[int, list[State], dict]:
    """The step, the states, one per seed, and the meta of the newest (or best) intact checkpoint.

    The states are as evaluation reads them, see `Engine.to_evaluate`. The best has the lowest
    validation loss of those that were looked at when they were saved.

    Raises:
        UsageError: there is no such checkpoint, or no validation images by which one could be
            chosen: chosen by the test images, it would not be fit to be measured on them.
    """
    if best and run.data.validation is None:
        raise UsageError(
            f"--checkpoint best: {run.settings.data} has no validation images, and by test images "
            "none is chosen. Train a new run with --validation N, which holds N training images "
            "out, or with a folder val/ beside train/ and test/; or take --checkpoint last"
        )
    with Checkpoints(workdir.path / "checkpoints") as checkpoints:
        if not any((workdir.path / "checkpoints").iterdir()):
            raise UsageError(f"{workdir.path} holds no checkpoint: train first")
        mode = Mode(**checkpoints.meta()["mode"] | {"parallel": "mesh", "devices": 1})
        engine = Engine(run.model, run.data.train, run.settings.plan, mode)
        template = jax.eval_shape(engine.init)
        found = (checkpoints.restore_best if best else checkpoints.restore)(template)
        if found is None and best and checkpoints.steps():
            raise UsageError(
                f"{workdir.path}: no saved step was looked at, so none is the best; take "
                "--checkpoint last, and in a new run a save_every that is a multiple of eval_every"
            )
        if found is None:
            raise UsageError(f"{workdir.path} holds no complete checkpoint: train first")
        step, states, meta = found
        return step, engine.to_evaluate(states, step), meta


def assess(run: Run, states: list[State]) -> dict[str, Any]:
    """The final numbers over all seeds, by the model's own capabilities."""
    report, results = run.settings.report, []
    for i, state in enumerate(states):
        untrained = jax.jit(run.model.init)(jax.random.key(run.settings.plan.seed + i))
        results.append(
            evaluation.assess_run(
                run.model,
                state,
                untrained,
                run.data,
                rng=jax.random.key(EVALUATION_KEY),
                batch_size=report.report_batch,
                iwae_samples=report.iwae_samples,
                probe_train_limit=report.probe_examples,
                limit=report.test_examples or None,
                apart=False,
                probe_data=run.data.unbinarised,
                images=report.images,
            )
        )
    return evaluation.combine_seeds(results)


def advice(run: Run, numbers: dict[str, Any]) -> list[str]:
    """What the model says of its numbers that calls for action, seed by seed.

    Args:
        numbers: from `assess`.
    """
    if run.model.advise is None:
        return []
    lines, plan = [], run.settings.plan
    for i in range(plan.seeds):
        found = {name: part["values"][i] for name, part in numbers["whole_set"].items()}
        of_seed = f"seed {plan.seed + i}: " if plan.seeds > 1 else ""
        lines += [of_seed + line for line in run.model.advise(found)]
    return lines


def write_samples(run: Run, state: State, folder: pathlib.Path, n: int) -> int:
    """Writes n samples of the first seed's state as numbered PNGs, `SAMPLES` at a time.

    Raises:
        UsageError: the model cannot sample, or n is too small, too large, or more than fits on the
            disk (by the size of the pixels: a PNG seldom takes more).
    """
    from PIL import Image

    if run.model.sample is None:
        raise UsageError(f"{run.name} cannot sample")
    if not 1 <= n <= MOST_SAMPLES:
        raise UsageError(f"--n {n}: must be at least 1 and at most {MOST_SAMPLES:,}")
    folder.mkdir(parents=True, exist_ok=True)
    block = os.statvfs(folder).f_frsize if hasattr(os, "statvfs") else 4096
    needed = n * -(-math.prod(run.data.spec.image_shape) // block) * block
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UsageError(
            f"--n {n}: about {needed / 2**20:,.0f} MiB of pictures, and {folder} has room for "
            f"{free / 2**20:,.0f} MiB: ask for fewer, or choose another --out"
        )
    low, high = evaluation.value_range(evaluation.pixels_of(run.data.test, 500, 500))
    draw = jax.jit(run.model.sample, static_argnums=2)
    digits, key = max(5, len(str(n - 1))), jax.random.key(EVALUATION_KEY)
    for first in range(0, n, SAMPLES):
        images = np.asarray(draw(state, jax.random.fold_in(key, first), min(n, SAMPLES)))
        if not np.isfinite(images).all():
            raise Diverged("the samples hold NaN or infinity: the run has diverged")
        pixels = np.uint8(np.round(np.clip((images - low) / (high - low), 0, 1) * 255))
        for i, image in enumerate(pixels[: n - first], first):
            Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(
                folder / f"{i:0{digits}d}.png"
            )
    print(f"{n} samples of seed {run.settings.plan.seed} in {folder}")
    return 0


def write_codes(run: Run, state: State, file: pathlib.Path) -> int:
    """Writes a .npz file: the first seed's codes of every split, labels, and names of classes."""
    if run.model.encode is None:
        raise UsageError(f"{run.name} has no code")
    arrays, batch = {}, run.settings.report.report_batch
    for name in ("train", "test", "validation"):
        if (split := getattr(run.data, name)) is None:
            continue
        with diverged_where_not_finite(run, [state]):
            codes, labels = evaluation.encode_split(
                run.model, state, split, batch, jax.random.key(EVALUATION_KEY)
            )
        arrays[name] = codes
        if labels is not None:
            arrays[f"{name}_labels"] = labels
            arrays["class_names"] = np.array(run.data.class_names)
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "wb") as stream:  # to a name, numpy would add .npz
        np.savez(stream, **arrays)
    shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    print(f"{shapes} of seed {run.settings.plan.seed} in {file}")
    return 0


def conclude(
    run: Run,
    workdir: Workdir,
    states: list[State],
    step: int,
    about: dict,
    first_loss: list[float] | None = None,
) -> dict:
    """Evaluates and draws; writes figures/, result.json and report.html.

    Args:
        about: what else result.json is to hold.
        first_loss: that of the very first step, one per seed.
    Returns:
        what result.json holds; its `diverged` says why, where the run has, and its `warnings` what
        else calls for action.
    Raises:
        Diverged: the state is finite and what it computes is not; result.json says so.
    """
    start, plan = time.monotonic(), run.settings.plan
    records = MetricsFile(workdir.path / "metrics.jsonl").read()
    splits = {name: getattr(run.data, name) for name in ("train", "validation", "test")}
    result = {
        "model": run.name,
        "data": run.settings.data,
        "step": step,
        "images": {name: split.size for name, split in splits.items() if split is not None},
        "looked_at": "test" if run.data.validation is None else "validation",
        "seeds": [plan.seed + i for i in range(plan.seeds)],
        "diverged": far_above_start(first_loss, [r for r in records if r["step"] <= step]),
        "warnings": [],
        "results": {},
        "report": dataclasses.asdict(run.settings.report),
        "parameters": int(sum(np.size(x) for x in jax.tree.leaves(states[0].params))),
        "figures": [],
    } | about
    environment = {"environment": evaluation.environment()}
    try:
        with diverged_where_not_finite(run, states):
            result["results"] = assess(run, states)
            loss = result["results"]["test"][run.model.result_names.get("loss", "loss")]
            if not np.all(np.isfinite(loss["values"])):
                raise Diverged("the loss on the test images is NaN or infinite")
            figures = evaluation.draw_all(
                run.model,
                states[0],
                run.data.unbinarised,
                records,
                workdir.path / "figures",
                jax.random.key(EVALUATION_KEY),
            )
    except Diverged as error:
        result["diverged"] = f"the final evaluation is not finite ({error})"
        workdir.write_json("result.json", result | environment)
        raise Diverged(
            f"step {step}: {result['diverged']}: the run has diverged. A lower learning rate is "
            f"the usual remedy; {workdir.path / 'result.json'} says so too"
        ) from error
    result["warnings"] = warnings = advice(run, result["results"])
    result["figures"] = [str(pathlib.Path(f).relative_to(workdir.path)) for f in figures]
    result |= {"seconds_evaluating": time.monotonic() - start} | environment
    workdir.write_json("result.json", result)
    evaluation.write_html(
        workdir.path / "report.html",
        f"{run.name} on {run.settings.data}, step {step}"
        + (", the best on validation images" if about.get("checkpoint") == "best" else ""),
        run.settings.identity(run.name),
        result["results"] | ({"warnings": warnings} if warnings else {}),
        [pathlib.Path(f) for f in figures],
        result["environment"],
    )
    return result


@contextlib.contextmanager
def diverged_where_not_finite(run: Run, states: list[State]):
    """Turns an evaluation's error into `Diverged` where the models compute what is not finite."""
    try:
        yield
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
        if isinstance(error, Diverged) or not _beyond_numbers(run, states):
            raise
        lines = str(error).strip().splitlines()
        raise Diverged(lines[0] if lines else type(error).__name__) from error


def _beyond_numbers(run: Run, states: list[State]) -> bool:
    """Whether what the models compute of some test images is not finite, or its square is not."""
    model = run.model
    batch, mask = next(run.data.test.examples(min(100, run.data.test.size)))
    key = lambda: jax.random.key(EVALUATION_KEY)  # each is used once

    def computed(state):
        x = batch["image"]
        yield model.evaluate(state, batch, key())
        z = model.encode(state, x, key()) if model.encode else None
        yield z
        if z is not None and model.decode:
            yield model.decode(state, z, key())
        if model.predict:
            yield model.predict(state, x, key())
        if model.sample:
            yield model.sample(state, key(), len(mask))

    return not all(
        np.all(np.isfinite(np.square(np.asarray(x, np.float32))))
        for state in states
        for x in jax.tree.leaves(list(computed(state)))
    )
