"""What several studies measure."""

import math
import pathlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.linear_model import LogisticRegression
from studylib.declare import Trained
from threadpoolctl import threadpool_limits

from jaxae import evaluation
from jaxae.command.run import EVALUATION_KEY
from jaxae.data import Data, load
from jaxae.data.grid25 import CENTRES, DEVIATION, PLANE
from jaxae.training.state import eval_params

BATCH = 500  # images at a time in evaluation
PROBE_CODES = 10_000  # training codes that a probe is fitted to
SAMPLES, SURE = 1000, 0.9  # of `sampled_classes`


# -- measures --------------------------------------------------------------------------------------


def on_test(run: Trained) -> dict[str, float]:
    """What the model's `evaluate` gives, averaged over the test images."""
    means = evaluation.mean_over(
        run.model.evaluate, run.state, run.data.test, BATCH, run.rng(), per_example=False
    )
    return {name: mean for name, mean in means.items() if not name.endswith("_se")}


def assessed(run: Trained) -> dict[str, float]:
    """What the model's `assess` gives of the whole data set."""
    return run.model.assess(run.state, run.data, run.rng())


def last_training_metrics(run: Trained) -> dict[str, float]:
    """Each training metric's mean over the last 200 steps, as `last <name>`."""
    last = run.settings.plan.steps - 200
    recent = [record for record in run.records if record["step"] > last]
    names = [name for name in recent[0] if name.startswith("train/")]
    return {
        f"last {name.removeprefix('train/')}": float(np.mean([r[name] for r in recent]))
        for name in names
    }


def probes(run: Trained) -> dict[str, float]:
    """Test accuracy of a logistic regression and of 5 nearest neighbours on the codes."""
    arrays = codes_and_labels(run)
    return {
        "linear probe": evaluation.linear_probe(*arrays),
        "5-NN": evaluation.knn_probe(*arrays),
    }


def fidelity(run: Trained) -> dict[str, float]:
    """Frechet distance, precision and recall of 2,000 samples against as many test images."""
    table = evaluation.fidelity_table(
        run.model, run.state, run.data, batch_size=BATCH, rng=run.rng(), count=2000
    )["samples"]
    return {name.split(" (")[0]: value for name, value in table.items()}  # less the network's name


def grey_probes(run: Trained) -> dict[str, float]:
    """`probes` on the codes of grey images, where training sees bits drawn from them."""
    return probes(run._replace(data=run.data.unbinarised))


def untrained_probe(run: Trained) -> dict[str, float]:
    """The linear probe of `grey_probes` with the encoder as it was before the first step."""
    return {"linear probe, untrained": grey_probes(untrained(run))["linear probe"]}


def on_test_and_assessed(run: Trained) -> dict[str, float]:
    """Both, for models where they share names; the value of `assess` is kept."""
    return on_test(run) | assessed(run)


def cluster_errors(run: Trained) -> dict[str, float]:
    """Test error of clusters that are named on training images, and how evenly they are used."""
    return evaluation.cluster_errors(*codes_and_labels(reading(run, run.model.predict)))


def label_errors(run: Trained) -> dict[str, float]:
    """Test error of the label head, and of a regression on the pixels of the labelled images."""
    logits, labels = codes_and_labels(reading(run, run.model.predict))[2:]
    known, given = run.data.train.labelled, run.data.train.labels
    pixels, unseen = (evaluation.pixels_of(half, BATCH) for half in (run.data.train, run.data.test))
    with threadpool_limits(1):  # threads would wait for each other on a busy machine
        linear = LogisticRegression(max_iter=2000).fit(pixels[known], given[known])
    return {
        "label error": float(np.mean(logits.argmax(1) != labels)),
        "label error of pixels": 1 - float(linear.score(unseen, labels)),
    }


def in_the_plane(run: Trained) -> dict[str, float]:
    """Of 25 Gaussians in the plane: modes that samples cover, and how far reconstructions are.

    Of 10,000 samples; `share` is of those within three deviations of a mode. Distances are in the
    plane whose modes are 2 apart.
    """
    raw = load("grid25").train.arrays["image"].astype(np.float64)
    plane = lambda x: PLANE.to_points(x, raw.mean(), raw.std())
    of_samples, of_codes, of_images = jax.random.split(run.rng(), 3)
    points = plane(jax.jit(run.model.sample, static_argnums=2)(run.state, of_samples, 10_000))
    found = evaluation.mode_coverage(points, CENTRES, DEVIATION)
    if run.model.encode is None:
        return found
    x = images(run.data.test)
    z = jax.jit(run.model.encode)(run.state, x, of_codes)
    back = jax.jit(run.model.decode)(run.state, z, of_images)
    apart = np.linalg.norm(plane(back) - plane(x), axis=1)
    return found | {"median distance": float(np.median(apart)), "distance": float(apart.mean())}


# -- parts of measures and pictures ----------------------------------------------------------------


