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
from jaxae.models import acn, vqvae

# decoder alone, then with the code; the decoder; the convolutions that halve an image to 2x2 codes
SETTINGS = {
    "digits": (600, 900, {"pixelcnn_width": 8, "pixelcnn_layers": 3}, 2),
    "mnist": (400, 600, {"pixelcnn_width": 8, "pixelcnn_layers": 4}, 4),
}
BATCH_SIZE, JUDGED = 50, 500


def test(data, seeds, picture, data_dir):
    source, grey = opened(data, data_dir, binarise="dynamic"), opened(data, data_dir)
    alone, together, decoder, halvings = SETTINGS[data]
    common = decoder | {"decoder": "pixelcnn", "decoder_first": alone}
    discrete = {"halvings": halvings, "codes": 32, "conv_width": 16, "conv_blocks": 1,
                "restart": 0.1, "prior_width": 16, "prior_layers": 2}  # fmt: skip
    judge, found, drawn = evaluation.train_classifier(source), {}, []
    images = evaluation.images_of(source.test, 500, 10)
    for name, module, fields in (
        ("VAE", acn, {"variant": "vae"}),
        ("ACN", acn, {}),
        ("VQ-VAE", vqvae, discrete),
    ):
        model, states = learned(module, source, seeds, alone + together, BATCH_SIZE,
                                **common | fields)  # fmt: skip
        if name == "ACN":  # its own rate is no bound: charged by one prior for all images
            whole = assessed(model, states, source)
            rate, total = whole["rate_unordered"], whole["total_unordered"]
        else:
            test = on_test(model, states, source)
            rate, total = test["rate"], test["loss"]
        found[name] = {"rate": rate, "total": total} | gather(
            states, lambda state, model=model: known(model, state, source, grey, judge)
        )
        drawn.append(drawn_again(model, states[0], images))
    pictured(
        [images, *drawn],
        ["image", *found],
        picture,
        "Drawn from the code",
        "test images; samples of the decoder given the image's code",
    )
    gain = lambda name, number: found[name][number] - found["VAE"][number]
    return (
        [Measure("draws of the image's class, ACN's minus VAE's", gain("ACN", "kept")),
         Measure("draws of the image's class, VQ-VAE's minus VAE's", gain("VQ-VAE", "kept")),
         Measure("linear probe on the code, ACN's minus VAE's", gain("ACN", "probe")),
         Measure("nats saved by an image, ACN's total against VAE's", -gain("ACN", "total"),
                 "nats")],
        rows_of(["rate, nats", "total, nats", "draws of the image's class", "linear probe"], {
            name: [*seen.values(), ""][:4] for name, seen in found.items()}),
    )  # fmt: skip


def drawn_again(model, state, images):
    """What the decoder draws, given the codes of images."""
    again = lambda state, x, rng: model.decode(state, model.encode(state, x, rng), rng)
    return np.asarray(jax.jit(again)(state, images, jax.random.key(KEY)))


def known(model, state, source, grey, judge):
    """What of the class comes through the code: in what is drawn from it, and to a probe.

    No probe of a VQ-VAE, whose `encode` is what the code was before it was quantised.
    """
    batch = next(source.test.examples(JUDGED))[0]
    seen = judge.logits(drawn_again(model, state, batch["image"])).argmax(1)
    found = {"kept": np.mean(seen == np.asarray(batch["label"]))}
    if "table" in state.extra:
        return found
    return found | {"probe": evaluation.linear_probe(*coded(model, state, grey))}


CLAIM = Claim(
    "Beside a decoder that can do without, a VAE's code stays idle; those of ACN and VQ-VAE do not",
    "Graves, Menick & van den Oord 2018; van den Oord et al. 2017, section 4.2 (VQ-VAE)",
    "A gated PixelCNN learns alone, then encoder and code join: with the same networks under a "
    "VAE's prior and under ACN's, and with a VQ-VAE's convolutions and 2x2 codes of 32 kinds. "
    f"The class that a classifier sees in what is drawn from the code of {JUDGED} test images is "
    "compared with theirs. ACN is charged by the unordered prior, which compares with a VAE's, and "
    "VQ-VAE by the prior of codes that learns beside it.",
    test,
    published="no figure could be read",
)
