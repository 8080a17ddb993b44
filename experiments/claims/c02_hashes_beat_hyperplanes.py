"""Semantic hashing against random hyperplanes at equal bits."""

import jax
from claims_common import KEY, Claim, Measure, gather, learned, opened, rows_of

from jaxae import evaluation
from jaxae.evaluation import retrieval
from jaxae.models import hashing

BITS, STEPS, QUERIES = 32, 2500, 1000


def test(data, seeds, picture, data_dir):
    source = opened(data, data_dir)
    model, states = learned(hashing, source, seeds, STEPS, bits=BITS, widths=(500, 500),
                            decay_steps=STEPS)  # fmt: skip

    def measure(state):
        found = evaluation.retrieval_table(
            model, state, source, batch_size=500, rng=jax.random.key(KEY)
        )
        return {
            f"{who} {number}": found[who][number]
            for who in ("codes", "random_hyperplanes")
            for number in ("mean_average_precision", "precision_in_ball")
        }

    found = gather(states, measure)
    draw_curves(model, states[0], source, picture)
    gain = lambda number: found[f"codes {number}"] - found[f"random_hyperplanes {number}"]
    return (
        [
            Measure("gain in mean average precision", gain("mean_average_precision")),
            Measure("gain in precision within Hamming radius 2", gain("precision_in_ball")),
        ],
        rows_of(["mean average precision", "precision within radius 2"], {
            name: [found[f"{who} mean_average_precision"], found[f"{who} precision_in_ball"]]
            for name, who in (("learnt codes", "codes"), ("hyperplanes", "random_hyperplanes"))
        }),
    )  # fmt: skip


def draw_curves(model, state, data, picture):
    """Precision over recall of the first seed's codes and of the hyperplanes."""
    arrays = [
        (*evaluation.encode_split(model, state, split, 500, jax.random.key(KEY), limit),
         evaluation.pixels_of(split, 500, limit))
        for split, limit in ((data.train, None), (data.test, QUERIES))
    ]  # fmt: skip
    (codes, labels, x), (queries, wanted, y) = arrays
    planes = evaluation.random_hyperplanes(x, y, bits=BITS)
    pairs = {"learnt codes": (queries, codes), "random hyperplanes": (planes[1], planes[0])}
    evaluation.draw_precision_recall(
        {name: retrieval.curve(*evaluation.counts_by_distance(*pair, wanted, labels))
         for name, pair in pairs.items()},
        picture,
    )  # fmt: skip


CLAIM = Claim(
    "Learnt hash codes retrieve better than random hyperplanes at equal bits",
    "Salakhutdinov & Hinton 2007 and 2009, where the rival is locality-sensitive hashing",
    f"{BITS} bits, {STEPS} steps; 1,000 test images search the training images; relevant is what "
    "has the query's label; hyperplanes cut the centred pixels.",
    test,
    published="curves only; no figure could be read",
)
