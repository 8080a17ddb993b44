"""Features of a denoising autoencoder against a plain one's, on corrupted images."""

import jax
import numpy as np
from claims_common import KEY, Claim, Measure, coded, gather, learned, opened, pictured, rows_of

from jaxae import evaluation
from jaxae.models import dae

LEVEL, STEPS = 0.5, 3000


def test(data, seeds, picture, data_dir):
    source, found, restored = opened(data, data_dir), {}, []
    pixels = evaluation.images_of(source.test, 500)
    kept = np.random.default_rng(0).random(pixels.shape) >= LEVEL
    damaged = (pixels * kept).astype(np.float32)
    for name, fields in {
        "denoising": {"corruption": "masking", "levels": (LEVEL,)},
        "plain": {"corruption": "none"},
    }.items():
        model, states = learned(dae, source, seeds, STEPS, decay_steps=STEPS, **fields)
        encode, decode = jax.jit(model.encode), jax.jit(model.decode)

        def measure(state, model=model, encode=encode):
            train, labels, clean, wanted = coded(model, state, source)
            seen = np.concatenate([
                encode(state, damaged[i : i + 500], jax.random.key(KEY))
                for i in range(0, len(damaged), 500)
            ])  # fmt: skip
            return {
                "clean": evaluation.linear_probe(train, labels, clean, wanted),
                "damaged": evaluation.linear_probe(train, labels, seen, wanted),
            }

        found[name] = gather(states, measure)
        codes = encode(states[0], damaged[:10], jax.random.key(KEY))
        restored.append(np.asarray(decode(states[0], codes, jax.random.key(KEY))))
    pictured(
        [pixels[:10], damaged[:10], *restored],
        ["image", "damaged", "denoising", "plain"],
        picture,
        "Half of the pixels masked",
        "and what both make of it",
    )
    return (
        [Measure(f"gain in accuracy on {kind} images",
                 found["denoising"][kind] - found["plain"][kind]) for kind in ("damaged", "clean")],
        rows_of(["probe on clean images", "probe on damaged images"], {
            name: [seen["clean"], seen["damaged"]] for name, seen in found.items()
        }),
    )  # fmt: skip


CLAIM = Claim(
    "Features learnt by denoising tell more than a plain autoencoder's, of corrupted images above "
    "all",
    "Vincent et al. 2008 and 2010, who fine-tune a classifier and test it on clean images; probes "
    "and damaged images are ours",
    f"The same network (784-256-64), {STEPS} steps with and without masking of {LEVEL:.0%} of the "
    "pixels; a logistic regression fitted to codes of 10,000 clean training images is asked about "
    "test images, clean and damaged as in training.",
    test,
    published="error of fine-tuned classifiers on MNIST-basic: 2.80 % against 3.46 % (recalled)",
)
