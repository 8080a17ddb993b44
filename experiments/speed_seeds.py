"""What several seeds cost on this machine: `python experiments/speed_seeds.py`.

Seconds per step of all seeds together: one after the other, in threads side by side
(`seeds_by="sequence"`), and as one program (`seeds_by="vmap"`). The three are timed in turn in one
process, after compilation; printed are medians and the median of the rounds' ratios.
"""

import argparse
import dataclasses
import statistics
import time

import jax

from jaxae.command import run as runs
from jaxae.recipes import RECIPES
from jaxae.training.parallel import Engine


def timed(engine: Engine, states, step: int, steps: int) -> tuple[float, list]:
    """Seconds per step, and the states after these steps."""
    start = time.perf_counter()
    states, metrics = engine.run(states, step, steps)
    engine.fetch(metrics)
    jax.block_until_ready(states)
    return (time.perf_counter() - start) / steps, states


def main() -> None:
    """Prints a line per model."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--models", nargs="+", default=["vae", "alae", "vqvae"], choices=RECIPES)
    words.add_argument("--recipe", default="digits")
    words.add_argument("--seeds", type=int, default=3)
    words.add_argument("--steps", type=int, default=100)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--data-dir")
    asked = words.parse_args()
    for name in asked.models:
        settings = RECIPES[name][asked.recipe]()
        run = runs.build(name, settings, asked.data_dir)
        plan = dataclasses.replace(settings.plan, devices=1, log_every=asked.steps)
        engines = {
            by: Engine(run.model, run.data.train, dataclasses.replace(plan, seeds=n, seeds_by=by))
            for n, by in ((1, "auto"), (asked.seeds, "sequence"), (asked.seeds, "vmap"))
        }
        states = {by: engine.init() for by, engine in engines.items()}
        rounds = []
        for step in range(0, (asked.rounds + 1) * asked.steps, asked.steps):
            spent = {}
            for by, engine in engines.items():
                spent[by], states[by] = timed(engine, states[by], step, asked.steps)
            rounds.append((asked.seeds * spent["auto"], spent["sequence"], spent["vmap"]))
        alone, beside, at_once = (
            statistics.median(side) * 1e3 for side in zip(*rounds[1:], strict=True)
        )
        ratio = lambda side: statistics.median(times[side] / times[1] for times in rounds[1:])
        print(f"{name} {asked.recipe}, a step of {asked.seeds} seeds: in turn {alone:.2f} ms, side "
              f"by side {beside:.2f}, as one program {at_once:.2f}; in turn / side by side "
              f"{ratio(0):.2f}, one program / side by side {ratio(2):.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
