"""ACN: what a code costs given the neighbours' and without."""

import jax
from claims_common import KEY, Claim, Measure, assessed, learned, opened, rows_of

from jaxae import evaluation
from jaxae.models import acn

STEPS = 2000


def test(data, seeds, picture, data_dir):
    source = opened(data, data_dir, binarise="dynamic")
    model, states = learned(acn, source, seeds, STEPS, decoder="mlp", neighbours=5)
    found = assessed(model, states, source)
    totals = ["total_ordered", "total_ordered_with_credit", "total_unordered"]
    images = evaluation.images_of(source.test, 500, 10)
    evaluation.draw_daydream(model, states[0], images[:6], picture, jax.random.key(KEY))
    return (
        [Measure("unordered total minus ordered", found["total_unordered"] - found["total_ordered"],
                 "nats"),
         Measure("unordered total minus ordered with the order's own cost",
                 found["total_unordered"] - found["total_ordered_with_credit"], "nats")],
        rows_of(["nats per test image"], {name: [found[name]] for name in totals}),
    )  # fmt: skip


CLAIM = Claim(
    "ACN's neighbours make codes cheap: the cost with ordering is below the cost without",
    "Graves, Menick & van den Oord 2018",
    "Test images sent along a greedy path, each code by the prior of the one before; with credit "
    "means that the order itself is paid for, log(n!)/n nats. Unordered codes are charged by the "
    "mixture of all conditionals.",
    test,
    published="73.9 nats an image with ordering (first abstract); the rest could not be read",
)
