"""Frozen feature networks with names, so that distances between sets of images can be compared.

A distance of features is a number only together with the network it was measured by. These small
classifiers are part of the package and never change: other weights get another name. They are no
Inception network, and what is measured by them is no FID.

`python experiments/train_features.py` made the files; `Features.about` says how.
"""

import functools
import importlib.resources
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxae.evaluation.classifier import Network, reader

FEATURES = {"mnist": "mnist-features-v1", "digits": "digits-features-v1"}
"""the network of each data set, by the names of both"""
BIT_FEATURES = {"mnist": "mnist-bits-features-v1", "digits": "digits-bits-features-v1"}
"""the same for pixels that are drawn as 0 or 1"""
WIDTH = 64
"""features F, few because the bias of a Fréchet distance grows with them"""


class Features(NamedTuple):
    """A frozen network, as functions of numpy images `[N,H,W,C]` of any N, pixels in [0, 1]."""

    name: str
    image_shape: tuple[int, int, int]
    """H, W, C that it takes; any other shape is a ValueError"""
    features: Callable[[np.ndarray], np.ndarray]
    """images -> `[N, F]` float32, the last hidden layer (after its ReLU)"""
    logits: Callable[[np.ndarray], np.ndarray]
    """images -> `[N, K]` float32"""
    about: dict[str, Any]
    """command, data, versions, sizes and the accuracy on the test set"""


@functools.cache
def load_features(name: str) -> Features:
    """The frozen network of this name, from the package's own files.

    Args:
        name: one of the values of `FEATURES` and `BIT_FEATURES`.
    Raises:
        ValueError: there is none of this name.
    """
    known = (*FEATURES.values(), *BIT_FEATURES.values())
    if name not in known:
        raise ValueError(f"unknown features {name!r}: choose from {', '.join(known)}")
    file = importlib.resources.files("jaxae.evaluation") / "weights" / f"{name}.npz"
    with file.open("rb") as opened, np.load(opened) as arrays:
        held = dict(arrays)
    about = json.loads(held.pop("about").item())
    features, logits = reader(Network(about["classes"], about["width"]), nested(held))
    shape = tuple(about["image_shape"])
    return Features(
        name, shape, _checked(features, name, shape), _checked(logits, name, shape), about
    )


def features_of(data: Any) -> str | None:
    """The name of the network for a data set, or None where there is none for its images.

    Args:
        data: a data set. Where it is binarised the network is one that has learnt from bits, which
            look like nothing that one for grey levels has seen. Standardised images are left out:
            they are not in [0, 1].
    """
    name = (FEATURES if data.options.binarise == "none" else BIT_FEATURES).get(data.name)
    if name is None or data.options.standardise:
        return None
    return name if load_features(name).image_shape == tuple(data.spec.image_shape) else None


def flattened(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A network's parameters by their paths, `Dense_0/kernel`, rounded to float16, as files hold
    them."""
    return {
        f"{layer}/{kind}": np.asarray(array, np.float16)
        for layer, kinds in params["params"].items()
        for kind, array in kinds.items()
    }


def nested(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The parameters, float32, that `flattened` made these arrays of."""
    params: dict[str, Any] = {}
    for path, array in arrays.items():
        layer, kind = path.split("/")
        params.setdefault(layer, {})[kind] = array.astype(np.float32)
    return {"params": params}


def _checked(read: Callable, name: str, shape: tuple[int, ...]) -> Callable:
    def checked(images: np.ndarray) -> np.ndarray:
        images = np.asarray(images, np.float32)
        if images.ndim != 4 or images.shape[1:] != shape:
            raise ValueError(f"{name} takes images [N, {', '.join(map(str, shape))}], the given "
                             f"ones have shape {images.shape}")  # fmt: skip
        return read(images)

    return checked
