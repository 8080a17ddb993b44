"""Evaluates a run: numbers, figures, `result.json` and an HTML page."""

import contextlib
import dataclasses
import pathlib
import time
from typing import Any

import jax
import numpy as np

from jaxae import evaluation
from jaxae.command.run import EVALUATION_KEY, Run
from jaxae.training import State, Workdir
from jaxae.training.divergence import Diverged, find_divergence
from jaxae.training.records import MetricsFile


def assess(run: Run, states: list[State]) -> dict[str, Any]:
    """The final numbers over all seeds; which ones depends on the capabilities of the model."""
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
                per_example=False,
                probe_data=run.data.unbinarised,
                images=report.images,
            )
        )
    return evaluation.combine_seeds(results)


def advice(run: Run, numbers: dict[str, Any]) -> list[str]:
    """Warnings of the model about its numbers, for each seed.

    Args:
        numbers: from `assess`.
    """
    if run.model.advise is None:
        return []
    lines, plan = [], run.settings.plan
    for i in range(plan.seeds):
        of_seed = {name: part["values"][i] for name, part in numbers["whole_set"].items()}
        prefix = f"seed {plan.seed + i}: " if plan.seeds > 1 else ""
        lines += [prefix + line for line in run.model.advise(of_seed)]
    return lines


def conclude(
    run: Run,
    workdir: Workdir,
    states: list[State],
    step: int,
    about: dict,
    first_loss: list[float] | None = None,
) -> dict:
    """Evaluates the run; writes figures/, result.json and report.html.

    Args:
        about: further entries of result.json.
        first_loss: the loss of the first training step, one per seed.
    Returns:
        the content of result.json; `diverged` is the reason if the run has diverged, `warnings`
        lists other problems.
    Raises:
        Diverged: the outputs of the model are not finite; result.json says so.
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
        "diverged": find_divergence(first_loss, [r for r in records if r["step"] <= step]),
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
    """Turns an error of the evaluation into `Diverged` if outputs of the models are not finite."""
    try:
        yield
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
        if isinstance(error, Diverged) or not _has_non_finite_outputs(run, states):
            raise
        lines = str(error).strip().splitlines()
        raise Diverged(lines[0] if lines else type(error).__name__) from error


def _has_non_finite_outputs(run: Run, states: list[State]) -> bool:
    """Whether outputs of the models for some test images, or their squares, are not finite."""
    model = run.model
    batch, mask = next(run.data.test.examples(min(100, run.data.test.size)))
    key = lambda: jax.random.key(EVALUATION_KEY)  # a new key for each use

    def outputs(state):
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
        for x in jax.tree.leaves(list(outputs(state)))
    )
