"""Samples of a VAE and of a GAN: how much of the data, and how sharp."""

import jax
import numpy as np
from claims_common import KEY, Claim, Measure, gather, learned, opened, pictured, rows_of

from jaxae import evaluation
from jaxae.models import gan, vae

LATENT, WIDTHS, STEPS, COUNT = 16, (256, 256), 4000, 2000
NUMBERS = ("recall", "precision", "Frechet distance")
# row -> model, its fields, the data it learns from (grey levels jittered where a critic would see
# that they are discrete).
RIVALS = {
    "VAE": (vae, {"warmup_steps": STEPS // 4}, {"binarise": "dynamic"}),
    "GAN, R1": (gan, {"r1": 0.3, "critic_rate": 1e-3, "learning_rate": 5e-4},
                {"dequantise": True}),
    "GAN": (gan, {"r1": 0.0}, {"dequantise": True}),
}  # fmt: skip


def sharpness(images: np.ndarray) -> float:
    """Mean squared difference of neighbouring pixels, over their variance: blurring lowers it."""
    across, down = np.diff(images, axis=2), np.diff(images, axis=1)
    return float((np.square(across).mean() + np.square(down).mean()) / images.var())


def test(data, seeds, picture, data_dir):
    grey, found, drawn = opened(data, data_dir), {}, []
    name = evaluation.features_of(grey)
    for label, (module, fields, options) in RIVALS.items():
        source = opened(data, data_dir, **options)
        model, states = learned(module, source, seeds, STEPS, latent=LATENT, widths=WIDTHS,
                                decay_steps=STEPS, **fields)  # fmt: skip
        draw = jax.jit(model.sample, static_argnums=2)

        def measure(state, model=model, draw=draw):
            table = evaluation.fidelity_table(
                model, state, grey, batch_size=500, rng=jax.random.key(KEY), count=COUNT
            )["samples"]
            images = np.clip(np.asarray(draw(state, jax.random.key(KEY), 500)), 0, 1)
            return {number: table[f"{number} ({name})"] for number in NUMBERS} | {
                "sharpness": sharpness(images)
            }

        found[label] = gather(states, measure)
        drawn.append(np.clip(draw(states[0], jax.random.key(KEY), 12), 0, 1))
    real = evaluation.images_of(grey.test, 500, COUNT)
    pictured([real[:12], *drawn], ["data", *RIVALS], picture, "Samples", "first seed")
    rows = rows_of(
        ["recall", "precision", f"Fréchet distance ({name})", "sharpness"],
        {label: [seen[number] for number in (*NUMBERS, "sharpness")]
         for label, seen in found.items()},
    )  # fmt: skip
    blurred, sharp = found["VAE"], found["GAN, R1"]
    return (
        [Measure("recall, VAE's minus that of the GAN with R1",
                 blurred["recall"] - sharp["recall"]),
         Measure("sharpness of the data minus the VAE's samples'",
                 sharpness(real) - blurred["sharpness"]),
         Measure("sharpness, that of the GAN with R1 minus the VAE's",
                 sharp["sharpness"] - blurred["sharpness"])],
        [*rows, ["data", "", "", "", f"{sharpness(real):.4f}"]],
    )  # fmt: skip


CLAIM = Claim(
    "A VAE covers what a GAN drops, and its samples are blurrier",
    "said by many; Goodfellow et al. 2014 on the first, Larsen et al. 2016 on the second",
    f"Dense networks of the same widths, {STEPS} steps; the VAE of binarised images shows pixel "
    "means. The GAN that is compared has a gradient penalty at the data (R1): without, in the last "
    f"row, its samples are no digits. Recall is the share of test images within the manifold of as "
    f"many samples (k = 3, {COUNT} each), in the features of a frozen network; sharpness the mean "
    "squared difference of neighbouring pixels over their variance.",
    test,
    published="no figure for this",
)
