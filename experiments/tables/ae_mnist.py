"""Autoencoders against PCA: squared error per image on digits and MNIST, with and without machines.

Sections 1, 2 and 4 of the acceptance list. Expected numbers were measured by an independent program
in the same setting (one seed); those of PCA are exact. MNIST is read from `--data-dir` or
$JAXAE_DATA_DIR: 2,500 steps of batch 128, Adam 1e-3 with a cosine, 784-1000-500-250-Z.

    python experiments/tables/ae_mnist.py --data-dir <folder that holds mnist/>
"""

import numpy as np
from common import against, assessed, digits, holds, make, parser, publish, shown, table, train
from scipy.linalg import subspace_angles

from jaxae.data import load
from jaxae.models import ae
from jaxae.models.shared import pca

DEEP = {"activation": "sigmoid", "init": "glorot"}
HEAD = ("row", "number", "ours", "expected", "")


def errors(rows, row, model, states, data, expected=None, tolerance=0.0):
    """Adds a model's train and test error to the rows; returns what `assess` found."""
    found = assessed(model, states, data)
    rows.append((row, "train", shown(found["squared_error_train"], 3), "", ""))
    numbers = against(found["squared_error_test"], expected, tolerance, 3)
    return rows.append((row, "test", *numbers)) or found


def linear(seeds: int, steps: int, data_dir) -> str:
    """A linear AE of 8 units on digits finds the principal subspace."""
    data, rows = digits("none"), []
    model = make(ae, data, widths=(), loss="mse", output="linear", init="glorot",
                 learning_rate=1e-2, decay_steps=8000)  # fmt: skip
    states, _ = train(model, data, seeds, 8000, batch_size=1437, eval_every=0, log_every=500)
    found = errors(rows, "linear AE, 8 units", model, states, data, 1.577, 0.016)
    best = found["squared_error_test_pca"].mean()
    rows.append(("PCA, 8 components", "test", *against(best, 1.577, 0.001, 3)))
    axes = pca.fit(data.train).axes[:, :8]
    angles = [
        subspace_angles(np.float64(s.params["dec"]["layer_0"]["kernel"]).T, axes).max()
        for s in states
    ]
    musts = [
        holds("distance from PCA's test error ≤ 1 %",
              abs(found["share_of_pca_test"] - 1).max(), 0.01, 4),
        holds("largest principal angle ≤ 0.01", max(angles), 0.01, 4),
    ]  # fmt: skip
    return table("1. Digits, a linear AE is PCA", HEAD, rows) + "\n" + table(
        "1. What must hold", ("", "", ""), musts)  # fmt: skip


def claim(seeds: int, steps: int, data_dir) -> str:
    """Deep sigmoid networks on digits with and without pretraining."""
    data, rows = digits("none"), []
    model = make(ae, data, **DEEP, decay_steps=4000)
    states, _ = train(model, data, seeds, 4000, eval_every=0)
    plain = errors(rows, "sigmoid, Glorot start", model, states, data, 2.48, 0.4)
    per_layer = 660
    fields = DEEP | {"init": "rbm", "pretrain_steps": per_layer, "rbm_slow_steps": 110}
    model = make(ae, data, **fields, decay_steps=4000)
    before, _ = train(model, data, seeds, 4 * per_layer, eval_every=0, log_every=110)
    errors(rows, "sigmoid, machines (30 epochs a layer), before fine-tuning", model, before, data,
           2.29, 0.4)  # fmt: skip
    states, _ = train(model, data, seeds, 4 * per_layer + 4000, eval_every=0, log_every=80)
    found = errors(rows, "sigmoid, machines, then the same fine-tuning", model, states, data,
                   0.653, 0.15)  # fmt: skip
    model = make(ae, data, decay_steps=4000)
    states, _ = train(model, data, seeds, 4000, eval_every=0)
    errors(rows, "ReLU, He start", model, states, data)
    best = found["squared_error_test_pca"].mean()
    rows.append(("PCA, 8 components", "test", *against(best, 1.577, 0.001, 3)))
    musts = [
        holds("with machines ≤ 0.8", found["squared_error_test"].mean(), 0.8, 3),
        holds("PCA ≤ Glorot start without them", best, plain["squared_error_test"].mean(), 3),
    ]
    title = f"2. Digits, 64-256-128-64-8, 4,000 steps, {seeds} seeds"
    return table(title, HEAD, rows) + "\n" + table("2. What must hold", ("", "", ""), musts)


