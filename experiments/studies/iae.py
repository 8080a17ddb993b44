"""IAE: are reconstructions draws of q(x|z), and what does the size of a code leave to chance?

On toys whose optimum is known, on the 8x8 digits and on MNIST. Sizes of codes on MNIST are recalled
of the paper; networks, schedules and thresholds are ours. There the decoder is without noise for
half of the steps and the pair critic sees a tenth of z, because otherwise the codes come to say
nothing in so few steps; one row shows the first of the two. A classifier says what images show.
"""

from itertools import pairwise
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from studylib.declare import FIRST_SEED, Claim, Measure, Picture, Run, Study, Trained
from studylib.pages import cells, mean_std, required, requirement, rows_of, table

from jaxae import evaluation
from jaxae.data import load
from jaxae.data.ones_twos import PLANE
from jaxae.models import iae
from jaxae.models.iae.domains import to_other_domain
from jaxae.models.iae.networks import DenseReader
from studies import common
from studies.common import assessed, images

CONSTANT = {"decay_steps": 0, "average": 0.0}
NO_R1 = {"r1": 0.0}
FALLING = "ns_both, R1, falling rates and averages"
TOYS = {
    "ns_both": CONSTANT | NO_R1,
    "ns_both, R1": CONSTANT,
    FALLING: {},
    **{name: CONSTANT | NO_R1 | {"recon_gan": name}
       for name in ("ns_pos", "ml", "ns_neg", "js", "rkl")},
    "ns_neg, R1": CONSTANT | {"recon_gan": "ns_neg"},
    "flipped, ns_both, R1": CONSTANT | {"flipped": True},
}  # fmt: skip
BLIND, FOUR = "a pair critic blind to x", "four points"
POINTS = 4000  # of `FOUR`, 1,000 of each
TILING = {"latent": 2, "local": 0, "noise": 8, "widths": (128, 128), "r1": 0.1, "average": 0.99,
          "learning_rate": 5e-4, "critic_rate": 1e-3, "batch_size": 256, "steps": 8000,
          "decay_steps": 8000}  # fmt: skip
CLUSTERS = {
    "clusters": {},
    "clusters, local code at once": {"local_warmup": 0},
    "clusters, no R1 on codes": {"code_r1": 0.0},
    "clusters, encoder through the remade pair only (ns_neg)": {"recon_gan": "ns_neg"},
    "clusters, flipped": {"flipped": True},
}
CODES = {
    "z 4, n 16": {},
    "z 4, n 16, local code at once": {"local_warmup": 0},
    "z 4, n 16, noise of 8 for the encoder": {"noise": 8},
    "z 4, n 16, flipped": {"flipped": True},
    "z 4, n 16, flipped, noise of 8 for the encoder": {"flipped": True, "noise": 8},
    "z 16, no n": {"latent": 16, "local": 0},
}
FEW = "100 labels"
DOMAINS = {"coarse": {}, "rotated": {"domain": "rotated"}, "inverted": {"domain": "inverted"}}
SHORT = {"steps": 6000, "decay_steps": 6000}
LATE = SHORT | {"local_start": 3000, "local_warmup": 2000}
SIZES = {  # on MNIST
    "MNIST, z 20, no n": LATE | {"latent": 20, "local": 0},
    "MNIST, z 10, n 100": LATE,
    "MNIST, z 5, n 100": LATE | {"latent": 5},
}
SMALL, LARGE = "MNIST, z 5, n 100", "MNIST, z 20, n 100"
AT_ONCE = "MNIST, z 10, n 100, noise grows at once"
GIVEN = "MNIST, the label as code, n 32"
OF_GIVEN = SHORT | {"task": "given", "local": 32, "local_start": 0, "local_warmup": 0,
                    "code_scale": 1.0}  # fmt: skip
CHANCE = 0.1


class Blind(DenseReader):
    """A pair critic that does not see x; an encoder, which has two outputs here, does."""

    def __call__(self, x, v):
        return super().__call__(x * (self.out != 1), v)


