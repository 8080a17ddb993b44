"""NVAE with four groups of latents on two scales, and with one group of as many."""

import jax
import numpy as np
from claims_common import KEY, Claim, Measure, gather, learned, opened, pictured, rows_of

from jaxae import evaluation
from jaxae.models import nvae

# data -> steps, what both have in common, and the single level's own fields: about equal sizes.
SETTINGS = {
    "mnist": (500, {"latent": 8, "width": 8, "blocks": 2, "block_cells": 1},
              {"groups": (1,), "latent": 80, "blocks": 3, "cells": 3}),
    "digits": (1500, {"latent": 4, "width": 8, "blocks": 1, "block_cells": 1},
               {"groups": (1,), "latent": 40, "blocks": 2, "cells": 3}),
}  # fmt: skip
SAMPLES, IMAGES = 50, 500


def test(data, seeds, picture, data_dir):
    source, found, drawn = opened(data, data_dir, binarise="dynamic"), {}, []
    steps, common, single = SETTINGS[data]
    for name, own in {"2 + 2 groups": {"groups": (2, 2)}, "one group": single}.items():
        model, states = learned(nvae, source, seeds, steps, 32, **common | own,
                                decay_steps=steps)  # fmt: skip
        size = sum(np.size(leaf) for leaf in jax.tree.leaves(states[0].params))
        seen = gather(states, lambda state, model=model: evaluation.bounds(
            model, state, source.test, samples=SAMPLES, batch_size=250, rng=jax.random.key(KEY),
            limit=IMAGES))  # fmt: skip
        found[name] = (size, seen)
        drawn.append(np.asarray(jax.jit(model.sample, static_argnums=2)(
            states[0], jax.random.key(KEY), 10)))  # fmt: skip
    pictured(drawn, list(found), picture, "Samples", "of the prior, temperature 1")
    (_, several), (_, one) = found.values()
    return (
        [Measure(f"gain in the IWAE-{SAMPLES} bound",
                 several["iwae_nats"] - one["iwae_nats"], "nats")],
        rows_of(["parameters", "-ELBO, nats", f"-IWAE-{SAMPLES}, nats"], {
            name: [f"{size:,}", -seen["elbo_nats"], -seen["iwae_nats"]]
            for name, (size, seen) in found.items()}),
    )  # fmt: skip


CLAIM = Claim(
    "NVAE's hierarchy beats a single level of latents at equal parameters",
    "Vahdat & Kautz 2020; the comparison at this size is ours",
    "The same cells with four groups on two scales, and with one group of as many latent numbers "
    "on the coarser of them and more cells, so that parameters are about equal; "
    f"{IMAGES} test images.",
    test,
    published="MNIST 78.01 nats with 15 groups; one level: none",
)