def mnist(seeds: int, steps: int, data_dir) -> str:
    """AE against PCA on MNIST's test set."""
    data, rows, epoch = load("mnist", data_dir=data_dir), [], 60_000 // 128
    sizes = {"widths": (1000, 500, 250), "decay_steps": steps}
    every = {"batch_size": 128, "eval_every": 0}
    components, tests = pca.fit(data.train), {}
    for latent, expected in ((2, 43.64), (30, 13.87)):
        error = pca.mean_squared_error(components, data.test, latent)
        rows.append((f"PCA, {latent} components", "test", *against(error, expected, 0.01, 2)))
        tests[f"PCA {latent}"] = error
    for row, fields, expected, tolerance in (
        ("ReLU, He, 30 units", {"latent": 30}, 4.88, 0.4),
        ("ReLU, He, 2 units", {"latent": 2}, 29.1, 2.0),
        ("sigmoid, Glorot, 30 units", DEEP | {"latent": 30}, 33.5, 5.0),
    ):
        model = make(ae, data, **sizes, **fields)
        states, _ = train(model, data, seeds, steps, **every)
        tests[row] = errors(rows, row, model, states, data, expected, tolerance)
    fields = DEEP | {"latent": 30, "init": "rbm", "pretrain_steps": 3 * epoch}
    model = make(ae, data, **sizes, **fields)
    row = "sigmoid, machines (3 epochs a layer), 30 units"
    states, _ = train(model, data, seeds, 12 * epoch, **every, log_every=117)
    errors(rows, f"{row}, before fine-tuning", model, states, data, 20.5, 4.0)
    states, _ = train(model, data, seeds, 12 * epoch + steps, **every, log_every=4)
    tests[row] = errors(rows, row, model, states, data, 5.50, 0.6)
    error = {name: np.mean(found["squared_error_test"]) if isinstance(found, dict) else found
             for name, found in tests.items()}  # fmt: skip
    musts = [
        holds("ReLU, 30 units ≤ 5.5", error["ReLU, He, 30 units"], 5.5),
        holds("ReLU, 30 units, as a share of PCA ≤ 0.4",
              error["ReLU, He, 30 units"] / error["PCA 30"], 0.4),
        holds("ReLU, 2 units ≤ PCA", error["ReLU, He, 2 units"], error["PCA 2"]),
        holds("machines ≤ PCA", error[row], error["PCA 30"]),
        holds("PCA ≤ sigmoid without machines", error["PCA 30"],
              error["sigmoid, Glorot, 30 units"]),
    ]  # fmt: skip
    title = f"4. MNIST, 784-1000-500-250-Z, {steps} steps of batch 128"
    return table(title, HEAD, rows) + "\n" + table("4. What must hold", ("", "", ""), musts)


def main() -> None:
    parts = {"linear": linear, "claim": claim, "mnist": mnist}
    flags = parser(__doc__, tuple(parts), seeds=1, steps=2500)
    flags.add_argument("--data-dir", help="folder that holds mnist/ (default: $JAXAE_DATA_DIR)")
    args = flags.parse_args()
    publish("ae_mnist", "Autoencoders against PCA, squared error per image", {
        name: lambda name=name: parts[name](args.seeds, args.steps, args.data_dir)
        for name in args.only
    }, len(args.only) == len(parts))  # fmt: skip


if __name__ == "__main__":
    main()
