"""Attribute vectors: directions in code space between classes, and editing images with them.

Larsen et al. 2016, arXiv:1512.09300 (visual attribute vectors; andersbll/
autoencoding_beyond_pixels: celeba_aegan.py). For any model with `encode` and `decode`. Codes are
those of `Model.encode`; the official code uses sampled codes.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.evaluation.canvas import image_grid
from jaxae.training.state import Model, State


def attribute_vector(
    codes: np.ndarray, labels: np.ndarray, value: Any, against: Any = None
) -> np.ndarray:
    """The mean code of the images with `value` minus that of the others.

    Args:
        codes: `[N, Z]`.
        labels: `[N]` classes, or bool: whether the image has an attribute.
        value: the class, or True.
        against: the class whose mean is subtracted; None: all others.
    Returns:
        `[Z]` float64.
    Raises:
        ValueError: one of the two sets has no image.
    """
    codes, labels = np.asarray(codes, np.float64), np.asarray(labels)
    on = labels == value
    off = ~on if against is None else labels == against
    if not on.any() or not off.any():
        missing = f"label {value}" if not on.any() else "the label to compare with"
        raise ValueError(f"attribute_vector: no image has {missing}; both sets need images")
    return codes[on].mean(0) - codes[off].mean(0)


def edit_images(
    model: Model,
    state: State,
    images: np.ndarray,
    vector: np.ndarray,
    rng: jax.Array,
    strength: float = 1.0,
) -> np.ndarray:
    """Images `[N,H,W,C]` decoded from their codes with `strength * vector` added.

    Args:
        model: with `encode` and `decode`.
        state: the trained state.
        images: `[N,H,W,C]`.
        vector: `[Z]`, sums and differences of attribute vectors, or `[N, Z]`.
        rng: for the encoder and decoder, if they sample.
        strength: factor of the vector; 0 reconstructs.
    """
    of_codes, of_images = jax.random.split(rng)
    codes = jax.jit(model.encode)(state, jnp.asarray(images), of_codes)
    shift = jnp.asarray(vector, codes.dtype)
    shifted = codes + strength * jnp.broadcast_to(shift, codes.shape)
    return np.asarray(jax.jit(model.decode)(state, shifted, of_images))


def draw_edits(
    model: Model,
    state: State,
    images: np.ndarray,
    vectors: Mapping[str, np.ndarray],
    path: pathlib.Path,
    rng: jax.Array,
    *,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> pathlib.Path:
    """A row per image: the image, its reconstruction, and the edits with each vector.

    Args:
        images: `[N,H,W,C]`, the rows.
        vectors: `[Z]` each, by name; names are the column labels.
        path: the PNG file.
    """
    images = np.asarray(images)
    plain = np.zeros_like(next(iter(vectors.values())))
    shifts = (plain, *vectors.values())
    keys = jax.random.split(rng, len(shifts))
    columns = [
        edit_images(model, state, images, v, key) for v, key in zip(shifts, keys, strict=True)
    ]
    return image_grid(
        np.stack([images, *columns], axis=1).reshape(-1, *images.shape[1:]),
        1 + len(columns),
        path,
        title="Attribute vectors",
        note="decoded codes plus the mean code of one class minus that of the others",
        column_labels=["image", "decoded", *vectors],
        column_gaps=(0, 1),
        value_range=value_range,
    )
