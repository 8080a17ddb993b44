"""GAN: does it drop what a VAE covers, and are a VAE's samples blurrier?"""

import numpy as np
from studylib.declare import FIRST_SEED, Claim, Measure, Picture, Run, Study, Trained
from studylib.pages import rows_of

from jaxae import evaluation
from studies.common import BATCH, draw_rows, fidelity, samples

VAE, PENALISED, PLAIN = "VAE", "GAN, R1", "GAN"
STEPS = 4000
LIKE_EACH_OTHER = {"data": "mnist", "steps": STEPS, "decay_steps": STEPS, "batch_size": 100}
RUNS = {
    name: Run(model, "digits", changes | LIKE_EACH_OTHER, seeds=5, first_seed=FIRST_SEED)
    for name, model, changes in (
        (VAE, "vae", {"warmup_steps": STEPS // 4}),
        (PENALISED, "gan", {"r1": 0.3, "critic_rate": 1e-3, "learning_rate": 5e-4}),
        (PLAIN, "gan", {"r1": 0.0}),
    )
}


# -- measures --------------------------------------------------------------------------------------


def sharpness(images: np.ndarray) -> float:
    """Mean squared difference of neighbouring pixels, over their variance: blurring lowers it."""
    across, down = np.diff(images, axis=2), np.diff(images, axis=1)
    return float((np.square(across).mean() + np.square(down).mean()) / images.var())


def test_images(run: Trained) -> np.ndarray:
    """2,000 test images in grey levels, evenly spread over the set."""
    return evaluation.images_of(run.data.unbinarised.test, BATCH, 2000)


def sharpnesses(run: Trained) -> dict[str, float]:
    """Of 500 samples, and of the data."""
    return {
        "sharpness": sharpness(np.clip(samples(run, 500), 0, 1)),
        "sharpness of data": sharpness(test_images(run)),
    }


# -- what is read from them ------------------------------------------------------------------------


def claim_measures(numbers) -> list[Measure]:
    """Recall and sharpness of the two that are compared."""
    vae, gan = numbers[VAE], numbers[PENALISED]
    return [
        Measure("recall, VAE's minus that of the GAN with R1", vae["recall"] - gan["recall"]),
        Measure("sharpness of the data minus the VAE's samples'",
                vae["sharpness of data"] - vae["sharpness"]),
        Measure("sharpness, that of the GAN with R1 minus the VAE's",
                gan["sharpness"] - vae["sharpness"]),
    ]  # fmt: skip


def claim_rows(numbers) -> list[list[str]]:
    """Fidelity and sharpness by run."""
    shown = ("recall", "precision", "Frechet distance", "sharpness")
    head = ("recall", "precision", "Fréchet distance (mnist-features-v1)", "sharpness")
    data = ["data", "", "", "", f"{numbers[VAE]['sharpness of data'][0]:.4f}"]
    return [*rows_of(head, {name: [numbers[name][n] for n in shown] for name in RUNS}), data]


def draw_samples(runs, path) -> None:
    """Test images and samples of each."""
    rows = {name: samples(seeds[0], 12) for name, seeds in runs.items()}
    draw_rows({"data": test_images(runs[VAE][0])[:12]} | rows, path, "Samples", "first seed")


STUDY = Study(
    title="GAN: coverage and sharpness",
    runs=RUNS,
    measures={"*": (fidelity, sharpnesses)},
    page=lambda numbers: [],  # all that there is to say is the claim's
    claims=[
        Claim(
            name="vae_covers_gan_sharpens",
            statement="A VAE covers what a GAN drops, and its samples are blurrier",
            where="said by many; Goodfellow et al. 2014 on the first, Larsen et al. 2016 on the "
            "second",
            how="Dense networks of the same widths, 4,000 steps; the VAE of binarised images shows "
            "pixel means. The GAN that is compared has a gradient penalty at the data (R1): "
            "without, in the last row, its samples are no digits. Recall is the share of test "
            "images within the manifold of as many samples (k = 3, 2,000 each), in the features of "
            "a frozen network; sharpness the mean squared difference of neighbouring pixels over "
            "their variance.",
            runs=tuple(RUNS),
            measures=claim_measures,
            rows=claim_rows,
            published="no figure for this",
            picture="samples",
        )
    ],
    pictures={"samples": Picture(tuple(RUNS), draw_samples)},
)