def blind(config, spec):
    """Both pairs have the same code, so that it alone gives nothing away."""
    with mock.patch.object(iae.model, "DenseReader", Blind):
        return iae.make(config, spec)


def points(count: int) -> jax.Array:
    """Four one-hot images, in turn, `[count, 2, 2, 1]`."""
    return jax.nn.one_hot(jnp.arange(count) % 4, 4).reshape(-1, 2, 2, 1)


def four_points(config, spec):
    """An IAE of four points, a quarter of each batch each, in the place of the data's images."""
    mean = np.full((2, 2, 1), 0.25, np.float32)
    model = iae.make(config, spec._replace(image_shape=(2, 2, 1), levels=0, mean=mean))
    replaced = lambda batch: batch | {"image": points(len(batch["image"]))}
    return model._replace(
        step=lambda state, batch, *rest: model.step(state, replaced(batch), *rest),
        evaluate=lambda state, batch, rng: model.evaluate(state, replaced(batch), rng),
    )


def runs(rows, recipe, prefix="", **of) -> dict[str, Run]:
    """A run for each row, by the row's name."""
    return {prefix + name: Run("iae", recipe, changes, **of) for name, changes in rows.items()}


RUNS = {
    **runs(TOYS, "ones-twos", seeds=4),
    BLIND: Run("iae", "ones-twos", seeds=4, make=blind),
    FOUR: Run("iae", "digits", TILING, seeds=4, make=four_points),
    **runs(CLUSTERS, "digits-clusters", seeds=3),
    **runs(CODES, "digits", seeds=3),
    FEW: Run("iae", "digits-100", seeds=3),
    **runs(DOMAINS, "digits-translation", "CycleIAE, ", seeds=3),
    **runs(SIZES, "mnist", first_seed=FIRST_SEED),
    AT_ONCE: Run("iae", "mnist", LATE | {"local_start": 0}, first_seed=FIRST_SEED),
    GIVEN: Run("iae", "mnist", OF_GIVEN, first_seed=FIRST_SEED),
    SMALL: Run("iae", "mnist", SIZES[SMALL], 3, FIRST_SEED),
    LARGE: Run("iae", "mnist", LATE | {"latent": 20}, 3, FIRST_SEED),
}


# -- measures --------------------------------------------------------------------------------------


def in_the_plane(run: Trained) -> dict[str, float]:
    """The squared distances of `assess` in units of the plane, whose points are standardised."""
    unit = (PLANE.span * images(load(run.data.name).train).std(dtype=np.float64)) ** 2
    of = assessed(run)
    return {"error": of["squared_error"] * unit, "change": of["squared_change"] * unit,
            "nats": of["information"]}  # fmt: skip


def tiling(run: Trained) -> dict[str, float]:
    """How the posteriors of four points tile their prior, and whether they are told apart."""
    x, labels = points(POINTS), np.arange(POINTS) % 4
    encode = jax.jit(run.model.encode)
    keys = jax.random.split(run.rng(), 5)
    z, other = (np.asarray(encode(run.state, x, key)) for key in keys[:2])
    prior = np.asarray(run.model.prior(keys[2], POINTS))
    test = evaluation.two_sample_test(z[:2000], prior[:2000], keys[3])
    back = jax.jit(run.model.decode)(run.state, z, keys[4])
    return {
        "energy": test["statistic"],
        "p": test["p_value"],
        "nats": information_in(z, other, labels),
        "5-NN": evaluation.knn_probe(other, labels, z, labels),
        "error": np.mean(np.sum(np.square(back - x), (1, 2, 3))),
    }


def information_in(z: np.ndarray, others: np.ndarray, labels: np.ndarray, k: int = 20) -> float:
    """I(x; z) from below: log 4 minus the cross-entropy of shares among k neighbours."""
    nearest = np.argsort(np.linalg.norm(z[:, None] - others[None], axis=2), axis=1)[:, :k]
    votes = (labels[nearest][:, :, None] == np.arange(4)).sum(1) + 0.25
    shares = votes / votes.sum(1, keepdims=True)
    return float(np.log(4) + np.log(shares[np.arange(len(z)), labels]).mean())


