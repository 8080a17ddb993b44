"""All models under one protocol: `python experiments/benchmark.py --data mnist --data-dir DIR`.

The same data, batches of 100, as many steps, encoder and decoder of the same widths and codes of
the same size where a paper allows it (exceptions stand in the table), Adam at 1e-3 falling along a
cosine where a paper does not ask for another rate. Every model is trained by several seeds, at
once in one program or apart (--seeds-by; else whichever a short measurement finds faster), and
evaluated by `assess_run`, which knows the contract of a model and no model by name.

A cell, one model, is kept in runs/cells by a hash of its settings and of the code that it depends
on: an interrupted benchmark goes on where it stopped, and a change of one model leaves the others.
Writes experiments/results/benchmark_DATA.{md,csv,png}; with other --seeds, --steps or --only it
prints the table and writes nothing.
"""

import argparse
import csv
import dataclasses
import math
import pathlib
import sys
import time
from typing import Any

import jax
import numpy as np
from cells import FOLDER, cell, hardware, reported
from pipe_table import pipe_table

from jaxae import evaluation
from jaxae.command.streams import leave
from jaxae.data import Options, load
from jaxae.models import MODELS
from jaxae.training import Plan, fit
from jaxae.training.parallel import Engine, Mode

RESULTS = pathlib.Path(__file__).resolve().parent / "results"
KEY = 2**31 - 1
BATCH, WIDTHS, LATENT, STEPS = 100, (256, 256), 16, 3000
SAME = {"latent": LATENT, "widths": WIDTHS}
BITS = {"binarise": "dynamic"}
NOISE = {"dequantise": True}  # for critics, which would tell 17 or 256 levels from a decoder's
# model -> fields beside `decay_steps` (some by the number of steps), options of the data, what
# differs from the common protocol.
ROWS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "ae": (SAME, {}, ""),
    "hashing": ({"bits": 32, "widths": WIDTHS}, {}, "32 bits"),
    "dae": (SAME, {}, "masks a quarter of the pixels"),
    "vae": (SAME, BITS, ""),
    "gan": (SAME | {"r1": 0.3, "critic_rate": 1e-3, "learning_rate": 5e-4}, NOISE,
            "no encoder; R1, its own rates"),
    "vaegan": (SAME | {"gamma": 0.1, "fakes": "prior", "gate": True, "learning_rate": 5e-4,
                       "dis_rate": 1e-4}, NOISE, "rates of its preset"),
    "aae": (SAME, {}, ""),
    "ali": (SAME | {"critic_rate": 1e-3, "learning_rate": 5e-4}, {},
            "BiGAN: batch norm, its own rates"),
    "vqvae": ({"codes": 64, "code_width": 16, "conv_width": 16, "conv_blocks": 1, "restart": 0.1,
               "prior_width": 16, "prior_layers": 2}, BITS, "convolutions; a map of codes"),
    "acn": (SAME | {"decoder": "mlp", "prior_widths": (256,)}, BITS, "independent pixels"),
    "iae": (SAME | {"local": 50, "local_start": lambda steps: steps // 2,
                    "local_warmup": lambda steps: steps // 3, "code_scale": 0.1, "r1": 1.0,
                    "learning_rate": 1e-3, "critic_rate": 2e-3}, NOISE,
            "50 numbers of noise, from half of the steps on"),
    "nvae": ({"groups": (1, 1), "latent": 4, "width": 8, "block_cells": 1}, BITS,
             "convolutions; two groups; a quarter of the steps"),
    "acai": ({"scales": 3, "side": 32, "depth": 8, "channels": 1, "gain": 2.0,
              "learning_rate": 1e-3, "critic_rate": 1e-3}, {},
             "convolutions at 32x32; half of the steps"),
    "alae": (SAME | {"r1": 1.0}, NOISE, ""),
}  # fmt: skip
SHORTER = {"nvae": 4, "acai": 2}
# column -> where in the result it stands, digits; {F} is the name of the feature network for grey
# images, with which means are compared, and {B} of the one for bits, with which draws are.
COLUMNS = {
    "MSE": ("reconstruction/mse", 4),
    "-ELBO": ("likelihood/elbo_nats", 1),
    "-IWAE": ("likelihood/iwae_nats", 1),
    "linear probe": ("probes/codes/linear_accuracy", 3),
    "kNN probe": ("probes/codes/knn_accuracy", 3),
    "k-means": ("clusters/accuracy", 3),
    "codes vs prior": ("codes_vs_prior/energy/statistic", 3),
    "Fréchet": ("fidelity/samples/Frechet distance ({F})", 1),
    "precision": ("fidelity/samples/precision ({F})", 3),
    "recall": ("fidelity/samples/recall ({F})", 3),
    "Fréchet, bits": ("fidelity/samples/Frechet distance ({B})", 1),
    "precision, bits": ("fidelity/samples/precision ({B})", 3),
    "recall, bits": ("fidelity/samples/recall ({B})", 3),
}
NEGATED = ("-ELBO", "-IWAE")


