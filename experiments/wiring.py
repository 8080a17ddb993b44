"""From settings to a finished run folder: data, model, training, evaluation, figures, report."""

import dataclasses
import pathlib
import sys
import time
from typing import Any, NamedTuple, get_args

import jax
import numpy as np
from settings import Settings, UsageError

from jaxae import evaluation
from jaxae.data import Data, load
from jaxae.fields import field_types
from jaxae.models import MODELS
from jaxae.training import Model, State, Workdir, fit
from jaxae.training.checkpoint import Checkpoints
from jaxae.training.parallel import Engine, Mode, choose
from jaxae.training.workdir import MetricsFile

EVALUATION_KEY = 2**31 - 1  # apart from every training seed


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
    print(
        f"note: likelihood=bernoulli takes the pixels of {settings.data} for probabilities, so its "
        f"nats are no likelihood of the images: {remedies}",
        file=sys.stderr,
    )


def claim(run: Run, workdir: Workdir) -> None:
    """Makes the folder this run's own; a folder without any checkpoint may change its settings.

    Raises:
        WorkdirError: the folder holds checkpoints of other settings.
        UsageError: it holds checkpoints of other data, or see `check_bits`.
        DeviceError, DataError: the plan fits neither devices nor data, found before it is written.
    """
    plan = run.settings.plan
    check_bits(run.settings, run.data)
    run.data.train.order(plan.seed, 0, plan.batch_size)
    choose(plan, convolves=False)
    if not any((workdir.path / "checkpoints").iterdir()):
        (workdir.path / "config.json").unlink(missing_ok=True)
    workdir.claim_config(
        run.settings.identity(run.name),
        {"report": dataclasses.asdict(run.settings.report), "digest": run.data.digest},
        late=("plan.eval_batch", "options.validation"),
    )
    check_data(run, workdir)


def check_data(run: Run, workdir: Workdir) -> None:
    """Raises UsageError where the data is no longer what the folder's run began with."""
    began = workdir.read_json("config.json").get("digest")
    if began not in (None, run.data.digest):  # folders of earlier versions have none
        raise UsageError(
            f"{run.settings.data} is no longer the data that {workdir.path} began with: images or "
            "labels were added, removed or changed; put them back, or choose another --workdir"
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

    return fit(model, data, plan, workdir.path, evaluate=held_out, quiet=quiet)


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


def write_samples(run: Run, state: State, folder: pathlib.Path, n: int) -> int:
    """Writes n samples of the first seed's state as numbered PNGs."""
    from PIL import Image

    if run.model.sample is None:
        raise UsageError(f"{run.name} cannot sample")
    if n < 1:
        raise UsageError(f"--n {n}: must be at least 1")
    draw = jax.jit(run.model.sample, static_argnums=2)
    images = np.asarray(draw(state, jax.random.key(EVALUATION_KEY), n))
    low, high = evaluation.value_range(evaluation.pixels_of(run.data.test, 500, 500))
    pixels = np.uint8(np.round(np.clip((images - low) / (high - low), 0, 1) * 255))
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(pixels):
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(
            folder / f"{i:05d}.png"
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


def conclude(run: Run, workdir: Workdir, states: list[State], step: int, about: dict) -> dict:
    """Evaluates and draws; writes figures/, result.json and report.html.

    Returns:
        what result.json holds.
    """
    start = time.monotonic()
    numbers = assess(run, states)
    records = MetricsFile(workdir.path / "metrics.jsonl").read()
    figures = evaluation.draw_all(
        run.model,
        states[0],
        run.data.unbinarised,
        records,
        workdir.path / "figures",
        jax.random.key(EVALUATION_KEY),
    )
    plan, data = run.settings.plan, run.data
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    result = {
        "model": run.name,
        "data": run.settings.data,
        "step": step,
        "images": {name: split.size for name, split in splits.items() if split is not None},
        "looked_at": "test" if data.validation is None else "validation",
        "seeds": [plan.seed + i for i in range(plan.seeds)],
        "results": numbers,
        "report": dataclasses.asdict(run.settings.report),
        "parameters": int(sum(np.size(x) for x in jax.tree.leaves(states[0].params))),
        "figures": [str(pathlib.Path(f).relative_to(workdir.path)) for f in figures],
        "seconds_evaluating": time.monotonic() - start,
        "environment": evaluation.environment(),
    } | about
    workdir.write_json("result.json", result)
    evaluation.write_html(
        workdir.path / "report.html",
        f"{run.name} on {run.settings.data}, step {step}"
        + (", the best on validation images" if about.get("checkpoint") == "best" else ""),
        run.settings.identity(run.name),
        numbers,
        [pathlib.Path(f) for f in figures],
        result["environment"],
    )
    return result
