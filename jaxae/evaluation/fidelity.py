"""Samples beside test images of their kind: in the features of a frozen network, and in pixels."""

from typing import Any

import jax
import numpy as np

from jaxae.evaluation.codes import images_of
from jaxae.evaluation.copies import nearest_training_image
from jaxae.evaluation.features import features_of, load_features
from jaxae.evaluation.frechet import frechet_distance
from jaxae.evaluation.kinds import comparable, described
from jaxae.evaluation.manifolds import NEIGHBOURS, precision_and_recall
from jaxae.evaluation.passes import spread
from jaxae.training.state import Model, State

SAMPLES = 2000
SEARCHED = 1000  # samples, and test images, whose nearest training image is looked for
DRAWN = 60  # at a time: one compilation serves figures and numbers


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

    As many samples as test images, evenly spread. Like is compared with like: draws of bits with
    test images of bits, in the features of a network for bits, and means with grey levels, in those
    of a network for these; the name of the network is part of a number's name, and numbers of two
    networks do not compare. With so few images a Fréchet distance is biased upwards, and no model
    reaches 0: the floor is `training_images`, what as many training images of that kind come to.
    Samples are clipped to [0, 1], unless the images are standardised.

    Args:
        model: the bundle.
        state: the trained state.
        data: a data set with `train` and `test`, as the model was trained on it.
        batch_size: test and training images at a time; affects speed and memory only.
        rng: one key.
        count: samples; less where there are not as many test or training images.
    Returns:
        `of` (draw or mean) and `against` (bits or grey): what was compared; `images`, how many of
        each; `nearest_training_image`, what that function says of at most `SEARCHED` of each; and
        where there is a network for such data, and more than `neighbours` images, for `samples` and
        `training_images` a dict of `Frechet distance (NAME)`, and of `precision (NAME)` and
        `recall (NAME)` as `precision_and_recall` has them, with the name of the network;
        `neighbours`, the k of precision and recall. None for models that cannot sample.
    Raises:
        ValueError: the samples are not finite.
    """
    if model.sample is None:
        return None
    data = comparable(model, data)
    count = min(count, data.test.size, data.train.size)
    samples = _drawn(model, state, rng, count)
    if not data.options.standardise:
        samples = np.clip(samples, 0, 1)
    shaped = lambda split: images_of(split, batch_size, count)
    test = shaped(data.test)
    few = spread(count, SEARCHED)
    found = {
        **described(model, data),
        "images": count,
        "nearest_training_image": nearest_training_image(samples[few], test[few], data.train),
    }
    name = features_of(data)
    if name is None or count <= NEIGHBOURS:
        return found
    network = load_features(name)
    real = network.features(test)

    def compared(images: np.ndarray) -> dict[str, float]:
        seen = network.features(images)
        numbers = {
            "Frechet distance": frechet_distance(seen, real),
            **precision_and_recall(real, seen),
        }
        return {f"{measure} ({name})": number for measure, number in numbers.items()}

    return found | {
        "samples": compared(samples),
        "training_images": compared(shaped(data.train)),
        "neighbours": NEIGHBOURS,
    }


def _drawn(model: Model, state: State, rng: jax.Array, count: int) -> np.ndarray:
    """`[count,H,W,C]` samples."""
    draw, keys = jax.jit(model.sample, static_argnums=2), jax.random.split(rng, -(-count // DRAWN))
    images = np.concatenate([np.asarray(draw(state, key, DRAWN)) for key in keys])[:count]
    if not np.isfinite(images).all():
        raise ValueError("the samples hold NaN or infinity: the run has diverged before this state")
    return images