def fields_of(name: str, steps: int) -> dict[str, Any]:
    """A row's configuration; its rate falls over the whole run where it can."""
    given, kinds = ROWS[name][0], {f.name for f in dataclasses.fields(MODELS[name].Config)}
    fields = {key: value(steps) if callable(value) else value for key, value in given.items()}
    return fields | ({"decay_steps": steps} if "decay_steps" in kinds else {})


def quicker(model, data, plan: Plan) -> str:
    """vmap or sequence: which trains the seeds of a plan faster, by a few steps of each."""
    times = {}
    for by in ("vmap", "sequence"):
        engine = Engine(model, data.train, plan, Mode("mesh", 1, "calls", by))
        states, metrics = engine.run(engine.init(), 0, 4)  # compiles
        engine.fetch(metrics)
        start = time.perf_counter()
        _, metrics = engine.run(states, 4, 16)
        engine.fetch(metrics)
        times[by] = time.perf_counter() - start
    return min(times, key=times.get)


def settings_of(
    name: str, data: str, seeds: int, steps: int, seeds_by: str | None = None
) -> dict[str, Any]:
    """All that decides a row's numbers beside the code."""
    steps = steps // SHORTER.get(name, 1)
    settings = {"model": name, "data": data, "fields": fields_of(name, steps),
                "options": ROWS[name][1], "seeds": seeds, "steps": steps,
                "batch": BATCH}  # fmt: skip
    return settings | ({"seeds_by": seeds_by} if seeds_by else {})


def measured(settings: dict[str, Any], data_dir: str | None) -> dict:
    """Trains and evaluates a row: `assess_run` of every seed, parameters, seconds."""
    data = load(settings["data"], Options(**settings["options"]), data_dir)
    module = MODELS[settings["model"]]
    model = module.make(module.Config(**settings["fields"]), data.spec)
    plan = Plan(steps=settings["steps"], seeds=settings["seeds"], batch_size=settings["batch"],
                devices=1, log_every=100, eval_every=0)  # fmt: skip
    by = settings.get("seeds_by") or quicker(model, data, plan)
    fitted = fit(model, data, dataclasses.replace(plan, seeds_by=by), quiet=True)
    results, start = [], time.perf_counter()
    for seed, state in enumerate(fitted.states):
        untrained = jax.jit(model.init)(jax.random.key(seed))
        results.append(
            evaluation.assess_run(
                model, state, untrained, data, rng=jax.random.key(KEY), batch_size=250,
                iwae_samples=50, probe_train_limit=10_000, limit=2000, per_example=False,
                probe_data=data.unbinarised,
            )
        )  # fmt: skip
    draw = jax.jit(model.sample, static_argnums=2) if model.sample else None
    shown = fitted.states[0]
    return {
        "results": results,
        "seeds_by": by,
        "steps": settings["steps"],
        "parameters": int(sum(np.size(leaf) for leaf in jax.tree.leaves(shown.params))),
        "seconds_training": fitted.seconds,
        "seconds_evaluating": time.perf_counter() - start,
        "samples": np.rint(
            255 * np.clip(draw(shown, jax.random.key(KEY), 12), 0, 1)
        ).astype(int).tolist() if draw else None,
    }  # fmt: skip


def value(result: dict, path: str) -> float | None:
    """The number at a path like `probes/codes/linear_accuracy`, None where there is none."""
    for part in path.split("/"):
        if not isinstance(result, dict) or part not in result:
            return None
        result = result[part]
    return result


def numbers(name: str, found: dict, data: str) -> dict[str, list[float] | None]:
    """A row's columns, a number for each seed."""
    row, features = {}, {"F": evaluation.FEATURES[data], "B": evaluation.BIT_FEATURES[data]}
    for column, (path, _) in COLUMNS.items():
        values = [value(result, path.format(**features)) for result in found["results"]]
        sign = -1 if column in NEGATED else 1
        row[column] = None if None in values else [sign * v for v in values]
    return row


def text(values: list[float] | None, digits: int) -> str:
    """Mean and standard error over training seeds."""
    if values is None:
        return "–"
    error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{np.mean(values):.{digits}f} ± {error:.{digits}f}"


