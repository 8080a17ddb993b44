"""Samples beside test images, in the features of a frozen network that goes by a name."""

from typing import Any

import jax
import numpy as np

from jaxae.evaluation.codes import images_of
from jaxae.evaluation.features import features_of, load_features
from jaxae.evaluation.frechet import frechet_distance
from jaxae.evaluation.manifolds import NEIGHBOURS, precision_and_recall
from jaxae.training.state import Model, State

SAMPLES = 2000
DRAWN = 60  # at a time: one compilation serves figures and numbers


def fidelity_table(
    model: Model,
    state: State,
    data: Any,
    reference: Any = None,
    *,
    batch_size: int,
    rng: jax.Array,
    count: int = SAMPLES,
) -> dict[str, Any] | None:
    """Fréchet distance, precision and recall of samples, and of training images for comparison.

    As many samples as test images, evenly spread. Samples are clipped to [0, 1]. With so few the
    Fréchet distance is biased upwards, and no model reaches 0: `training_images` has what the
    images that the model was trained on (as many, as it saw them) come to by the same measure.
    Comparable only at one network and one `images`.

    Args:
        model: the bundle.
        state: the trained state.
        data: a data set with `train`, what the model was trained on.
        reference: a data set with `test`, from which test images are taken: grey ones, say, where
            the model was trained on bits. None: `data`.
        batch_size: test and training images at a time; affects speed and memory only.
        rng: one key.
        count: samples; less where there are not as many test or training images.
    Returns:
        for `samples` and `training_images` a dict of `Frechet distance (NAME)`, and of
        `precision (NAME)` and `recall (NAME)` as `precision_and_recall` has them, with the name of
        the network; `images`, how many of each; `neighbours`, the k of precision and recall. None
        for models that cannot sample, where no network is there for such data, and for a count of
        no more than `neighbours`.
    Raises:
        ValueError: the samples are not finite.
    """
    reference = reference or data
    count = min(count, reference.test.size, data.train.size)
    name = features_of(reference)
    if model.sample is None or name is None or count <= NEIGHBOURS:
        return None
    network = load_features(name)
    shaped = lambda split: images_of(split, batch_size, count)
    real = network.features(shaped(reference.test))

    def compared(images: np.ndarray) -> dict[str, float]:
        found = network.features(images)
        numbers = {
            "Frechet distance": frechet_distance(found, real),
            **precision_and_recall(real, found),
        }
        return {f"{measure} ({name})": number for measure, number in numbers.items()}

    return {
        "samples": compared(np.clip(_drawn(model, state, rng, count), 0, 1)),
        "training_images": compared(shaped(data.train)),
        "images": count,
        "neighbours": NEIGHBOURS,
    }


def _drawn(model: Model, state: State, rng: jax.Array, count: int) -> np.ndarray:
    """`[count,H,W,C]` samples."""
    draw, keys = jax.jit(model.sample, static_argnums=2), jax.random.split(rng, -(-count // DRAWN))
    images = np.concatenate([np.asarray(draw(state, key, DRAWN)) for key in keys])[:count]
    if not np.isfinite(images).all():
        raise ValueError("the samples hold NaN or infinity: the run has diverged before this state")
    return images
