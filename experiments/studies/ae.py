"""Autoencoders against PCA: squared error per image on digits and MNIST.

Expected numbers were measured by an independent program in the same setting (one seed); those of
PCA are exact. The rows with machines pretrain each layer as a restricted Boltzmann machine.
"""

import numpy as np
from scipy.linalg import subspace_angles
from studylib.declare import FIRST_SEED, Claim, Measure, Picture, Run, Study, Trained
from studylib.pages import mean_std, near, requirement, rows_of, table

from jaxae import evaluation
from jaxae.models.shared import pca
from studies.common import assessed, decoded, draw_rows

LINEAR, RELU, GLOROT = "linear AE, 8 units", "ReLU, He start", "sigmoid, Glorot start"
LAYERS = "sigmoid, machines (30 epochs a layer), before fine-tuning"
TUNED = "sigmoid, machines, then the same fine-tuning"
OURS, PLANE, GLOROT_30 = "ReLU, He, 30 units", "ReLU, He, 2 units", "sigmoid, Glorot, 30 units"
TUNED_30 = "sigmoid, machines (3 epochs a layer), 30 units"
LAYERS_30 = f"{TUNED_30}, before fine-tuning"
DEEP = {"activation": "sigmoid", "init": "glorot"}
MACHINES = {"pretrain_steps": 660, "rbm_slow_steps": 110}  # 30 epochs of a layer, 5 of them slow
ERROR = "squared_error_test"
EPOCH, STEPS = 60_000 // 128, 2500  # on MNIST
SHORT = {"steps": STEPS, "decay_steps": STEPS}
BEFORE_30 = {"activation": "sigmoid", "init": "rbm", "pretrain_steps": 3 * EPOCH,
             "steps": 12 * EPOCH, "decay_steps": STEPS}  # fmt: skip
# Runs, the test error that is expected, and the tolerance.
ON_DIGITS = {
    GLOROT: (Run("ae", "digits", DEEP), 2.48, 0.4),
    LAYERS: (Run("ae", "digits-rbm", {**MACHINES, "steps": 4 * 660}), 2.29, 0.4),
    TUNED: (Run("ae", "digits-rbm", {**MACHINES, "steps": 4 * 660 + 4000}), 0.653, 0.15),
    RELU: (Run("ae", "digits"), None, 0.0),
}
ON_MNIST = {
    OURS: (Run("ae", "mnist", SHORT, seeds=5, first_seed=FIRST_SEED), 4.88, 0.4),
    PLANE: (Run("ae", "mnist", {"latent": 2, **SHORT}), 29.1, 2.0),
    GLOROT_30: (Run("ae", "mnist", {**DEEP, **SHORT}), 33.5, 5.0),
    LAYERS_30: (Run("ae", "mnist", BEFORE_30), 20.5, 4.0),
    TUNED_30: (Run("ae", "mnist", {**BEFORE_30, "steps": 12 * EPOCH + STEPS}), 5.50, 0.6),
}
AS_PCA = Run("ae", "digits", {
    "widths": (), "loss": "mse", "output": "linear", "init": "glorot", "learning_rate": 1e-2,
    "batch_size": 1437, "steps": 8000, "decay_steps": 8000,
})  # fmt: skip
ALL = {LINEAR: (AS_PCA, 1.577, 0.016), **ON_DIGITS, **ON_MNIST}


def angle_to_pca(run: Trained) -> dict[str, float]:
    """The largest angle between a linear decoder's subspace and that of the first components."""
    axes = pca.fit(run.data.train).axes[:, : run.settings.model.latent]
    kernel = np.float64(run.state.params["dec"]["layer_0"]["kernel"])
    return {"largest angle": float(subspace_angles(kernel.T, axes).max())}


def errors(numbers, names) -> list[tuple[str, ...]]:
    """Two rows for each run: training and test error."""
    rows = []
    for name in names:
        rows.append((name, "train", mean_std(numbers[name]["squared_error_train"], 3), "", ""))
        rows.append((name, "test", *near(numbers[name][ERROR], *ALL[name][1:], 3)))
    return rows