def codes_and_labels(run: Trained, train_limit: int | None = PROBE_CODES) -> list[np.ndarray]:
    """Codes and labels of training images, then of test images, as the probes take them."""
    return [
        part
        for split, limit in ((run.data.train, train_limit), (run.data.test, None))
        for part in evaluation.encode_split(run.model, run.state, split, BATCH, run.rng(), limit)
    ]


def reading(run: Trained, encode: Callable) -> Trained:
    """The run with another function of images in the place of `encode`."""
    return run._replace(model=run.model._replace(encode=encode))


def decoded(run: Trained, codes: np.ndarray) -> np.ndarray:
    """Images of codes `[N, Z]`."""
    return np.asarray(jax.jit(run.model.decode)(run.state, jnp.asarray(codes), run.rng()))


def samples(run: Trained, count: int) -> np.ndarray:
    """Samples `[count, H, W, C]`."""
    return np.asarray(jax.jit(run.model.sample, static_argnums=2)(run.state, run.rng(), count))


def images(split) -> np.ndarray:
    """All images of a split."""
    return evaluation.images_of(split, BATCH)


_CLASSIFIERS: dict[tuple, evaluation.Classifier] = {}


def classifier(data: Data) -> evaluation.Classifier:
    """A classifier trained on the data set's labels, which judges samples; trained once."""
    known = data.digest, data.options  # the digest is of the images before any noise
    if known not in _CLASSIFIERS:
        _CLASSIFIERS[known] = evaluation.train_classifier(data)
    return _CLASSIFIERS[known]


def sampled_classes(run: Trained, classes: evaluation.Classifier) -> int:
    """Classes of which at least one of a hundred samples is surely an example.

    Of a thousand samples; sure is a probability of 0.9 by the classifier.
    """
    logits = classes.logits(samples(run, SAMPLES))
    chance = np.asarray(jax.nn.softmax(logits, axis=1))
    sure = np.bincount(chance.argmax(1)[chance.max(1) >= SURE], minlength=logits.shape[1])
    return int((sure >= SAMPLES / 100).sum())


def at_random(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many rows in random order: the first of a data set need not be like the others
    (MNIST's first test images are of other writers)."""
    return rows[np.random.default_rng(EVALUATION_KEY).permutation(len(rows))[:most]]


def first_of_each_class(labels) -> np.ndarray:
    """Where each class stands first among labels, `[classes]`."""
    return np.unique(np.asarray(labels), return_index=True)[1]


def draw_rows(rows: dict[str, np.ndarray], path: pathlib.Path, title: str, note: str = "") -> None:
    """Rows of images by name, `[N, H, W, C]` each."""
    stacked = np.clip(np.stack([np.asarray(row) for row in rows.values()]), 0, 1)
    evaluation.image_grid(
        stacked.reshape(-1, *stacked.shape[2:]), stacked.shape[1], path, title=title, note=note,
        row_labels=list(rows),
    )  # fmt: skip


def sample_rows(names: Sequence[str], title: str, count: int = 12) -> Callable:
    """A picture of samples of the first seed of each run."""

    def draw(runs, path):
        draw_rows({name: samples(runs[name][0], count) for name in names}, path, title,
                  "first seed")  # fmt: skip

    return draw


def untrained(run: Trained) -> Trained:
    """The run before its first step."""
    return run._replace(state=jax.jit(run.model.init)(jax.random.key(run.seed)))


def pixels(state, x, rng) -> jax.Array:
    """An `encode` that gives the pixels."""
    return x.reshape(x.shape[0], -1)


def last_hidden_layer(networks) -> Callable:
    """An `encode` that gives the last hidden layer of the encoder of ALI's or ALAE's `networks`."""

    def encode(state, x, rng):
        params, stats = eval_params(state)
        return networks(params, stats, "enc", pixels(state, x, rng), hidden=True)

    return encode


def reconstruction_rows(runs, path: pathlib.Path) -> None:
    """Draws ten test images, and what the first seed of each run makes of their codes."""
    shown = evaluation.images_of(next(iter(runs.values()))[0].data.test, BATCH, 10)
    rows = {"image": shown}
    for name, (run, *_) in runs.items():
        rows[name] = decoded(run, jax.jit(run.model.encode)(run.state, shown, run.rng()))
    draw_rows(rows, path, "Reconstructions", "test images, the first seed")


def mean_error(values, digits: int) -> str:
    """Mean of `[seeds]` and its standard error; seeds without a number are left out and counted."""
    values = np.asarray(values, float)
    known = values[~np.isnan(values)]
    if not len(known):
        return "none"
    text = f"{known.mean():.{digits}f}"
    if len(known) > 1:
        text += f" ± {known.std(ddof=1) / math.sqrt(len(known)):.{digits}f}"
    return text if len(known) == len(values) else f"{text} ({len(values) - len(known)} none)"
