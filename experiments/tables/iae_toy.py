"""The IAE on ones and twos (-3 e1 + u and 3 e1 + u in the plane, u normal), with a code of one bit.

Where the game ends I(x; y) = log 2, and both squared distances are 4; an autoencoder of squared
error has 2 and 0. Networks 64-64, batches of 256, Adam at 1e-3 with beta1 = 0.5. Beside it: a pair
critic that is blind to x, the flipped IAE, and posteriors that must tile a Gaussian prior.

    python experiments/tables/iae_toy.py
"""

from unittest import mock

import jax
import numpy as np
from common import KEY, assessed, gather, holds, make, on_test, parser, publish, shown, table, train

from jaxae import evaluation
from jaxae.data import Data, Options, from_arrays, load
from jaxae.models import iae
from jaxae.models.iae.networks import DenseReader

PLANE = {
    "task": "clustering", "clusters": 2, "local": 2, "widths": (64, 64), "output": "linear",
    "learning_rate": 1e-3, "critic_rate": 1e-3, "average": 0.0, "r1": 0.0,
}  # fmt: skip
R1 = 0.3  # in the plane's own units
FALLING = "ns_both, R1, falling rates and averages"
PLAN = {"batch_size": 256, "log_every": 200, "eval_every": 0, "save_every": 10**6}


def plane() -> tuple[Data, float]:
    """The data, standardised, and the variance of what it was before."""
    stored = load("ones_twos").train.arrays["image"].astype(np.float64)
    return load("ones_twos", Options(standardise=True)), (20 * stored.std()) ** 2


def rows(steps: int, unit: float) -> dict[str, dict]:
    """Fields of every row. R1's weight is of slopes per unit of the plane."""
    r1 = {"r1": R1 / unit}
    found = {"ns_both": {}, "ns_both, R1": r1}
    found[FALLING] = r1 | {"decay_steps": steps, "average": 0.99}
    found |= {name: {"recon_gan": name} for name in ("ns_pos", "ml", "ns_neg", "js", "rkl")}
    found["ns_neg, R1"] = r1 | {"recon_gan": "ns_neg"}
    return found | {"flipped, ns_both, R1": r1 | {"flipped": True}}


def accuracy(model, states, data) -> np.ndarray:
    """Test examples whose cluster is named after their kind, by majority: `[seeds]`."""
    predict = jax.jit(model.predict)

    def of(state):
        read = []
        for split in (data.train, data.test):
            read += [
                evaluation.over_split(
                    lambda s, batch, rng: predict(s, batch["image"], rng),
                    state, split, 2000, jax.random.key(KEY), 10_000, per_example=False,
                ),
                split.labels[evaluation.passes.evenly_spaced(split.size, 10_000)],
            ]  # fmt: skip
        return {"right": 1 - evaluation.cluster_errors(*read)["majority_error"]}

    return gather(states, of)["right"]


def options(seeds: int, steps: int) -> str:
    """Every choice of the makers' costs."""
    data, unit = plane()
    lines, seen = [], {}
    for name, fields in rows(steps, unit).items():
        model = make(iae, data, **PLANE | fields)
        states, _ = train(model, data, seeds, steps, **PLAN)
        found = assessed(model, states, data)
        found = {key: np.float64(value) for key, value in found.items()}
        found["squared_error"] *= unit
        found["squared_change"] *= unit
        found["right"] = accuracy(model, states, data)
        seen[name] = found
        each = lambda key, digits, found=found: " ".join(f"{v:.{digits}f}" for v in found[key])
        lines.append((name, each("information", 3), each("right", 3), each("squared_error", 1),
                      shown(found["squared_error"]), each("squared_change", 1),
                      shown(found["squared_change"])))  # fmt: skip
    head = ("row", "I(x; y), nats", "right kind", "E\\|x - x^\\|²", "mean", "E\\|x^ - x^'\\|²",
            "mean")  # fmt: skip
    must = []
    for name in ("ns_both, R1", FALLING):
        error, change = (seen[name][key].mean() for key in ("squared_error", "squared_change"))
        must += [
            holds(f"{name}: 0.68 ≤ I(x; y), every seed", 0.68, seen[name]["information"].min(), 3),
            holds(f"{name}: 99% ≤ right kind, every seed", 0.99, seen[name]["right"].min(), 3),
            holds(f"{name}: 3.2 ≤ mean E|x - x^|²".replace("|", "\\|"), 3.2, error),
            holds(f"{name}: mean E|x - x^|² ≤ 4.8".replace("|", "\\|"), error, 4.8),
            holds(f"{name}: 2 ≤ mean E|x^ - x^'|²".replace("|", "\\|"), 2, change),
        ]  # fmt: skip
    return (
        table(f"1. What decoder and encoder pay: {steps} steps, {seeds} seeds each", head, lines)
        + "\n"
        + table("1. What must hold (thresholds are ours)", ("", "", ""), must)
    )


