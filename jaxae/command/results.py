"""From the states of a run to numbers, figures, `result.json` and a page."""

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
                per_example=False,
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
