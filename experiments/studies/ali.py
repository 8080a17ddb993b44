"""ALI and BiGAN: an encoder that is learned together with the generator.

25 Gaussians in the plane: a mode counts where it is the nearest one to any of 10,000 samples (the
paper's rule), and strictly where at least 20 samples lie within three deviations of it. Distances
are in the paper's plane, whose modes are 2 apart.

Images: the ratio is the mean distance of a test image from its own reconstruction over that from
another image's, 1 where nothing of the image comes back. Probes read the encoder's last hidden
layer (e-). Classes covered: of which a classifier is sure (probability 0.9) of at least ten among a
thousand samples.
"""

import jax
import numpy as np
from studylib.declare import FIRST_SEED, Claim, Measure, Picture, Run, Study, Trained
from studylib.pages import mean_std, requirement, rows_of, table

from jaxae import evaluation
from jaxae.models import ali
from studies.common import (
    BATCH,
    PROBE_CODES,
    assessed,
    classifier,
    codes_and_labels,
    fidelity,
    images,
    in_the_plane,
    last_hidden_layer,
    pixels,
    reading,
    reconstruction_rows,
    sampled_classes,
    untrained,
)

SEEDS = 3
STEPS = {"grid25": 6000, "digits": 3000, "mnist": 2500}  # of a GAN or of pairs, then as many
COUNT = 2000  # own samples that the claim's ratio is of
# With BiGAN's settings a GAN of its networks learns to draw nothing, and no regressor could invert
# it. On MNIST it learns where its discriminator normalises images and fakes as one batch.
GANS = {
    "digits": {"learning_rate": 5e-4, "critic_rate": 1e-4},
    "mnist": {"learning_rate": 1e-3, "critic_rate": 2e-3, "together": True},
}
BIGAN = {"learning_rate": 5e-4, "critic_rate": 1e-3}  # the same for BiGAN on MNIST
GAUSSIAN, SAMPLED = {"prior": "gaussian"}, {"prior": "gaussian", "posterior": "gaussian"}
PAIRS = {"BiGAN": {}, "ALI: N(0, I), z^ ~ N(m, s²)": SAMPLED, "ALI: N(0, I), z^ = f(x)": GAUSSIAN}
BESIDE_A_GAN = {
    "latent regressor": "regressor",
    "joint latent regressor": "joint_regressor",
    "latent regressor, post hoc": "post_hoc_regressor",
    "inference learned post hoc": "post_hoc_ali",
}


def beside_a_gan(method: str, data: str) -> dict:
    """The changes of a method; post hoc the encoder has as many steps as the GAN before it."""
    post_hoc = {"gan_steps": STEPS[data], "steps": 2 * STEPS[data]}
    return {"method": method, **(post_hoc if method.startswith("post_hoc") else {})}


ON_GRID = {
    "ALI": {},
    "GAN": {"method": "gan"},
    "GAN, latent regressor beside it": beside_a_gan("regressor", "grid25"),
    "GAN, latent regressor post hoc": beside_a_gan("post_hoc_regressor", "grid25"),
    "GAN, inference learned post hoc": beside_a_gan("post_hoc_ali", "grid25"),
}
ON_DIGITS = {
    **PAIRS,
    "BiGAN, the discriminator first": {"simultaneous": False},
    "BiGAN, saturating": {"game": "saturating"},
    **{name: GANS["digits"] | beside_a_gan(of, "digits") for name, of in BESIDE_A_GAN.items()},
}
SHORT = {"widths": (256, 256), "steps": STEPS["mnist"], "decay_steps": STEPS["mnist"]}
ON_MNIST = {
    **{f"{name}, MNIST": SHORT | BIGAN | changes for name, changes in PAIRS.items()},
    "BiGAN, one batch, MNIST": SHORT | BIGAN | {"together": True},
    **{f"{name}, MNIST": SHORT | GANS["mnist"] | beside_a_gan(of, "mnist")
       for name, of in BESIDE_A_GAN.items()},
}  # fmt: skip
OURS, AFTERWARDS = CLAIMED = ("BiGAN, MNIST", "latent regressor, post hoc, MNIST")
FEW_LABELS = {"100 labels": {}, "100 labels, feature matching": {"feature_matching": True}}
seeds_of = lambda name: {"seeds": 5 if name in CLAIMED else SEEDS, "first_seed": FIRST_SEED}