def codes_of(run: Trained, x, labels, rng) -> jax.Array:
    """Codes of images, or their labels where these are the code."""
    if run.model.encode is None:
        return jax.nn.one_hot(labels, run.data.spec.classes)
    return jax.jit(run.model.encode)(run.state, jnp.asarray(x), rng)


def classes_kept(run: Trained) -> dict[str, float]:
    """Reconstructions of the class that the classifier sees in the image, and of its label."""
    x, labels = images(run.data.test), np.asarray(run.data.test.labels)
    of_code, of_image = jax.random.split(run.rng())
    back = jax.jit(run.model.decode)(run.state, codes_of(run, x, labels, of_code), of_image)
    classifier = common.classifier(run.data)
    seen, first = classifier.logits(back).argmax(1), classifier.logits(x).argmax(1)
    return {"class kept": np.mean(seen == first), "label kept": np.mean(seen == labels),
            "classifier": classifier.test_accuracy}  # fmt: skip


def of_samples(run: Trained) -> dict[str, float]:
    """Frechet distance of the classifier's features, of samples from training images."""
    real = evaluation.images_of(run.data.train, common.BATCH, 10_000)
    features = common.classifier(run.data).features
    made = features(common.samples(run, len(real)))
    return {"FD of samples": evaluation.frechet_distance(made, features(real))}


def translated(run: Trained) -> dict[str, float]:
    """Translations of test images against the other domain, which is made of known images."""
    x = jnp.asarray(images(run.data.test))
    other = lambda x: np.asarray(to_other_domain(run.settings.model.domain, jnp.asarray(x)))
    own, known = other(x), common.at_random(other(images(run.data.train)), len(x))
    y = np.asarray(codes_of(run, x, None, run.rng()))
    energy = lambda a: evaluation.two_sample_test(a, known, run.rng(), 1)["statistic"]
    distance = lambda other: np.mean(np.sum(np.square(y - other), 1))
    return {
        "energy of y": energy(y),
        "energy of own": energy(own),
        "energy of x": energy(np.asarray(x).reshape(len(x), -1)),
        "distance to own": distance(own),
        "distance to another's": distance(np.roll(own, 1, 0)),
    }


MEASURES = {
    **dict.fromkeys(TOYS, (in_the_plane, common.cluster_errors)),
    BLIND: (common.last_training_metrics,),
    FOUR: (tiling,),
    **dict.fromkeys(CLUSTERS, (assessed, common.cluster_errors, of_samples)),
    **dict.fromkeys([*CODES, *SIZES, AT_ONCE, GIVEN, LARGE], (assessed, classes_kept, of_samples)),
    FEW: (assessed, classes_kept, common.label_errors),
    **{f"CycleIAE, {name}": (assessed, classes_kept, translated) for name in DOMAINS},
}


# -- what is read from them ------------------------------------------------------------------------


def page(numbers):
    """Toys, digits, MNIST."""
    yield from on_toys(numbers)
    yield from on_digits(numbers)
    yield from on_mnist(numbers)


