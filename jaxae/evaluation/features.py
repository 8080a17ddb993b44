"""Fixed feature networks with names, for comparable distances between sets of images.

A distance of features depends on the network. These small classifiers are part of the package and
never change: other weights get another name. They are not Inception, so distances by them are not
FID.

The files were written by `python experiments/train_features.py`; see `Features.about`.
"""

import functools
import importlib.resources
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxae.evaluation.classifier import Network, network_functions

FEATURES = {"mnist": "mnist-features-v1", "digits": "digits-features-v1"}
"""the network of each data set, by the names of both"""
BIT_FEATURES = {"mnist": "mnist-bits-features-v1", "digits": "digits-bits-features-v1"}
"""the same for binarised pixels"""
WIDTH = 64
"""features F, few because the bias of a Fréchet distance grows with them"""


class Features(NamedTuple):
    """A fixed network, as functions of numpy images `[N,H,W,C]` of any N, pixels in [0, 1]."""

    name: str
    image_shape: tuple[int, int, int]
    """H, W, C of its inputs; another shape raises ValueError"""
    features: Callable[[np.ndarray], np.ndarray]
    """images -> `[N, F]` float32, the last hidden layer (after its ReLU)"""
    logits: Callable[[np.ndarray], np.ndarray]
    """images -> `[N, K]` float32"""
    about: dict[str, Any]
    """command, data, versions, sizes and the accuracy on the test set"""


@functools.cache
def load_features(name: str) -> Features:
    """The fixed network of this name, from the files of the package.

    Args:
        name: one of the values of `FEATURES` and `BIT_FEATURES`.
    Raises:
        ValueError: unknown name.
    """
    known = (*FEATURES.values(), *BIT_FEATURES.values())
    if name not in known:
        raise ValueError(f"unknown features {name!r}: choose from {', '.join(known)}")
    file = importlib.resources.files("jaxae.evaluation") / "weights" / f"{name}.npz"
    with file.open("rb") as stream, np.load(stream) as content:
        arrays = dict(content)
    about = json.loads(arrays.pop("about").item())
    features, logits = network_functions(
        Network(about["classes"], about["width"]), unflatten_params(arrays)
    )
    shape = tuple(about["image_shape"])
    return Features(
        name, shape, _checked(features, name, shape), _checked(logits, name, shape), about
    )


def features_of(data: Any) -> str | None:
    """The name of the network for a data set, or None if there is none for its images.

    Args:
        data: a data set. For binarised data it is a network trained on binarised images. There is
            none for standardised images, which are not in [0, 1].
    """
    name = (FEATURES if data.options.binarise == "none" else BIT_FEATURES).get(data.name)
    if name is None or data.options.standardise:
        return None
    return name if load_features(name).image_shape == tuple(data.spec.image_shape) else None


def flatten_params(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A network's parameters by path, `Dense_0/kernel`, rounded to float16, as in the files."""
    return {
        f"{layer}/{kind}": np.asarray(array, np.float16)
        for layer, kinds in params["params"].items()
        for kind, array in kinds.items()
    }


def unflatten_params(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The inverse of `flatten_params`: parameters as float32."""
    params: dict[str, Any] = {}
    for path, array in arrays.items():
        layer, kind = path.split("/")
        params.setdefault(layer, {})[kind] = array.astype(np.float32)
    return {"params": params}


def _checked(read: Callable, name: str, shape: tuple[int, ...]) -> Callable:
    def checked(images: np.ndarray) -> np.ndarray:
        images = np.asarray(images, np.float32)
        if images.ndim != 4 or images.shape[1:] != shape:
            raise ValueError(f"{name}: images must be [N, {', '.join(map(str, shape))}], have "
                             f"shape {images.shape}")  # fmt: skip
        return read(images)

    return checked
