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
    images = evaluation.images_of(source.test, 500, 10)
    evaluation.draw_daydream(model, states[0], images[:6], picture, jax.random.key(KEY))
    unordered, ordered = found["rate_unordered"], found["rate_ordered"]
    rates = {
        "unordered": unordered,
        "ordered": ordered,
        "ordered, and the order itself": ordered + found["order_credit"],
    }
    left = found["distortion"]  # the same for all: of the whole test set
    return (
        [Measure("nats in the code, unordered minus ordered", unordered - ordered, "nats")],
        rows_of(["in the code, nats", "left to the pixels", "total"], {
            name: [rate, left, rate + left] for name, rate in rates.items()}),
    )  # fmt: skip


CLAIM = Claim(
    "ACN's neighbours make codes cheap: the cost with ordering is below the cost without",
    "Graves, Menick & van den Oord 2018",
    f"Dense networks (the paper's decoder is a PixelCNN), {STEPS} steps. Test images are sent "
    "along a greedy path, each code by the prior of the one before. Without an order the codes of "
    "1,000 of them are charged by the mixture of the conditionals of 10,000 training codes. What "
    "is left to the pixels is the same, of all test images. The order is free in "
    "the published number and in this verdict; the last row charges log(n!)/n nats for it, and "
    "where that is more than the saving, neighbours make a set cheap but no single image.",
    test,
    seeds=3,
    published="73.9 nats an image with ordering (first abstract); the rest could not be read",
)