RUNS = {
    **{name: Run("ali", "grid25", changes, SEEDS) for name, changes in ON_GRID.items()},
    **{name: Run("ali", "digits", changes, SEEDS) for name, changes in ON_DIGITS.items()},
    **{name: Run("ali", "mnist", changes, **seeds_of(name)) for name, changes in ON_MNIST.items()},
    **{name: Run("ali", "digits-100", changes, SEEDS) for name, changes in FEW_LABELS.items()},
}


# -- measures --------------------------------------------------------------------------------------


def codes_of_points(run: Trained) -> dict[str, float]:
    """How near the codes of test points are to N(0, I)."""
    z, _ = evaluation.encode_split(run.model, run.state, run.data.test, BATCH, run.rng())
    covariance = np.cov(z.T.astype(np.float64))
    deviations = np.sqrt(np.diag(covariance))
    return {
        "largest mean": float(np.abs(z.mean(axis=0)).max()),
        "smallest deviation": float(deviations.min()),
        "largest deviation": float(deviations.max()),
        "correlation": float(covariance[0, 1] / np.prod(deviations)),
    }


def probed(run: Trained, encode) -> dict[str, float]:
    """Test accuracy of probes on what `encode` makes of images."""
    arrays = codes_and_labels(reading(run, encode))
    return {
        "linear": evaluation.linear_probe(*arrays),
        "1-NN": evaluation.knn_probe(*arrays, k=1),
    }


def of_images(run: Trained) -> dict[str, float]:
    """What the tables of images show."""
    hidden = last_hidden_layer(ali.networks.build_networks(run.settings.model, run.data.spec))
    classes = sampled_classes(run, classifier(run.data))
    return assessed(run) | {"classes": classes} | probed(run, hidden)


def before_training(run: Trained) -> dict[str, float]:
    """The same of an untrained run, and probes on pixels."""
    return {
        **{f"untrained {name}": value for name, value in of_images(untrained(run)).items()},
        **{f"pixels {name}": value for name, value in probed(run, pixels).items()},
    }


def of_own_samples(run: Trained) -> dict[str, float]:
    """Mean |x - G(E(x))| over mean |x' - G(E(x))| for samples x and the next samples x'."""
    of_x, of_code, of_y = jax.random.split(run.rng(), 3)
    x = jax.jit(run.model.sample, static_argnums=2)(run.state, of_x, COUNT)
    codes = jax.jit(run.model.encode)(run.state, x, of_code)
    y = jax.jit(run.model.decode)(run.state, codes, of_y)
    x, y = (np.asarray(a).reshape(COUNT, -1) for a in (x, y))
    distance = lambda a: np.linalg.norm(a - y, axis=1).mean()
    return {"ratio of own samples": float(distance(x) / distance(np.roll(x, 1, axis=0)))}


def test_error(run: Trained) -> dict[str, float]:
    """Per cent of test images, and of a logistic regression on the labelled images alone."""
    train, test = run.data.train, run.data.test
    logits = jax.jit(run.model.predict)(run.state, images(test), run.rng())
    x, unseen = (evaluation.pixels_of(split, BATCH) for split in (train, test))
    few = train.labelled
    known = evaluation.linear_probe(x[few], train.labels[few], unseen, test.labels)
    return {
        "error": 100 * float(np.mean(np.argmax(logits, -1) != test.labels)),
        "error of pixels": 100 * (1 - known),
    }


MEASURES = {
    **dict.fromkeys(ON_GRID, (in_the_plane, codes_of_points)),
    "GAN": (in_the_plane,),
    **dict.fromkeys([*ON_DIGITS, *ON_MNIST], (of_images,)),
    "BiGAN": (of_images, before_training),
    OURS: (of_images, before_training, fidelity, of_own_samples),
    AFTERWARDS: (of_images, fidelity, of_own_samples),
    **dict.fromkeys(FEW_LABELS, (test_error,)),
}


