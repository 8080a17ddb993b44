"""The IAE's tasks on digits: clusters, few labels, the flipped form, translation between domains.

All rows are the digits presets but for what they say. A classifier trained on the digits says which
class a picture shows. Pictures are written beside the table.

    python experiments/tables/iae_digits.py
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from common import (
    BATCH,
    KEY,
    assessed,
    first_of_each_class,
    gather,
    holds,
    make,
    many_digits,
    parser,
    publish,
    shown,
    table,
    train,
)

from jaxae import evaluation
from jaxae.data import Data, Options, load
from jaxae.models import iae
from jaxae.models.iae.domains import to_other_domain
from jaxae.recipes import RECIPES
from jaxae.training import Model


@functools.cache
def data(labels: int = 0) -> Data:
    few = {"labels": labels, "labels_batch": 50} if labels else {}
    return load("digits", Options(dequantise=True, **few))


@functools.cache
def classifier() -> evaluation.Classifier:
    return evaluation.train_classifier(data())


def shows(images) -> np.ndarray:
    return classifier().logits(np.asarray(images)).argmax(1)


def images(split) -> np.ndarray:
    return evaluation.images_of(split, BATCH)


def trained(preset: str, seeds: int, steps: int, labels: int = 0, **changes):
    """The model of a preset with changes, and its states."""
    schedule = {"decay_steps": steps, "local_warmup": steps // 2}
    settings = RECIPES["iae"][preset]()
    model = make(iae, data(labels), **vars(settings.model) | schedule | changes)
    states, _ = train(model, data(labels), seeds, steps, log_every=100, eval_every=0,
                      save_every=10**6, batch_size=settings.plan.batch_size)  # fmt: skip
    return model, states


def measured(model: Model, states) -> dict[str, np.ndarray]:
    """`assess`, agreement of classes, and the distance of samples from images."""
    real, unseen = images(data().train), jnp.asarray(images(data().test))
    labels, features = np.asarray(data().test.labels), classifier().features

    def of(state):
        z = jax.jit(model.encode)(state, unseen, jax.random.key(KEY))
        named = shows(jax.jit(model.decode)(state, z, jax.random.key(KEY - 1))) == labels
        found = {"named": float(named.mean())}
        if model.sample:
            drawn = jax.jit(model.sample, static_argnums=2)(state, jax.random.key(KEY), len(real))
            found["distance"] = evaluation.frechet_distance(
                features(np.asarray(drawn)), features(real)
            )
        if model.predict:
            read = lambda split: np.asarray(
                jax.jit(model.predict)(state, jnp.asarray(images(split)), jax.random.key(KEY))
            )
            logits = read(data().test)
            found["error"] = float(np.mean(logits.argmax(1) != labels))
            found |= evaluation.cluster_errors(
                read(data().train), data().train.labels, logits, labels
            )
        return found

    return gather(states, of) | {
        name: np.float64(value) for name, value in assessed(model, states, data()).items()
    }


def cells(found: dict[str, np.ndarray], *names: str, digits: int = 2) -> list[str]:
    return [shown(found[name], digits) if name in found else "–" for name in names]


def draw(model: Model, state, z, first, name: str, note: str) -> str:
    return "\n" + many_digits(model, state, z, first, f"iae_digits_{name}", name, note)


def one_of_each() -> np.ndarray:
    return images(data().test)[first_of_each_class(data().test.labels)]


def clusters(seeds: int, steps: int) -> str:
    """A code of ten clusters; what keeps it from holding one."""
    rows, seen = [], {}
    for name, changes in {
        "as in the preset": {},
        "without the local code's growth": {"local_warmup": 0},
        "without R1 on codes": {"code_r1": 0.0},
        "encoder through the remade pair only (ns_neg)": {"recon_gan": "ns_neg"},
        "flipped": {"flipped": True},
    }.items():
        model, states = trained("digits-clusters", seeds, steps, **changes)
        seen[name] = found = measured(model, states)
        rows.append((name, *cells(found, "information", "majority_error", "max_confidence_error",
                                  "rho", "delta", "distance")))  # fmt: skip
        if not changes:
            note = "a row: a cluster, with eleven noises; a column: one noise"
            picture = draw(model, states[0], np.eye(10), [], "clusters", note)
    head = ("", "I(x; y), nats", "error, by majority", "error, by the surest", "rho", "delta",
            "FD of samples")  # fmt: skip
    ours = seen["as in the preset"]
    musts = [
        holds("0.9 log 10 ≤ I(x; y), every seed", 0.9 * np.log(10), ours["information"].min()),
        holds("1.5 ≤ rho, in the mean", 1.5, ours["rho"].mean()),
        holds("1 ≤ delta, in the mean", 1.0, ours["delta"].mean()),
    ]
    title = f"1. Ten clusters and n of 16, {steps} steps, mean ± deviation of {seeds} seeds"
    hopes = table("1. What was hoped for (thresholds are ours)", ("", "", ""), musts)
    return table(title, head, rows) + "\n" + hopes + picture


def codes(seeds: int, steps: int) -> str:
    """Continuous codes: the preset, its flipped form, and what noise and size do."""
    rows = []
    for name, changes in {
        "z 4, n 16": {},
        "without the local code's growth": {"local_warmup": 0},
        "noise of 8 for the encoder": {"noise": 8},
        "flipped": {"flipped": True},
        "flipped, noise of 8 for the encoder": {"flipped": True, "noise": 8},
        "z 16, no n": {"latent": 16, "local": 0},
    }.items():
        model, states = trained("digits", seeds, steps, **changes)
        found = measured(model, states)
        rows.append((name, *cells(found, "squared_error", "squared_change", "change_over_error",
                                  "named", "distance")))  # fmt: skip
        if not changes:
            x = one_of_each()
            z = jax.jit(model.encode)(states[0], jnp.asarray(x), jax.random.key(KEY))
            note = "a row: a test image, and its code with eleven noises; a column: one noise"
            picture = draw(model, states[0], z, [x], "z4-n16", note)
    head = ("", "E\\|x - x^\\|²", "E\\|x^ - x^'\\|²", "their quotient", "class kept",
            "FD of samples")  # fmt: skip
    title = f"2. Continuous codes, {steps} steps, mean ± deviation of {seeds} seeds"
    return table(title, head, rows) + picture


def labels(seeds: int, steps: int) -> str:
    """A head for each class, from 100 labels."""
    model, states = trained("digits-100", seeds, steps, labels=100)
    found = measured(model, states)
    seen = data(100).train.labelled
    pixels = lambda split: images(split).reshape(split.size, -1)
    right = evaluation.linear_probe(
        pixels(data().train)[seen], data().train.labels[seen], pixels(data().test),
        data().test.labels,
    )  # fmt: skip
    rows = [
        ("test error, %", shown(100 * found["error"], 1)),
        ("I(x; y), nats", shown(found["information"])),
        ("rho, delta", ", ".join(cells(found, "rho", "delta"))),
        ("pictures of their label's class, %", shown(100 * found["named"], 1)),
        ("test error of a logistic regression on the labelled pixels, %",
         f"{100 * (1 - right):.1f}"),
    ]  # fmt: skip
    note = "a row: a class, with eleven noises; a column: one noise"
    picture = draw(model, states[0], np.eye(10), [], "labels-100", note)
    return table(f"3. 100 labels, {steps} steps, {seeds} seeds", ("", ""), rows) + picture


def translation(seeds: int, steps: int) -> str:
    """CycleIAE from digits to another domain, whose images are made of other digits."""
    rows, pictures = [], []
    for domain in ("coarse", "rotated", "inverted"):
        model, states = trained("digits-translation", seeds, steps, domain=domain)
        found = measured(model, states)
        x = jnp.asarray(images(data().test))
        known = np.asarray(to_other_domain(domain, jnp.asarray(images(data().train))))
        own = np.asarray(to_other_domain(domain, x))

        def of(state, model=model, x=x, known=known, own=own):
            y = np.asarray(jax.jit(model.encode)(state, x, jax.random.key(KEY)))
            pick = lambda a: a[np.random.default_rng(0).permutation(len(a))[: len(y)]]
            energy = lambda a: evaluation.two_sample_test(a, pick(known), jax.random.key(KEY), 1)[
                "statistic"
            ]
            return {
                "energy": energy(y),
                "energy_of_x": energy(np.asarray(x).reshape(len(x), -1)),
                "energy_of_own": energy(own),
                "distance_to_own": np.mean(np.sum(np.square(y - own), 1)),
                "distance_to_another": np.mean(np.sum(np.square(y - np.roll(own, 1, 0)), 1)),
            }

        found |= gather(states, of)
        rows.append((domain, *cells(found, "energy"),
                     *(f"{found[key].mean():.2f}" for key in ("energy_of_own", "energy_of_x")),
                     *cells(found, "distance_to_own", "distance_to_another", "squared_error",
                            "change_over_error", "named")))  # fmt: skip
        few = one_of_each()
        y = jax.jit(model.encode)(states[0], jnp.asarray(few), jax.random.key(KEY))
        note = "a row: a test image, what it is translated to, and back with eleven noises"
        there = np.asarray(y).reshape(few.shape)
        pictures.append(draw(model, states[0], y, [few, there], f"cycle-{domain}", note))
    title = f"4. CycleIAE, {steps} steps, mean ± deviation of {seeds} seeds"
    head = ("other domain", "energy distance of y from it", "of its test images", "of x itself",
            "E\\|y - own\\|²", "E\\|y - another's\\|²", "E\\|x - x^\\|²", "E\\|x^ - x^'\\|² / that",
            "class kept")  # fmt: skip
    return (
        table(title, head, rows)
        + """
y is the translation of x; own is what the other domain makes of the very same x, which training
never shows beside it, and another's that of the next test image. Nothing in the game asks y to be
x's own.
"""
        + "".join(pictures)
    )


def main() -> None:
    parts = {"clusters": clusters, "codes": codes, "labels": labels, "translation": translation}
    args = parser(__doc__, tuple(parts), seeds=3, steps=4000).parse_args()
    publish("iae_digits", "The IAE on digits", {
        name: lambda name=name: parts[name](args.seeds, args.steps) for name in args.only
    }, len(args.only) == len(parts))  # fmt: skip


if __name__ == "__main__":
    main()