def on_toys(numbers):
    """Two kinds of points in the plane, and four points."""
    each = lambda values, digits: " ".join(f"{value:.{digits}f}" for value in values)
    rows, musts = [], []
    for name in TOYS:
        of = numbers[name]
        rows.append([name, each(of["nats"], 3), each(1 - of["majority_error"], 3),
                     each(of["error"], 1), mean_std(of["error"]), each(of["change"], 1),
                     mean_std(of["change"])])  # fmt: skip
    yield table(
        "Ones and twos (-3 e1 + u and 3 e1 + u, u normal) by a code of one bit",
        ["row", "I(x; y), nats", "right kind", "E\\|x - x^\\|²", "mean", "E\\|x^ - x^'\\|²",
         "mean"],
        rows,
        "Where the game ends I(x; y) = log 2 and both squared distances are 4; an autoencoder of "
        "squared error has 2 and 0.",
    )  # fmt: skip
    for name in ("ns_both, R1", FALLING):
        of = numbers[name]
        musts += [
            requirement(f"{name}: 0.68 ≤ I(x; y), every seed", 0.68, of["nats"].min(), 3),
            requirement(f"{name}: 99% ≤ right kind, every seed", 0.99,
                        1 - of["majority_error"].max(), 3),
            requirement(f"{name}: 3.2 ≤ mean E\\|x - x^\\|²", 3.2, of["error"].mean()),
            requirement(f"{name}: mean E\\|x - x^\\|² ≤ 4.8", of["error"].mean(), 4.8),
            requirement(f"{name}: 2 ≤ mean E\\|x^ - x^'\\|²", 2, of["change"].mean()),
        ]  # fmt: skip
    yield required(*musts)
    loss = numbers[BLIND]["last critic_pair"]
    yield table("A pair critic that is blind to x", ["", "", ""], [
        ["its cost", mean_std(loss, 4), ""],
        requirement("from 2 log 2 = 1.3863, every seed", np.abs(loss - 2 * np.log(2)).max(),
                    0.005, 4),
    ])  # fmt: skip
    of = numbers[FOUR]
    yield table("Four points, N(0, I) in the plane", ["", "", ""], [
        ["I(x; z), nats, of log 4 = 1.386 (a lower bound)", mean_std(of["nats"], 3), ""],
        ["codes from which 5 neighbours find the point", mean_std(of["5-NN"], 3), ""],
        ["E\\|x - x^\\|² (1.5 where z says nothing)", mean_std(of["error"], 3), ""],
        ["energy distance of q(z) and the prior", mean_std(of["energy"], 4), ""],
        ["p-values", each(of["p"], 3), ""],
        requirement("0.9 log 4 ≤ I(x; z), every seed", 0.9 * np.log(4), of["nats"].min(), 3),
        requirement("0.01 ≤ p-value, every seed", 0.01, of["p"].min(), 3),
    ])  # fmt: skip


def on_digits(numbers):
    """Clusters, continuous codes, few labels, translation."""
    rows = lambda names, shown: [
        [name.removeprefix("CycleIAE, "), *cells(numbers[name], shown)] for name in names
    ]
    yield table(
        "Digits: ten clusters and n of 16",
        ["", "I(x; y), nats", "error, by majority", "error, by the surest", "rho", "delta",
         "FD of samples"],
        rows(CLUSTERS, dict.fromkeys(("information", "majority_error", "max_confidence_error",
                                      "rho", "delta", "FD of samples"), 2)),
    )  # fmt: skip
    ours = numbers["clusters"]
    yield required(
        requirement("0.9 log 10 ≤ I(x; y), every seed", 0.9 * np.log(10),
                    ours["information"].min()),
        requirement("1.5 ≤ rho, in the mean", 1.5, ours["rho"].mean()),
        requirement("1 ≤ delta, in the mean", 1.0, ours["delta"].mean()),
    )  # fmt: skip
    yield table(
        "Digits: continuous codes",
        ["", "E\\|x - x^\\|²", "E\\|x^ - x^'\\|²", "their quotient", "class kept",
         "FD of samples"],
        rows(CODES, dict.fromkeys(("squared_error", "squared_change", "change_over_error",
                                   "label kept", "FD of samples"), 2)),
    )  # fmt: skip
    of = numbers[FEW]
    yield table("Digits: 100 labels", ["", ""], [
        ["test error, %", mean_std(100 * of["label error"], 1)],
        ["I(x; y), nats", mean_std(of["information"])],
        ["rho, delta", ", ".join(cells(of, {"rho": 2, "delta": 2}))],
        ["pictures of their label's class, %", mean_std(100 * of["label kept"], 1)],
        ["test error of a logistic regression on the labelled pixels, %",
         f"{100 * of['label error of pixels'][0]:.1f}"],
    ])  # fmt: skip
    yield table(
        "Digits: CycleIAE to another domain",
        ["other domain", "energy distance of y from it", "of its test images", "of x itself",
         "E\\|y - own\\|²", "E\\|y - another's\\|²", "E\\|x - x^\\|²", "E\\|x^ - x^'\\|² / that",
         "class kept"],
        rows([f"CycleIAE, {name}" for name in DOMAINS], dict.fromkeys((
            "energy of y", "energy of own", "energy of x", "distance to own",
            "distance to another's", "squared_error", "change_over_error", "label kept"), 2)),
        "y is the translation of x; own is what the other domain makes of the very same x, which "
        "training never shows beside it, and another's that of the next test image. Nothing in the "
        "game asks y to be x's own.",
    )  # fmt: skip
    names = ("clusters", "z4-n16", "labels-100", *(f"cycle-{name}" for name in DOMAINS))
    yield "\n\n".join(f"![{name}](iae-{name}.png)" for name in names)


