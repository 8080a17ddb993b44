"""What the training loop costs over the bare compiled step: `python experiments/speed.py`.

The loop is `fit` with a workdir: progress, metrics.jsonl, TensorBoard events, checkpoints at the
recipe's intervals; looks at held-out data are left out, since they are asked for. The bare step is
the same compiled chunk called again and again on batches that were made before the clock started.
Both are timed in turn in one process, after compilation, and the ratio of each pair is printed. A
run's first checkpoint costs some 0.1 s more than the others, so short runs look worse.
"""

import argparse
import dataclasses
import pathlib
import statistics
import tempfile
import time

import jax
import numpy as np

from jaxae.command import run as runs
from jaxae.data import DataError
from jaxae.recipes import RECIPES
from jaxae.training import fit
from jaxae.training.parallel import Engine


def bare(engine: Engine, states, plan) -> tuple:
    """Seconds per step of the compiled chunk alone, and the states after it."""
    chunk, vmap = plan.log_every, engine.mode.seeds_by == "vmap"
    steps = plan.steps // chunk
    payloads = [engine._payload(i * chunk, chunk)[0] for i in range(steps)]
    keys = jax.random.key(plan.seed)
    if vmap:
        payloads, keys = [p[None] for p in payloads], keys[None]
    else:
        states = states[0]
    start = time.perf_counter()
    for payload in payloads:
        states, metrics = engine._run_chunk(states, payload, keys, chunk)
    jax.block_until_ready((states, metrics))
    spent = time.perf_counter() - start
    return spent / (steps * chunk), states if vmap else [states]


def looped(run, plan) -> float:
    """Seconds per step of `fit`, from the end of its second chunk (compiled by then) to its end."""
    with tempfile.TemporaryDirectory() as folder:
        records = fit(run.model, run.data, plan, pathlib.Path(folder), quiet=True).records
    times = {r["step"]: r["seconds"] for r in records if "seconds" in r}
    first, last = plan.log_every * 2, plan.steps
    return (times[last] - times[first]) / (last - first)


def main() -> None:
    """Prints a line per data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vae")
    parser.add_argument("--recipes", nargs="+", default=["digits", "mnist"])
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data-dir")
    words = parser.parse_args()
    for recipe in words.recipes:
        settings = RECIPES[words.model][recipe]()
        plan = dataclasses.replace(settings.plan, steps=words.steps, seeds=1)
        start = time.perf_counter()
        try:
            run = runs.build(words.model, settings, words.data_dir)
        except DataError as error:
            print(f"{words.model} {recipe}: left out, {str(error).splitlines()[0]}")
            continue
        print(f"{words.model} {recipe}: {run.data.name} read and model made in "
              f"{time.perf_counter() - start:.2f} s")  # fmt: skip
        engine = Engine(run.model, run.data.train, plan)
        states, _ = engine.run(engine.init(), 0, plan.log_every)
        pairs = []
        for _ in range(words.rounds):
            alone, states = bare(engine, states, plan)
            pairs.append((alone, looped(run, plan)))
        ratios = sorted(loop / alone for alone, loop in pairs)
        alone, loop = (statistics.median(side) for side in zip(*pairs, strict=True))
        print(
            f"{words.model} {recipe}: bare step {alone * 1e3:.3f} ms, in the loop "
            f"{loop * 1e3:.3f} ms; ratio {np.median(ratios):.3f} "
            f"(from {ratios[0]:.3f} to {ratios[-1]:.3f}, {words.rounds} pairs, {engine.mode.loop})"
        )


if __name__ == "__main__":
    main()
