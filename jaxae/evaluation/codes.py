"""The codes of a split, as numpy."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.evaluation.passes import over_split, spread
from jaxae.training.state import Model, State

DECODED = 40  # codes at a time: one compilation serves all figures and numbers


@functools.lru_cache(maxsize=16)
def of_image(encode: Callable) -> Callable:
    """`encode` on a batch dict; one object per `encode`, so that it compiles once."""
    return lambda state, batch, rng: encode(state, batch["image"], rng)


def encode_split(
    model: Model,
    state: State,
    split: Any,
    batch_size: int,
    rng: jax.Array,
    limit: int | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Codes and labels of a split, in its order.

    Args:
        model: one with `encode`.
        state: trained or not.
        split: a half of a data set.
        batch_size: affects speed and memory only.
        rng: one key for the whole pass.
        limit: how many examples, evenly spread over the split; None for all.
    Returns:
        codes `[N, Z]` float32, labels `[N]` or None where the data has none.
    Raises:
        ValueError: the model has no `encode`, or its codes are not finite.
    """
    if model.encode is None:
        raise ValueError("this model has no encode, so there are no codes to read")
    codes = over_split(of_image(model.encode), state, split, batch_size, rng, limit)
    if not np.isfinite(codes).all():
        raise ValueError("the codes hold NaN or infinity: the run has diverged before this state")
    labels = None if split.labels is None else np.asarray(split.labels)
    return codes, None if labels is None else labels[spread(split.size, limit)]


def decode_codes(model: Model, state: State, codes: jax.Array, rng: jax.Array) -> np.ndarray:
    """Images `[N,H,W,C]` of codes `[N, Z]`, `DECODED` at a time, by one key for each such part."""
    decode, images = jax.jit(model.decode), []
    for number, first in enumerate(range(0, len(codes), DECODED)):
        part = codes[first : first + DECODED]
        padded = jnp.pad(part, ((0, DECODED - len(part)), (0, 0)), mode="edge")
        images.append(np.asarray(decode(state, padded, jax.random.fold_in(rng, number))))
    return np.concatenate(images)[: len(codes)]


def images_of(split: Any, batch_size: int, limit: int | None = None) -> np.ndarray:
    """The images of a split as a model sees them: `[N,H,W,C]` float32."""
    return over_split(_images, None, split, batch_size, jax.random.key(0), limit)


def pixels_of(split: Any, batch_size: int, limit: int | None = None) -> np.ndarray:
    """The same, flattened: `[N, H*W*C]`."""
    images = images_of(split, batch_size, limit)
    return images.reshape(len(images), -1)


def _images(state, batch, rng):
    return batch["image"]
