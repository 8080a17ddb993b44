"""VQ-VAE on MNIST: reconstruction against k-means, use of the codes, what the prior saves."""

import math

import numpy as np
from sklearn.cluster import KMeans
from studylib.declare import Picture, Run, Study, Trained
from studylib.pages import mean_std, requirement, table

from jaxae import evaluation
from studies.common import BATCH, on_test_and_assessed, probes

OURS, CODES = "VQ-VAE", 64


def of_clusters(run: Trained) -> dict[str, float]:
    """Squared error per pixel of k-means and of the mean image, on binarised test images."""
    train, test = (evaluation.pixels_of(split, BATCH) for split in (run.data.train, run.data.test))
    found = KMeans(run.settings.model.codes, n_init=1, max_iter=50, random_state=0).fit(train)
    nearest = found.cluster_centers_[found.predict(test)]
    return {
        "k-means": float(np.square(test - nearest).mean()),
        "mean image": float(np.square(test - train.mean(0)).mean()),
    }


def page(numbers):
    """The numbers and what is expected of them."""
    of = numbers[OURS]
    mean = {name: values.mean() for name, values in of.items()}
    parts = ("uniform", "unigram", "prior")
    rates = {part: mean[f"rate_{part}"] for part in parts}
    places = rates["uniform"] / math.log(CODES)
    yield table("Numbers", ("", "ours"), [
        ("squared error per pixel, VQ-VAE", mean_std(of["squared_error"], 4)),
        (f"squared error per pixel, k-means of {CODES}", mean_std(of["k-means"], 4)),
        ("squared error per pixel, mean image", mean_std(of["mean image"], 4)),
        ("distortion", mean_std(of["distortion"])),
        *((f"rate, {part}", f"{rate:.2f} ({rate / places:.3f} a code)")
          for part, rate in rates.items()),
        *((f"bits/dim, {part}", mean_std(of[f"bits_per_dim_{part}"], 4)) for part in parts),
        ("share of codes used, training set", mean_std(of["codes_used_train"])),
        ("share of codes used, test set", mean_std(of["codes_used_test"])),
        ("perplexity, training set", mean_std(of["perplexity_train"])),
        ("linear probe on z_e", mean_std(of["linear probe"], 4)),
    ], f"Test set, nats per image, {places:.0f} codes of {CODES} for an image. Distortion and a "
       "rate together bound -log p(x). The unigram charges each code by its frequency on the "
       "training set. k-means: one start, on the binarised training images.")  # fmt: skip
    yield table("What was expected of it", ["", "", ""], [
        requirement("squared error: VQ-VAE below k-means", mean["squared_error"], mean["k-means"],
                    4),
        requirement("more than half of the codes used", 0.5, mean["codes_used_test"]),
        requirement("with restarts no code of the training set is dead", 1.0,
                    mean["codes_used_train"]),
        requirement("rate: prior below unigram", rates["prior"], rates["unigram"]),
        requirement("rate: unigram below uniform", rates["unigram"], rates["uniform"]),
    ])  # fmt: skip
    yield "![samples](vqvae-samples.png)"


def draw_samples(runs, path) -> None:
    """Samples of the prior."""
    run = runs[OURS][0]
    evaluation.draw_samples(run.model, run.state, path, run.rng())


STUDY = Study(
    title="VQ-VAE on MNIST",
    runs={OURS: Run("vqvae", "mnist")},
    measures={OURS: (on_test_and_assessed, probes, of_clusters)},
    page=page,
    pictures={"samples": Picture((OURS,), draw_samples)},
)
