"""A small NVAE on MNIST against VAEs of the same size, by images seen and by time spent.

    python experiments/tables/nvae_mnist.py --data-dir <folder that holds mnist/>

All rows: dynamic binarisation, batches of 32, a rate that falls over the whole run, one seed
(--seeds for more), about 450,000 parameters. NVAE is the preset `mnist`: two groups on each of two
scales, 1,280 latent numbers. `one level` has the same cells and a single group of as many numbers
on the coarser scale, or of 1,274 on the finer, so that nothing is hierarchical in it. The last
row's VAE trains for as many seconds as NVAE did, by the speed of the row before it. Bounds are of
500 test images, with 50 samples each.

By images seen NVAE is ahead of all; by seconds of a CPU it is not: one step of it takes as long as
127 of the dense VAE, which sees as many times the images (its seconds were measured beside another
job, so that a quiet machine would give the VAE fewer).
"""

import dataclasses
import time
import types

import jax
import numpy as np
from common import KEY, gather, holds, make, parser, publish, shown, table, train

from jaxae import evaluation
from jaxae.data import Options, load
from jaxae.models import nvae, vae
from jaxae.recipes.nvae import mnist

IMAGES, SAMPLES, BATCH = 500, 50, 32
COARSE = {"groups": (1,), "latent": 80, "blocks": 3, "cells": 3}
FINE = {"groups": (1,), "latent": 26, "cells": 4, "width": 16}
DENSE = {"latent": 64, "widths": (206, 206)}
CONVOLUTIONS = {"network": "conv", "latent": 64, "conv_width": 20}


def compared(seeds: int, steps: int, data_dir: str | None) -> str:
    """The table."""
    data = load("mnist", Options(binarise="dynamic"), data_dir)
    preset, rows, bounds = dataclasses.asdict(mnist().model) | {"decay_steps": steps}, [], {}

    def row(name: str, module: types.ModuleType, fields: dict, steps: int) -> float:
        """Trains and adds a line; returns the seconds of training."""
        model = make(module, data, **fields)
        start = time.monotonic()
        states, _ = train(model, data, seeds, steps, batch_size=BATCH, log_every=100,
                          eval_every=0, save_every=10**6)  # fmt: skip
        seconds = time.monotonic() - start
        seen = gather(states, lambda state: evaluation.bounds(
            model, state, data.test, samples=SAMPLES, batch_size=250, rng=jax.random.key(KEY),
            limit=IMAGES,
        ))  # fmt: skip
        parameters = sum(np.size(x) for x in jax.tree.leaves(states[0].params))
        bounds[name] = -float(seen["iwae_nats"].mean())
        rows.append((name, f"{parameters:,}", f"{steps:,}", f"{seconds / seeds:.0f}",
                     shown(-seen["elbo_nats"]), shown(-seen["iwae_nats"])))  # fmt: skip
        return seconds

    warm = lambda steps: {"warmup_steps": steps // 10, "decay_steps": steps}
    spent = row("NVAE", nvae, preset, steps)
    row("NVAE, one level, 4x4", nvae, preset | COARSE, steps)
    row("NVAE, one level, 7x7", nvae, preset | FINE, steps)
    row("VAE, convolutions", vae, CONVOLUTIONS | warm(steps), steps)
    first = row("VAE, dense", vae, DENSE | warm(steps), steps)
    longer = int(steps * spent / first) // 100 * 100
    row("VAE, dense, as long as NVAE", vae, DENSE | warm(longer), longer)
    head = ("", "parameters", "steps", "seconds", "-ELBO", f"-IWAE-{SAMPLES}")
    ours = bounds.pop("NVAE")
    musts = [holds(f"NVAE's IWAE bound is better than: {name}", ours, other)
             for name, other in bounds.items()]  # fmt: skip
    return (
        table("Bounds", head, rows)
        + "\nNats per image, lower is better. Seconds of training for a seed, with compilation.\n\n"
        + table("What must hold", ("", "nats", ""), musts)
    )


def main() -> None:
    words = parser(__doc__, ["compared"], seeds=1, steps=mnist().plan.steps)
    words.add_argument("--data-dir")
    asked = words.parse_args()
    sections = {"compared": lambda: compared(asked.seeds, asked.steps, asked.data_dir)}
    publish("nvae_mnist", "NVAE and VAEs of the same size on MNIST", sections, whole=True)


if __name__ == "__main__":
    main()
