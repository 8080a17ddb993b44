"""Samples of a VAE and of a GAN: how much of the data, and how sharp."""

import jax
import numpy as np
from claims_common import KEY, Claim, Measure, gather, learned, opened, pictured, rows_of

from jaxae import evaluation

LATENT, WIDTHS, STEPS, COUNT = 16, (256, 256), 4000, 2000


def sharpness(images: np.ndarray) -> float:
    """Mean squared difference of neighbouring pixels, over their variance: blurring lowers it."""
    across, down = np.diff(images, axis=2), np.diff(images, axis=1)
    return float((np.square(across).mean() + np.square(down).mean()) / images.var())


def test(data, seeds, picture, data_dir):
    source, found, drawn = opened(data, data_dir, dequantise=True), {}, []
    name = evaluation.features_of(source)
    for label, model_name, fields in (
        ("VAE", "vae", {"likelihood": "gaussian", "scale": 0.2}),
        ("GAN", "gan", {}),
    ):
        model, states = learned(model_name, source, seeds, STEPS, latent=LATENT, widths=WIDTHS,
                                decay_steps=STEPS, **fields)  # fmt: skip
        draw = jax.jit(model.sample, static_argnums=2)

        def measure(state, model=model, draw=draw):
            table = evaluation.fidelity_table(
                model, state, source, batch_size=500, rng=jax.random.key(KEY), count=COUNT
            )["samples"]
            images = np.clip(np.asarray(draw(state, jax.random.key(KEY), 500)), 0, 1)
            return {
                "recall": table[f"recall ({name})"],
                "precision": table[f"precision ({name})"],
                "Frechet": table[f"Frechet distance ({name})"],
                "sharpness": sharpness(images),
            }

        found[label] = gather(states, measure)
        drawn.append(np.clip(draw(states[0], jax.random.key(KEY), 12), 0, 1))
    real = evaluation.images_of(source.test, 500, COUNT)
    pictured([real[:12], *drawn], ["data", "VAE", "GAN"], picture, "Samples", "first seed")
    rows = rows_of(
        ["recall", "precision", f"Fréchet distance ({name})", "sharpness"],
        {label: list(seen.values()) for label, seen in found.items()},
    )
    return (
        [Measure("recall, VAE's minus GAN's", found["VAE"]["recall"] - found["GAN"]["recall"]),
         Measure("sharpness of the data minus the VAE's samples'",
                 sharpness(real) - found["VAE"]["sharpness"]),
         Measure("sharpness, GAN's minus VAE's",
                 found["GAN"]["sharpness"] - found["VAE"]["sharpness"])],
        [*rows, ["data", "", "", "", f"{sharpness(real):.4f}"]],
    )  # fmt: skip


CLAIM = Claim(
    "A VAE covers what a GAN drops, and its samples are blurrier",
    "said by many; Goodfellow et al. 2014 on the first, Larsen et al. 2016 on the second",
    f"Dense networks of the same widths, {STEPS} steps. Recall is the share of test images within "
    f"the manifold of as many samples (k = 3, {COUNT} each), in the features of a frozen network; "
    "sharpness the mean squared difference of neighbouring pixels over their variance.",
    test,
    published="no figure for this",
)