def on_mnist(numbers):
    """A code that shrinks, and the label as code."""
    rows = []
    for name in (*SIZES, LARGE, AT_ONCE):
        percent = {key: 100 * numbers[name][key] for key in ("class kept", "label kept")}
        rows.append([name.removeprefix("MNIST, "), *cells(numbers[name] | percent, {
            "squared_error": 1, "squared_change": 1, "rho": 2, "delta": 2, "change_over_error": 2,
            "class kept": 1, "label kept": 1, "FD of samples": 1})])  # fmt: skip
    small, given = numbers[SMALL], numbers[GIVEN]
    yield table(
        "MNIST: sizes of z and n",
        ["", "E\\|x - x^\\|²", "E\\|x^ - x^'\\|²", "rho", "delta", "δ/ρ", "class of x, %",
         "label, %", "FD of samples"],
        rows,
        f"rho and delta by the variance within the classes of the labels, "
        f"{small['variance'].mean():.1f} (the code's own is not known); δ/ρ is 1 where the game "
        f"ends, for any code. The classifier is right about {100 * small['classifier'][0]:.1f}% of "
        "the test images. FD: Fréchet distance of the classifier's features of 10,000 samples and "
        "as many training images.",
    )  # fmt: skip
    short = lambda a, b: f"{a} ≤ {b}".replace("MNIST, ", "")
    musts = [
        requirement(f"{text}: {short(a, b)}", *(numbers[name][key].mean() for name in (a, b)))
        for key, text in (("squared_error", "E\\|x - x^\\|²"), ("delta", "delta"))
        for a, b in pairwise(SIZES)
    ]
    musts += [
        requirement(f"class of x: {short(b, a)}",
                    *(numbers[name]["class kept"].mean() for name in (b, a)))
        for a, b in pairwise(SIZES)
    ]  # fmt: skip
    yield required(*musts, requirement(
        "class of x: 30% (three times chance) ≤ the smallest code's", 3 * CHANCE,
        small["class kept"].min()))  # fmt: skip
    pixels = 28 * 28
    variance = given["variance"].mean() / pixels
    yield table(GIVEN, ["", "", ""], [
        ["variance within a class, per pixel", f"{variance:.4f}", ""],
        ["squared error per pixel, 2 × that", mean_std(given["squared_error"] / pixels, 4),
         f"{2 * variance:.4f}"],
        ["rho", mean_std(given["rho"]), "2"],
        ["delta", mean_std(given["delta"]), "2"],
        requirement("rho within a tenth of 2, every seed", np.abs(given["rho"] / 2 - 1).max(), 0.1),
        ["FD of samples", mean_std(given["FD of samples"], 1), ""],
        requirement("95% ≤ pictures of their label's class, every seed", 95,
                    100 * given["label kept"].min()),
    ])  # fmt: skip
    names = ("z20-non", "z10-n100", "label-n32")
    yield "\n\n".join(f"![{name}](iae-mnist-{name}.png)" for name in names)


