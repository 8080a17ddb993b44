"""Denoising and inpainting of digits, against the best projection onto principal components.

Expected numbers were measured by an independent program with the same sizes (one seed), whose rate
is not known. PSNR in dB, mean over the test images; the corrupted image and PCA's are clipped to
[0, 1]. Squared errors are over the pixels that the corruption changed. For missing pixels both are
over these alone: the other program has the ratio of the corrupted image over all pixels, which is
6.0 dB more where a quarter of them is missing.
"""

import math

import jax
import numpy as np
from studylib.declare import FIRST_SEED, Claim, Measure, Picture, Run, Study, Trained
from studylib.pages import mean_std, near, requirement, rows_of, table

from jaxae import evaluation
from studies.common import BATCH, assessed, codes_and_labels, draw_rows, images, probes

LEVEL = 0.5  # of the claim
# Run, then expected PSNR of corrupted, restored, PCA, and the probe on the code.
CORRUPTIONS = {
    "none": (Run("dae", "digits", {"corruption": "none"}), None, 26.6, None, 0.975),
    "masking 0.25": (Run("dae", "digits"), 12.8, 19.4, 14.6, 0.964),
    "masking 0.5": (Run("dae", "digits", {"levels": (0.5,)}), 9.5, 16.8, 12.9, 0.967),
    "salt and pepper 0.25": (Run("dae", "digits-salt"), 9.8, 17.0, 14.6, 0.967),
    "Gaussian 0.3": (Run("dae", "digits-gaussian"), 13.1, 18.4, 16.0, 0.969),
    "block of 4x4 missing": (
        Run("dae", "digits-inpainting"), round(11.6 - 10 * math.log10(4), 1), None, None, 0.969,
    ),
}  # fmt: skip
AT_ONCE = {"levels": (0.25,), "stack_steps": 0, "decay_steps": 5000}
OPTIONS = {
    "masking 0.25, weights 1 and 0.5": Run("dae", "digits", {"kept_weight": 0.5}),
    "masking 0.25, weights 1 and 0": Run("dae", "digits", {"kept_weight": 0.0}),
    "block, no mask channel": Run("dae", "digits-inpainting", {"mask_channel": False}),
    "strokes missing": Run("dae", "digits-inpainting", {"corruption": "strokes", "levels": (0.3,)}),
    "half missing": Run("dae", "digits-inpainting", {"corruption": "half"}),
    "sigmoid 64-256-128, stacked (1,000 steps a layer)": Run("dae", "digits-stacked"),
    "sigmoid 64-256-128, at once": Run("dae", "digits-stacked", AT_ONCE),
}
SMALL = {"widths": (256,), "batch_size": 100, "steps": 3000, "decay_steps": 3000}
ON_MNIST = {
    "denoising": Run("dae", "mnist", SMALL, seeds=5, first_seed=FIRST_SEED),
    "plain": Run("dae", "mnist", {**SMALL, "corruption": "none"}, seeds=5, first_seed=FIRST_SEED),
}


def damaged(image: np.ndarray) -> np.ndarray:
    """Images with half of their pixels masked, the same ones for every run."""
    kept = np.random.default_rng(0).random(image.shape) >= LEVEL
    return (image * kept).astype(np.float32)


def probe_on_clean_and_damaged(run: Trained) -> dict[str, float]:
    """Accuracy on test images of a logistic regression that is fitted to codes of clean images."""
    train, labels, clean, wanted = codes_and_labels(run)
    image, encode = damaged(images(run.data.test)), jax.jit(run.model.encode)
    starts = range(0, len(image), BATCH)
    parts = [encode(run.state, image[start : start + BATCH], run.rng()) for start in starts]
    return {
        "clean": evaluation.linear_probe(train, labels, clean, wanted),
        "damaged": evaluation.linear_probe(train, labels, np.concatenate(parts), wanted),
    }