class Blind(DenseReader):
    """A pair critic that does not see x; an encoder, which has two outputs here, does."""

    def __call__(self, x, v):
        return super().__call__(x * (self.out != 1), v)


def blind(seeds: int, steps: int) -> str:
    """Both pairs have the same code, so that it alone gives nothing away."""
    data, _ = plane()
    with mock.patch.object(iae.model, "DenseReader", Blind):
        model = make(iae, data, **PLANE | {"decay_steps": steps})
        _, last = train(model, data, seeds, steps, **PLAN)
    off = np.abs(last["critic_pair"] - 2 * np.log(2)).max()
    musts = [
        ("its cost", shown(last["critic_pair"], 4), ""),
        holds("from 2 log 2 = 1.3863, every seed", off, 0.005, 4),
    ]
    return table("2. A pair critic that is blind to x", ("", "", ""), musts)


def four_points() -> Data:
    """Four one-hot images, as often each."""
    images = np.float32(np.eye(4)).reshape(4, 2, 2, 1)
    kinds = np.arange(4000) % 4
    return from_arrays(images[kinds], kinds, images[kinds], kinds, Options(), levels=0)


def posteriors(seeds: int, steps: int) -> str:
    """q(z|x) of four points by a network that is fed with noise."""
    data, steps = four_points(), 2 * steps
    fields = {
        "latent": 2,
        "local": 0,
        "noise": 8,
        "widths": (128, 128),
        "r1": 0.1,
        "learning_rate": 5e-4,
        "critic_rate": 1e-3,
        "decay_steps": steps,
        "average": 0.99,
    }
    model = make(iae, data, **fields)
    states, _ = train(model, data, seeds, steps, **PLAN)
    encode = jax.jit(model.encode)
    x = next(data.test.examples(4000))[0]
    labels = np.asarray(x["label"])

    def of(state):
        z, other = (np.asarray(encode(state, x["image"], jax.random.key(KEY - i))) for i in (0, 1))
        prior = np.asarray(jax.jit(model.prior, static_argnums=1)(jax.random.key(7), 4000))
        test = evaluation.two_sample_test(z[:2000], prior[:2000], jax.random.key(8))
        return {"p": test["p_value"], "energy": test["statistic"],
                "information": information_in(z, other, labels),
                "right": evaluation.knn_probe(other, labels, z, labels)}  # fmt: skip

    found = gather(states, of)
    back = 2 * on_test(model, states, data)["loss"]
    lines = [
        ("I(x; z), nats, of log 4 = 1.386 (a lower bound)", shown(found["information"], 3), ""),
        ("codes from which 5 neighbours find the point", shown(found["right"], 3), ""),
        ("E\\|x - x^\\|² (1.5 where z says nothing)", shown(back, 3), ""),
        ("energy distance of q(z) and the prior", shown(found["energy"], 4), ""),
        ("p-values", " ".join(f"{p:.3f}" for p in found["p"]), ""),
        holds("0.9 log 4 ≤ I(x; z), every seed", 0.9 * np.log(4), found["information"].min(), 3),
        holds("0.01 ≤ p-value, every seed", 0.01, found["p"].min(), 3),
    ]
    return table(f"3. Four points, N(0, I) in the plane, {steps} steps", ("", "", ""), lines)


def information_in(z: np.ndarray, others: np.ndarray, labels: np.ndarray, k: int = 20) -> float:
    """I(x; z) from below: log 4 minus the cross-entropy of shares among k neighbours."""
    nearest = np.argsort(np.linalg.norm(z[:, None] - others[None], axis=2), axis=1)[:, :k]
    votes = (labels[nearest][:, :, None] == np.arange(4)).sum(1) + 0.25
    shares = votes / votes.sum(1, keepdims=True)
    return float(np.log(4) + np.log(shares[np.arange(len(z)), labels]).mean())


def main() -> None:
    parts = {"options": options, "blind": blind, "posteriors": posteriors}
    args = parser(__doc__, tuple(parts), seeds=4, steps=4000).parse_args()
    publish("iae_toy", "The IAE on toys", {
        name: lambda name=name: parts[name](args.seeds, args.steps) for name in args.only
    }, len(args.only) == len(parts))  # fmt: skip


if __name__ == "__main__":
    main()
