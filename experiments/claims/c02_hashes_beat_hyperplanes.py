"""Semantic hashing against random hyperplanes at equal bits."""

import jax
import numpy as np
from claims_common import KEY, Claim, Measure, learned, opened, rows_of

from jaxae import evaluation
from jaxae.evaluation import retrieval
from jaxae.models import hashing

BITS, STEPS, QUERIES = 32, 2500, 1000
NUMBERS = {
    "mean_average_precision": "mean average precision",
    "precision_at_100": "precision of the 100 nearest",
}


def test(data, seeds, picture, data_dir):
    source = opened(data, data_dir)
    model, states = learned(hashing, source, seeds, STEPS, bits=BITS, widths=(500, 500),
                            decay_steps=STEPS)  # fmt: skip
    train = evaluation.pixels_of(source.train, 500)
    test = evaluation.pixels_of(source.test, 500, QUERIES)
    of_codes, random = [], []
    for seed, state in enumerate(states):
        (queries, wanted), (codes, labels) = (
            evaluation.encode_split(model, state, split, 500, jax.random.key(KEY), limit)
            for split, limit in ((source.test, QUERIES), (source.train, None))
        )
        planes = evaluation.random_hyperplanes(train, test, bits=BITS, seed=seed)
        of_codes.append(evaluation.counts_by_distance(queries, codes, wanted, labels))
        random.append(evaluation.counts_by_distance(planes[1], planes[0], wanted, labels))

    curves = {"learnt codes": retrieval.curve(*of_codes[0]),
              "random hyperplanes": retrieval.curve(*random[0])}  # fmt: skip
    evaluation.draw_precision_recall(curves, picture)
    found = {
        name: {key: np.array([retrieval.scores(*counts)[key] for counts in of_seeds])
               for key in NUMBERS}
        for name, of_seeds in (("learnt codes", of_codes), ("random hyperplanes", random))
    }  # fmt: skip
    return (
        [Measure(f"gain in {name}", found["learnt codes"][key] - found["random hyperplanes"][key])
         for key, name in NUMBERS.items()],
        rows_of(list(NUMBERS.values()), {
            name: list(seen.values()) for name, seen in found.items()}),
    )  # fmt: skip


CLAIM = Claim(
    "Learnt hash codes retrieve better than random hyperplanes at equal bits",
    "Salakhutdinov & Hinton 2007 and 2009, who compare with locality-sensitive hashing in speed; "
    "this comparison is ours",
    f"Encoder 784-500-500-{BITS}, {STEPS} steps; {QUERIES:,} test images search the training "
    "images; relevant is what has the query's label. Hyperplanes cut the centred pixels, others "
    "for each training seed.",
    test,
    published="curves only; no figure could be read",
)