def page(numbers):
    """Every corruption with what is expected of it, then the options."""
    rows, checks = [], []
    for name, (_, before, after, of_pca, accuracy) in CORRUPTIONS.items():
        of = numbers[name]
        if before is not None:
            rows.append((name, "corrupted", *near(of["psnr_corrupted"], before, 0.3, 1)))
            rows.append((name, "best PCA", *near(of["psnr_pca"], of_pca, 0.3, 1)))
        rows.append((name, "DAE", *near(of["psnr_restored"], after, 1.5, 1)))
        if before is not None:
            errors = [of[f"changed_squared_error_{part}"].mean()
                      for part in ("corrupted", "restored", "mean_image")]  # fmt: skip
            text = f"{errors[0]:.3f} → {errors[1]:.3f} (mean image {errors[2]:.3f})"
            rows.append((name, "squared error on changed pixels", text, "", ""))
            gain = of["psnr_restored"].mean() - of["psnr_pca"].mean()
            checks += [
                requirement(f"{name}: 2 dB ≤ DAE over PCA", 2.0, gain, 1),
                requirement(f"{name}: changed pixels, DAE ≤ mean image", *errors[1:], 3),
            ]
        rows.append((name, "logistic probe", *near(of["linear probe"], accuracy, 0.02, 3)))
    head = ("corruption", "number", "ours", "expected", "")
    yield table("1. Denoising of digits, 64-256-64-256-64, 3,000 steps", head, rows)
    yield table("1. What was expected of it", ["", "", ""], checks)
    shown = {"psnr_corrupted": 1, "psnr_restored": 1, "psnr_pca": 1,
             "changed_squared_error_restored": 3, "linear probe": 3}  # fmt: skip
    yield table(
        "2. Options, 3,000 steps (5,000 for the last two rows)",
        ("row", "corrupted", "DAE", "best PCA", "error on changed pixels", "logistic probe"),
        [
            (name, *(mean_std(numbers[name][key], d) for key, d in shown.items()))
            for name in OPTIONS
        ],
    )


def draw_restored(runs, path) -> None:
    """Damaged test images through both networks."""
    unseen = images(runs["plain"][0].data.test)
    rows = {"image": unseen[:10], "damaged": damaged(unseen)[:10]}
    for name, (run, *_) in runs.items():
        codes = jax.jit(run.model.encode)(run.state, rows["damaged"], run.rng())
        rows[name] = jax.jit(run.model.decode)(run.state, codes, run.rng())
    draw_rows(rows, path, "Half of the pixels masked", "and what both make of it")


CLAIM = Claim(
    name="denoising_features",
    statement="Features learned by denoising tell more than a plain autoencoder's, of "
    "corrupted images above all",
    where="Vincent et al. 2008 and 2010, who fine-tune a classifier and test it on clean "
    "images; probes and damaged images are ours",
    how="The same network (784-256-64), 3000 steps with and without masking of 50% of the "
    "pixels; a logistic regression fitted to codes of 10,000 clean training images is "
    "tested on test images, clean and damaged as in training.",
    runs=tuple(ON_MNIST),
    measures=lambda numbers: [
        Measure(f"gain in accuracy on {kind} images",
                numbers["denoising"][kind] - numbers["plain"][kind])
        for kind in ("damaged", "clean")
    ],
    rows=lambda numbers: rows_of(["probe on clean images", "probe on damaged images"], {
        name: [numbers[name]["clean"], numbers[name]["damaged"]] for name in ON_MNIST
    }),
    published="error of fine-tuned classifiers on MNIST-basic: 2.80 % against 3.46 % "
    "(recalled)",
    picture="restored",
)  # fmt: skip
STUDY = Study(
    title="Denoising autoencoders",
    runs={name: run for name, (run, *_) in CORRUPTIONS.items()} | OPTIONS | ON_MNIST,
    measures={
        **dict.fromkeys([*CORRUPTIONS, *OPTIONS], (assessed, probes)),
        **dict.fromkeys(ON_MNIST, (probe_on_clean_and_damaged,)),
    },
    page=page,
    claims=[CLAIM],
    pictures={"restored": Picture(tuple(ON_MNIST), draw_restored)},
)