def main(argv: list[str]) -> int:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--data", default="digits", choices=["digits", "mnist"])
    words.add_argument("--data-dir", help="folder that holds mnist/ (default: $JAXAE_DATA_DIR)")
    words.add_argument("--seeds", type=int, default=3)
    words.add_argument("--steps", type=int, default=STEPS)
    words.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS))
    words.add_argument("--seeds-by", choices=["vmap", "sequence"],
                       help="seeds at once or in turn (default: whichever is quicker); the two "
                       "round differently, so a row's bits come again only so")  # fmt: skip
    words.add_argument("--again", action="store_true", help="compute even what is there")
    asked = words.parse_args(argv)
    if asked.seeds < 2:
        print("error: --seeds must be at least 2, for an error bar", file=sys.stderr)
        return 1
    found, start, computed = {}, time.monotonic(), 0
    for number, name in enumerate(asked.only, start=1):
        left = (time.monotonic() - start) / computed * (len(asked.only) - number + 1) \
            if computed else math.nan  # fmt: skip
        print(f"[{number}/{len(asked.only)}] {name}"
              + (f", about {left / 60:.0f} min left" if computed else ""), flush=True)  # fmt: skip
        settings = settings_of(name, asked.data, asked.seeds, asked.steps, asked.seeds_by)
        code = [f"jaxae.models.{name}", "jaxae.training.loop", "jaxae.evaluation.report",
                "jaxae.data.assemble"]  # fmt: skip
        compute = lambda settings=settings: measured(settings, asked.data_dir)
        found[name] = cell(f"benchmark-{name}-{asked.data}", settings, code, compute, FOLDER,
                           asked.again)  # fmt: skip
        computed += not found[name].found
    usual = {key: words.get_default(key) for key in ("seeds", "steps", "only")}
    if all(getattr(asked, key) == value for key, value in usual.items()):
        write(asked, found)
    else:  # a trial: the files that are there stay
        print(table(found, asked.data))
    return 0


def table(found: dict, data: str) -> str:
    """The Markdown table."""
    head = ["model", *COLUMNS, "parameters", "steps", "s per seed", "seeds", "differs in"]
    lines = [head]
    for name, kept in found.items():
        row = numbers(name, kept.result, data)
        seeds = len(kept.result["results"])
        lines.append([
            name, *(text(row[column], digits) for column, (_, digits) in COLUMNS.items()),
            f"{kept.result['parameters']:,}", f"{kept.result['steps']:,}",
            f"{kept.result['seconds_training'] / seeds:.0f}",
            "at once" if kept.result["seeds_by"] == "vmap" else "apart", ROWS[name][2],
        ])  # fmt: skip
    return pipe_table(lines) + "\n"


def write(asked, found: dict) -> None:
    """The table as Markdown, CSV and picture."""
    RESULTS.mkdir(exist_ok=True)
    base = RESULTS / f"benchmark_{asked.data}"
    with base.with_suffix(".csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["model", "seed", *COLUMNS])
        for name, kept in found.items():
            row = numbers(name, kept.result, asked.data)
            for seed in range(asked.seeds):
                rows.writerow([name, seed, *("" if row[c] is None else f"{row[c][seed]:.6g}"
                                             for c in COLUMNS)])  # fmt: skip
    shown = {n: np.array(c.result["samples"]) / 255 for n, c in found.items()
             if c.result["samples"]}  # fmt: skip
    evaluation.image_grid(
        np.concatenate(list(shown.values())), 12, base.with_suffix(".png"),
        title=f"Samples of all models on {asked.data}", note="the first seed of each",
        row_labels=list(shown),
    )  # fmt: skip
    made = {hardware(kept.environment) for kept in found.values()}
    flags = f" --seeds-by {asked.seeds_by}" if asked.seeds_by else ""
    body = f"""# All models on {asked.data}, one protocol

`python experiments/benchmark.py --data {asked.data}{flags}`: {asked.steps} steps of {BATCH}, widths
{WIDTHS}, codes of {LATENT} numbers, {asked.seeds} seeds; mean ± standard error over seeds of
numbers on 2,000 test images. {sum(c.seconds for c in found.values()) / 60:.0f} min in all.

{table(found, asked.data)}
MSE: of a pixel through encode and decode, of mean images against grey ones, and of draws against
images as training sees them. Bounds in nats, k = 50; they compare only among models of binarised
images. Probes: logistic regression and 5 nearest neighbours on codes of 10,000 training images.
k-means: accuracy after matching. Codes vs prior: energy distance. Fréchet, precision, recall:
samples against test images, of means and of bits apart, in {evaluation.FEATURES[asked.data]} and in
{evaluation.BIT_FEATURES[asked.data]}; the two do not compare, nor does either with an FID.
"–": the model has no such thing. This is one small budget, and no ranking of papers.

![samples]({base.name}.png)

Made with: {"; ".join(sorted(made))}.
"""
    base.with_suffix(".md").write_text(body)
    print(body)


if __name__ == "__main__":
    leave(reported(main, sys.argv[1:]))
