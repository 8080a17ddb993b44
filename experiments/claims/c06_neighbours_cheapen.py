"""ACN: what a code costs given the neighbours' and without."""

import jax
from claims_common import KEY, Claim, Measure, assessed, learned, opened, rows_of

from jaxae import evaluation

STEPS = 2000


def test(data, seeds, picture, data_dir):
    source = opened(data, data_dir, binarise="dynamic")
    model, states = learned("acn", source, seeds, STEPS, decoder="mlp", neighbours=5)
    found = assessed(model, states, source)
    totals = ["total_ordered", "total_unordered", "total_ordered_with_credit"]
    images = evaluation.images_of(source.test, 500, 10)
    evaluation.draw_daydream(model, states[0], images[:6], picture, jax.random.key(KEY))
    return (
        [Measure("unordered total minus ordered",
                 found["total_unordered"] - found["total_ordered"], "nats")],
        rows_of(["nats per test image"], {name: [found[name]] for name in totals}),
    )  # fmt: skip


CLAIM = Claim(
    "ACN's neighbours make codes cheap: the cost with ordering is below the cost without",
    "Graves, Menick & van den Oord 2018",
    "Test images sent along a greedy path, each code by the prior of the one before, as the paper "
    "counts. Unordered codes are charged by the mixture of all conditionals. A caution of ours: as "
    "the sender has chosen the order, the first cost is that of a set and the second that of a "
    "sequence. In a given order the first would be up to log(n!)/n nats higher, the last row.",
    test,
    published="73.9 nats an image with ordering (first abstract); the rest could not be read",
)