def claim_measures(numbers) -> list[Measure]:
    """Whether a small code's reconstructions are other draws of the image's class."""
    small, large = numbers[SMALL], numbers[LARGE]
    return [
        Measure("squared change between two draws over the squared error, minus a half, z 5",
                small["change_over_error"] - 0.5),
        Measure("share of draws with the image's class, minus three times chance, z 5",
                small["label kept"] - 3 * CHANCE),
        Measure("squared change between two draws, z 5 minus z 20",
                small["squared_change"] - large["squared_change"], "per image"),
        Measure("share with the image's class, z 20 minus z 5",
                large["label kept"] - small["label kept"]),
    ]  # fmt: skip


def claim_rows(numbers) -> list[list[str]]:
    """What is kept and what changes, by run."""
    shown = ("squared_error", "squared_change", "change_over_error", "label kept")
    head = ["squared error", "change between two draws", "change / error", "class kept"]
    return rows_of(head, {name: [numbers[name][key] for key in shown] for name in (LARGE, SMALL)})


def many_digits(name: str) -> Picture:
    """A row for each code, a column for each of eleven noises; first the code's image."""

    def draw(runs, path):
        run = runs[name][0]
        task = run.settings.model.task
        x = images(run.data.test)[common.first_of_each_class(run.data.test.labels)]
        of_class = task in ("clustering", "semisupervised", "given")
        z = jnp.eye(len(x)) if of_class else codes_of(run, x, None, run.rng())
        columns = [] if task in ("clustering", "semisupervised") else [x]
        columns += [np.reshape(z, x.shape)] if task == "translation" else []
        shown = "its test image and eleven noises" if columns else "eleven noises"
        decode = jax.jit(lambda z, key: run.model.decode(run.state, z[None], key)[0])
        made = [jax.vmap(decode, (0, None))(z, key) for key in jax.random.split(run.rng(), 11)]
        every = np.stack([*columns, *map(np.asarray, made)], axis=1)
        evaluation.image_grid(
            every.reshape(-1, *x.shape[1:]), every.shape[1], path,
            title=f"One code, many digits: {name}", column_gaps=range(len(columns)),
            note=f"a row: a code with {shown}; a column: one noise",
        )  # fmt: skip

    return Picture((name,), draw)


STUDY = Study(
    title="IAE: reconstructions that are draws",
    runs=RUNS,
    measures=MEASURES,
    page=page,
    claims=[
        Claim(
            name="iae_reproduces_distributions",
            statement="An IAE reproduces the distribution given the code, not the picture; the "
            "code's size sets what is content and what is noise",
            where="Makhzani 2018",
            how="Global codes of 20 and of 5 numbers, 100 numbers of local noise that comes in "
            "after half of the 6000 steps. A decoder that repeats the picture has a change of 0 "
            "between two draws of one code; one that reproduces the conditional distribution "
            "changes as much as it errs. A classifier says which class a draw shows. That a half "
            "is much of the error, and three times chance a class kept, are our proposals.",
            runs=(LARGE, SMALL),
            measures=claim_measures,
            rows=claim_rows,
            published="pictures only",
            picture="mnist-z5-n100",
        )
    ],
    pictures={
        "clusters": many_digits("clusters"),
        "z4-n16": many_digits("z 4, n 16"),
        "labels-100": many_digits(FEW),
        **{f"cycle-{name}": many_digits(f"CycleIAE, {name}") for name in DOMAINS},
        "mnist-z20-non": many_digits("MNIST, z 20, no n"),
        "mnist-z10-n100": many_digits("MNIST, z 10, n 100"),
        "mnist-z5-n100": many_digits(SMALL),
        "mnist-label-n32": many_digits(GIVEN),
    },
)
