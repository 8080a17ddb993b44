"""The kind of images that a model outputs (binary or grey), so that equal kinds are compared."""

import math
from typing import Any

import jax
import numpy as np

from jaxae.training.state import Model


def comparable(model: Model, data: Any) -> Any:
    """The data set with images of the same kind as the model's outputs.

    Samples are compared with images as in training (bits with bits), means of pixels with grey
    levels, since these are the means of bits. Samples of a Bernoulli are always bits.

    Args:
        model: the bundle; `draws` tells whether it outputs samples.
        data: the data on which it was trained.
    """
    if not model.draws:
        return data.unbinarised
    options = data.options
    if model.likelihood == "bernoulli" and options.binarise == "none" and not options.standardise:
        return data.binarised
    return data


def kind_of_images(model: Model, data: Any) -> dict[str, str]:
    """`of`: the model's outputs, draw or mean; `against`: the images of `data`, bits or grey."""
    bits = data.options.binarise != "none" or data.test.levels == 2
    return {"of": "draw" if model.draws else "mean", "against": "bits" if bits else "grey"}


def bits_offset(likelihood: str | None, data: Any) -> tuple[float | None, str | None]:
    """The bits per dimension to add to -log2 p(x|z) to get a code length, or why there are none.

    Probabilities of pixels are code lengths without change. A density gives a bound on a
    probability if pixels are dequantised: with a difference s between the preprocessed values of
    two levels, the probability of a level is bounded by the density times s.

    Args:
        likelihood: name of the model's likelihood in `losses.likelihood`; None: it has none.
        data: the data set of the model.
    Returns:
        bits to add per dimension, or None; and the reason for None, or None.
    """
    if likelihood is None:
        return None, "the model states no likelihood"
    if likelihood in ("logistic_mixture", "categorical"):
        return 0.0, None
    if likelihood == "bernoulli":
        if data.spec.levels == 2:
            return 0.0, None
        return None, "a Bernoulli has no probability for levels between 0 and 1: binarise the data"
    if data.options.dequantise:
        return -math.log2(pixel_difference(data, 1)), None
    return None, "a density of pixels that are not dequantised is not a probability"


def pixel_difference(data: Any, level: int) -> float:
    """Difference between the raw pixel values `level` and 0 after preprocessing."""
    # The same position twice: both get the same noise, which cancels.
    image = np.array([0, level]).reshape(2, 1, 1, 1)
    rows = {"image": image, "position": np.zeros(2, np.int32)}
    low, high = np.asarray(
        data.test.preprocess(rows, jax.random.key(0))["image"], np.float64
    ).ravel()
    return float(high - low)
