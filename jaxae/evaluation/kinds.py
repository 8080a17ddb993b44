"""What kind of images a model gives and was measured on: like is compared with like only."""

import math
from typing import Any

import jax
import numpy as np

from jaxae.training.state import Model


def comparable(model: Model, data: Any) -> Any:
    """The data set whose images are of the kind that the model's own are.

    Draws are compared with images as training sees them, bits with bits; means of pixels with grey
    levels, which is what the mean of bits is. A Bernoulli's draws are bits whatever it has seen.

    Args:
        model: the bundle, which says whether it `draws`.
        data: what it was trained on.
    """
    if not model.draws:
        return data.unbinarised
    options = data.options
    if model.likelihood == "bernoulli" and options.binarise == "none" and not options.standardise:
        return data.binarised
    return data


def described(model: Model, data: Any) -> dict[str, str]:
    """`of`: draw or mean, what the model's images are; `against`: bits or grey, what those of
    `data` are."""
    bits = data.options.binarise != "none" or data.test.levels == 2
    return {"of": "draw" if model.draws else "mean", "against": "bits" if bits else "grey"}


def bits_offset(likelihood: str | None, data: Any) -> tuple[float | None, str | None]:
    """What makes bits of a code for pixels out of log p(x|z), or why nothing does.

    Probabilities of pixels are lengths of a code as they are. A density becomes a bound on a
    probability where pixels have been dequantised: where the model sees the step from one level to
    the next as s, the probability of a level is bounded by the density times s.

    Args:
        likelihood: the model's, by its name in `losses.likelihood`; None: it states none.
        data: the data set as the model sees it.
    Returns:
        bits to add to each dimension, or None; and the reason for None, or None.
    """
    if likelihood is None:
        return None, "the model does not say what its likelihood is of"
    if likelihood in ("logistic_mixture", "categorical"):
        return 0.0, None
    if likelihood == "bernoulli":
        if data.spec.levels == 2:
            return 0.0, None
        return None, "a Bernoulli has no probability for levels between 0 and 1: binarise the data"
    if data.options.dequantise:
        return -math.log2(seen_apart(data, 1)), None
    return None, "a density of pixels that are not dequantised is no probability of them"


def seen_apart(data: Any, level: int) -> float:
    """What lies between the raw pixel values 0 and `level`, as a model sees the images."""
    # The same position twice: both get the same noise, which cancels.
    image = np.array([0, level]).reshape(2, 1, 1, 1)
    rows = {"image": image, "position": np.zeros(2, np.int32)}
    low, high = np.asarray(
        data.test.preprocess(rows, jax.random.key(0))["image"], np.float64
    ).ravel()
    return float(high - low)