# -- what is read from them ------------------------------------------------------------------------


def grid_tables(numbers):
    """Modes of 25 Gaussians."""
    rows = []
    for name in ON_GRID:
        of = numbers[name]
        cell = lambda key, digits=2, of=of: mean_std(of[key], digits) if key in of else "–"
        low, high = cell("smallest deviation"), cell("largest deviation")
        rows.append([
            name, cell("modes", 1), cell("strict", 1), mean_std(100 * of["share"], 1),
            cell("median distance"), cell("distance"), cell("largest mean"),
            low if low == "–" else f"{low} to {high}", cell("correlation"),
        ])  # fmt: skip
    yield table(
        f"1. 25 Gaussians, {STEPS['grid25']} steps of 200, mean ± deviation of {SEEDS} seeds",
        ["", "modes", "strictly", "share, %", "median \\|x - G(E(x))\\|", "mean",
         "largest \\|mean z\\|", "deviations of z", "correlation of z"],
        rows,
        "Share: samples within three deviations of a mode. Post hoc the encoder has as many steps "
        "again. GAN, and the same GAN with a regressor beside it, differ only in the seeds' "
        "initial parameters.",
    )  # fmt: skip
    ours, gan = numbers["ALI"], numbers["GAN"]
    best = int(np.lexsort((ours["share"], ours["modes"]))[-1])
    of = {name: values[best] for name, values in ours.items()}
    yield table("2. The best seed of ALI against what was proposed", ["", "", ""], [
        requirement("20 ≤ modes", 20, of["modes"], 0),
        requirement("60 ≤ share within 0.15, %", 60, 100 * of["share"], 1),
        requirement("median reconstruction error ≤ 1", of["median distance"], 1),
        requirement("0.7 ≤ smallest deviation of z", 0.7, of["smallest deviation"]),
        requirement("largest deviation of z ≤ 1.3", of["largest deviation"], 1.3),
        requirement("modes, mean over seeds: GAN ≤ ALI", gan["modes"].mean(),
                    ours["modes"].mean(), 1),
    ], "The thresholds are proposals of ours, not published. Published, for ten runs each of "
       "200,000 steps with random rates: ALI 13.4 ± 5.8 modes, GAN 10.4 ± 9.2, by the first rule. "
       "That rule asks for one sample of 10,000, which blurred samples give too.")  # fmt: skip


def image_rows(numbers, first: str, names) -> list[list[str]]:
    """A row for each run; before them pixels and the first run before its training."""
    shown = {"reconstruction_distance": 2, "reconstruction_ratio": 3, "classes": 1, "linear": 3,
             "1-NN": 3}  # fmt: skip
    row = lambda name, of, start="": [name, *(mean_std(of[start + k], d) for k, d in shown.items())]
    of = numbers[first]
    known = [f"{of[f'pixels {probe}'][0]:.3f}" for probe in ("linear", "1-NN")]
    return [
        ["pixels", "", "", "", *known],
        row("untrained BiGAN", of, "untrained "),
        *(row(name, numbers[name]) for name in names),
    ]


