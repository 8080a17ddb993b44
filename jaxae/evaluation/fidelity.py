"""Samples compared with test images, in the features of a fixed network and in pixels."""

from typing import Any

import jax
import numpy as np

from jaxae.evaluation.codes import images_of
from jaxae.evaluation.copies import nearest_training_image
from jaxae.evaluation.features import features_of, load_features
from jaxae.evaluation.frechet import frechet_distance
from jaxae.evaluation.kinds import comparable, kind_of_images
from jaxae.evaluation.manifolds import NEIGHBOURS, precision_and_recall
from jaxae.evaluation.passes import evenly_spaced
from jaxae.training.state import Model, State

SAMPLES = 2000
SEARCHED = 1000  # samples, and test images, whose nearest training image is searched
SAMPLE_BATCH = 60  # samples at a time; the same everywhere, so that sample compiles once


def fidelity_table(
    model: Model,
    state: State,
    data: Any,
    *,
    batch_size: int,
    rng: jax.Array,
    count: int = SAMPLES,
) -> dict[str, Any] | None:
    """Fréchet distance, precision and recall of samples, and how near they are to training images.

    As many samples as test images (evenly spaced) are compared. Binary samples are compared with
    binarised test images, in the features of a network for these, and means with grey levels, in
    those of a network for grey levels; the name of the network is part of the name of a number, and
    numbers of different networks are not comparable. With few images a Fréchet distance is biased
    upwards; `training_images` gives the value for as many training images. Samples are clipped to
    [0, 1], unless the images are standardised.

    Args:
        model: the bundle.
        state: the trained state.
        data: the data set on which the model was trained.
        batch_size: test and training images at a time; affects speed and memory only.
        rng: one key.
        count: number of samples; fewer if there are fewer test or training images.
    Returns:
        `of` (draw or mean) and `against` (bits or grey): what was compared; `images`: number of
        each; `nearest_training_image`: the result of that function for at most `SEARCHED` of each;
        and, if there is a network for the data and more than `neighbours` images, for `samples` and
        `training_images` a dict of `Frechet distance (NAME)`, `precision (NAME)` and
        `recall (NAME)` (see `precision_and_recall`), with the name of the network; `neighbours`:
        the k of precision and recall. None for models that cannot sample.
    Raises:
        ValueError: the samples are not finite.
    """
    if model.sample is None:
        return None
    data = comparable(model, data)
    count = min(count, data.test.size, data.train.size)
    samples = _sample(model, state, rng, count)
    if not data.options.standardise:
        samples = np.clip(samples, 0, 1)
    subset = lambda split: images_of(split, batch_size, count)
    test = subset(data.test)
    few = evenly_spaced(count, SEARCHED)
    result = {
        **kind_of_images(model, data),
        "images": count,
        "nearest_training_image": nearest_training_image(samples[few], test[few], data.train),
    }
    name = features_of(data)
    if name is None or count <= NEIGHBOURS:
        return result
    network = load_features(name)
    real = network.features(test)

    def compare(images: np.ndarray) -> dict[str, float]:
        features = network.features(images)
        numbers = {
            "Frechet distance": frechet_distance(features, real),
            **precision_and_recall(real, features),
        }
        return {f"{measure} ({name})": number for measure, number in numbers.items()}

    return result | {
        "samples": compare(samples),
        "training_images": compare(subset(data.train)),
        "neighbours": NEIGHBOURS,
    }


def _sample(model: Model, state: State, rng: jax.Array, count: int) -> np.ndarray:
    """`[count,H,W,C]` samples."""
    draw, keys = (
        jax.jit(model.sample, static_argnums=2),
        jax.random.split(rng, -(-count // SAMPLE_BATCH)),
    )
    images = np.concatenate([np.asarray(draw(state, key, SAMPLE_BATCH)) for key in keys])[:count]
    if not np.isfinite(images).all():
        raise ValueError("samples hold NaN or infinity: the run has diverged")
    return images
