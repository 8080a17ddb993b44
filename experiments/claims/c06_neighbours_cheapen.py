"""ACN: what a code costs given the neighbours' and without."""

import jax
from claims_common import KEY, Claim, Measure, assessed, learned, opened, rows_of

from jaxae import evaluation
from jaxae.models import acn

STEPS = 2000
TOTALS = {
    "unordered": "total_unordered",
    "ordered": "total_ordered",
    "ordered, and the order itself": "total_ordered_with_credit",
}


def test(data, seeds, picture, data_dir):
    source = opened(data, data_dir, binarise="dynamic")
    model, states = learned(acn, source, seeds, STEPS, decoder="mlp", neighbours=5)
    found = assessed(model, states, source)
    images = evaluation.images_of(source.test, 500, 10)
    evaluation.draw_daydream(model, states[0], images[:6], picture, jax.random.key(KEY))
    return (
        [Measure("unordered total minus ordered", found["total_unordered"] - found["total_ordered"],
                 "nats")],
        rows_of(["nats per test image"], {name: [found[key]] for name, key in TOTALS.items()}),
    )  # fmt: skip


CLAIM = Claim(
    "ACN's neighbours make codes cheap: the cost with ordering is below the cost without",
    "Graves, Menick & van den Oord 2018",
    f"Dense networks (the paper's decoder is a PixelCNN), {STEPS} steps. Test images are sent "
    "along a greedy path, each code by the prior of the one before. Without an order 1,000 of them "
    "are charged by the mixture of the conditionals of 10,000 training codes. The order is free in "
    "the published number and in this verdict; the last row charges log(n!)/n nats for it, and "
    "where that is more than the saving, neighbours make a set cheap but no single image.",
    test,
    seeds=3,
    published="73.9 nats an image with ordering (first abstract); the rest could not be read",
)