def page(numbers):
    """Points, images, few labels."""
    yield from grid_tables(numbers)
    head = ["", "distance of a reconstruction", "ratio", "classes covered", "linear probe of e-",
            "1-NN of e-"]  # fmt: skip
    yield table(
        f"3. 8x8 digits, {STEPS['digits']} steps of 64, mean ± deviation of {SEEDS} seeds",
        head, image_rows(numbers, "BiGAN", ON_DIGITS),
        "Post hoc the encoder has as many steps again. GANs with regressors: rates 5e-4 and 1e-4 "
        "(discriminator).",
    )  # fmt: skip
    worst = numbers["BiGAN"]["reconstruction_ratio"].max()
    yield table("What was expected of it", ["", "", ""], [
        requirement("ratio of BiGAN ≤ 0.85, every seed", worst, 0.85, 3)
    ])  # fmt: skip
    yield table(
        f"4. MNIST, {STEPS['mnist']} steps of 128, 50 dimensions, mean ± deviation of {SEEDS} "
        "seeds (of the claim's two runs, 5)",
        head, image_rows(numbers, OURS, ON_MNIST),
        f"Probes see {PROBE_CODES:,} training images. Post hoc the encoder has as many steps "
        "again. BiGAN and ALI: rates 5e-4 and 1e-3 (discriminator), where the published are 2e-4; "
        "GANs with regressors: 1e-3 and 2e-3, and images and fakes normalised as one batch, "
        "without which they draw nothing. The official log (networks 1024 wide, another validation "
        "set) has a ratio of 0.91 after one epoch of 391 steps, 0.77 after 25 and 0.61 after 200.",
    )  # fmt: skip
    yield table(
        f"5. 8x8 digits with 100 labels, {STEPS['digits']} steps of 64 and 50 labelled, {SEEDS} "
        "seeds",
        ["encoder and generator", "test error, %"],
        [
            *([name, mean_std(numbers[name]["error"], 1)] for name in FEW_LABELS),
            ["logistic regression on the 100 images",
             f"{numbers['100 labels']['error of pixels'][0]:.1f}"],
        ],
    )  # fmt: skip


# BiGAN's ratio of test images was 0.712 and 0.753 for the first two seeds on a second machine,
# where five seeds of one machine gave 0.763 on average: they part by up to this much.
BY_MACHINE = 0.051


def claim_measures(numbers) -> list[Measure]:
    """Ratios and recall, BiGAN against the regressor that is fitted afterwards."""
    joint, after = numbers[OURS], numbers[AFTERWARDS]
    less = lambda name: after[name] - joint[name]
    return [
        Measure("distance of a test image's reconstruction, over another's: regressor minus BiGAN",
                less("reconstruction_ratio"), margin=BY_MACHINE),
        Measure("the same of the generator's own samples", less("ratio of own samples"),
                margin=BY_MACHINE),
        Measure("recall of samples, BiGAN's minus the GAN's", -less("recall")),
    ]  # fmt: skip


def claim_rows(numbers) -> list[list[str]]:
    """The same numbers by run."""
    keys = ("reconstruction_ratio", "ratio of own samples", "recall")
    rows = {"BiGAN": OURS, "regressor afterwards": AFTERWARDS}
    return rows_of(
        ["ratio, test images", "ratio, own samples", "recall of samples"],
        {name: [numbers[run][key] for key in keys] for name, run in rows.items()},
    )


STUDY = Study(
    title="ALI and BiGAN: inference learned with the generator",
    runs=RUNS,
    measures=MEASURES,
    page=page,
    claims=[
        Claim(
            name="ali_inverts_better",
            statement="Joint matching inverts the generator better than a regressor trained "
            "afterwards, and covers more of the data",
            where="Donahue et al. 2017 and Dumoulin et al. 2017",
            how=f"BiGAN for {STEPS['mnist']} steps, and a GAN of the same networks for as many, "
            "with an encoder then fitted to its samples for as many again. The ratio is 1 where "
            "nothing of the image comes back: of test images, and of what the generator itself "
            "draws. Recall as in precision and recall of samples, in the features of a frozen "
            "network. Each has the rates at which it draws best of those tried; on MNIST the GAN's "
            "discriminator must also normalise images and fakes as one batch. Both generators "
            "cover little of the data, so that the recalls compare near zero. On a second machine "
            "the same code gave BiGAN's ratio of test images as 0.712 and 0.753 for the first two "
            "seeds, outside of the spread of five seeds on one machine (0.763 ± 0.010): a margin "
            f"of {BY_MACHINE}, taken for the ratio of own samples as well. That ratio, the "
            "regressor's and the recall were not compared between machines.",
            runs=CLAIMED,
            measures=claim_measures,
            rows=claim_rows,
            published="modes of 25 Gaussians: ALI 13.4 ± 5.8, GAN 10.4 ± 9.2",
            picture="reconstructions",
        )
    ],
    pictures={"reconstructions": Picture(CLAIMED, reconstruction_rows)},
)