def page(numbers):
    """The errors and what is expected of them."""
    head = ("row", "number", "ours", "expected", "")
    error = {name: numbers[name][ERROR].mean() for name in ALL}
    of_pca = {name: numbers[name][f"{ERROR}_pca"].mean() for name in ALL}
    eight = ("PCA, 8 components", "test", *near(of_pca[LINEAR], 1.577, 0.001, 3))
    yield table("1. Digits, a linear AE is PCA", head, [*errors(numbers, [LINEAR]), eight])
    linear = numbers[LINEAR]
    yield table("1. What was expected of it", ["", "", ""], [
        requirement("distance from PCA's test error ≤ 1 %",
                    abs(linear["share_of_pca_test"] - 1).max(), 0.01, 4),
        requirement("largest principal angle ≤ 0.01", linear["largest angle"].max(), 0.01, 4),
    ])  # fmt: skip
    yield table("2. Digits, 64-256-128-64-8, 4,000 steps", head,
                [*errors(numbers, ON_DIGITS), eight])  # fmt: skip
    yield table("2. What was expected of it", ["", "", ""], [
        requirement("with machines ≤ 0.8", error[TUNED], 0.8, 3),
        requirement("PCA ≤ Glorot start without them", of_pca[RELU], error[GLOROT], 3),
    ])  # fmt: skip
    yield table(f"3. MNIST, 784-1000-500-250-Z, {STEPS:,} steps of batch 128", head, [
        ("PCA, 2 components", "test", *near(of_pca[PLANE], 43.64, 0.01)),
        ("PCA, 30 components", "test", *near(of_pca[OURS], 13.87, 0.01)),
        *errors(numbers, ON_MNIST),
    ])  # fmt: skip
    yield table("3. What was expected of it", ["", "", ""], [
        requirement("ReLU, 30 units ≤ 5.5", error[OURS], 5.5),
        requirement("ReLU, 30 units, as a share of PCA ≤ 0.4", error[OURS] / of_pca[OURS], 0.4),
        requirement("ReLU, 2 units ≤ PCA", error[PLANE], of_pca[PLANE]),
        requirement("machines ≤ PCA", error[TUNED_30], of_pca[OURS]),
        requirement("PCA ≤ sigmoid without machines", of_pca[OURS], error[GLOROT_30]),
    ])  # fmt: skip


def draw_both(runs, path) -> None:
    """Test images through the AE's code and through as many principal components."""
    run = runs[OURS][0]
    pixels = evaluation.pixels_of(run.data.test, 500, 10)
    image = pixels.reshape(10, *run.data.spec.image_shape)
    projected = pca.fit(run.data.train).reconstruct(pixels, 30).reshape(image.shape)
    back = decoded(run, run.model.encode(run.state, image, run.rng()))
    rows = {"image": image, "AE": back, "PCA": projected}
    draw_rows(rows, path, "Through a small code", "test images; 30 numbers each")


CLAIM = Claim(
    name="ae_beats_pca",
    statement="A deep autoencoder reconstructs better than PCA with as many numbers",
    where="Hinton & Salakhutdinov 2006, with 784-1000-500-250-30 on MNIST",
    how=f"AE 784-1000-500-250-30, {STEPS:,} steps of Adam, no pretraining, beside PCA; "
    "squared error summed over pixels, averaged over the test images.",
    runs=(OURS,),
    measures=lambda numbers: [
        Measure("squared error of PCA minus the AE's",
                numbers[OURS][f"{ERROR}_pca"] - numbers[OURS][ERROR], "per image")
    ],
    rows=lambda numbers: rows_of(["squared error per test image"], {
        "AE": [numbers[OURS][ERROR]], "PCA, 30": [numbers[OURS][f"{ERROR}_pca"]]
    }),
    published="MNIST, 30 numbers: 3.00 (recalled) against PCA's 13.87",
    picture="codes",
)  # fmt: skip
STUDY = Study(
    title="Autoencoders against PCA, squared error per image",
    runs={name: run for name, (run, *_) in ALL.items()},
    measures={"*": (assessed,), LINEAR: (angle_to_pca,)},
    page=page,
    claims=[CLAIM],
    pictures={"codes": Picture((OURS,), draw_both)},
)
