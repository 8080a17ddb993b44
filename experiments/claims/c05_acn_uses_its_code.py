"""A decoder that can do without the code: who uses it all the same?"""

import jax
import numpy as np
from claims_common import (
    KEY,
    Claim,
    Measure,
    assessed,
    coded,
    gather,
    learned,
    on_test,
    opened,
    pictured,
    rows_of,
)

from jaxae import evaluation
from jaxae.models import acn

STEPS = {"digits": (3000, 2000), "mnist": (2000, 1500)}  # decoder alone, then with the code


def test(data, seeds, picture, data_dir):
    source, grey = opened(data, data_dir, binarise="dynamic"), opened(data, data_dir)
    alone, together = STEPS.get(data, (2000, 1500))
    found, drawn = {}, []
    images = evaluation.images_of(source.test, 500, 10)
    for variant in ("vae", "acn"):
        model, states = learned(acn, source, seeds, alone + together, variant=variant,
                                decoder_first=alone)  # fmt: skip
        probe = gather(states, lambda state, model=model: {
            "probe": evaluation.linear_probe(*coded(model, state, grey))})["probe"]  # fmt: skip
        if variant == "acn":
            whole = assessed(model, states, source)
            rate, total = whole["rate_unordered"], whole["total_unordered"]
        else:
            test = on_test(model, states, source)
            rate, total = test["rate"], test["loss"]
        found[variant] = {"rate": rate, "total": total, "probe": probe}
        codes = jax.jit(model.encode)(states[0], images, jax.random.key(KEY))
        drawn.append(np.asarray(jax.jit(model.decode)(states[0], codes, jax.random.key(KEY))))
    pictured(
        [images, *drawn],
        ["image", "VAE", "ACN"],
        picture,
        "Drawn from the code",
        "test images; samples of the decoder given the image's code",
    )
    gain = lambda number: found["acn"][number] - found["vae"][number]
    return (
        [Measure("rate, unordered, ACN's minus VAE's", gain("rate"), "nats"),
         Measure("probe on the code, ACN's minus VAE's", gain("probe")),
         Measure("nats saved by an image, unordered totals", -gain("total"), "nats")],
        rows_of(["rate", "total", "probe"], {
            name.upper(): list(seen.values()) for name, seen in found.items()}),
    )  # fmt: skip


CLAIM = Claim(
    "Beside a decoder that has learnt to do without, a VAE's code stays idle; ACN's does not",
    "Graves, Menick & van den Oord 2018; the VAE's failing also in arXiv:1711.00937 (VQ-VAE)",
    "A masked autoregressive decoder learns alone, then encoder and code join, with the same "
    "networks under a VAE's prior and under ACN's. ACN is charged by the unordered prior, which "
    "compares with a VAE's. VQ-VAE, for which the papers say the same, has no autoregressive "
    "decoder of images here and is not tested; its rate is fixed by its construction.",
    test,
    published="no figure could be read",
)
