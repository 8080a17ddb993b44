"""The codes of a split, as numpy."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.evaluation.passes import evenly_spaced, over_split
from jaxae.training.state import Model, State

DECODE_BATCH = 40  # codes at a time; the same everywhere, so that decode compiles once


@functools.lru_cache(maxsize=16)
def on_images(encode: Callable) -> Callable:
    """`encode` as a function of a batch dict; cached per `encode`, so that it compiles once."""
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
        split: a split of a data set.
        batch_size: affects speed and memory only.
        rng: one key for the whole pass.
        limit: number of examples, evenly spaced over the split; None for all.
    Returns:
        codes `[N, Z]` float32, labels `[N]` or None if the data has none.
    Raises:
        ValueError: the model has no `encode`, or its codes are not finite.
    """
    if model.encode is None:
        raise ValueError("encode_split: the model has no encode")
    codes = over_split(on_images(model.encode), state, split, batch_size, rng, limit)
    if not np.isfinite(codes).all():
        raise ValueError("codes hold NaN or infinity: the run has diverged")
    labels = None if split.labels is None else np.asarray(split.labels)
    return codes, None if labels is None else labels[evenly_spaced(split.size, limit)]


def decode_codes(model: Model, state: State, codes: jax.Array, rng: jax.Array) -> np.ndarray:
    """Images `[N,H,W,C]` of codes `[N, Z]`, in batches of `DECODE_BATCH`, one key per batch."""
    decode, images = jax.jit(model.decode), []
    for number, first in enumerate(range(0, len(codes), DECODE_BATCH)):
        part = codes[first : first + DECODE_BATCH]
        padded = jnp.pad(part, ((0, DECODE_BATCH - len(part)), (0, 0)), mode="edge")
        images.append(np.asarray(decode(state, padded, jax.random.fold_in(rng, number))))
    return np.concatenate(images)[: len(codes)]


def images_of(split: Any, batch_size: int, limit: int | None = None) -> np.ndarray:
    """The preprocessed images of a split: `[N,H,W,C]` float32."""
    return over_split(_images, None, split, batch_size, jax.random.key(0), limit)


def pixels_of(split: Any, batch_size: int, limit: int | None = None) -> np.ndarray:
    """The same, flattened: `[N, H*W*C]`."""
    images = images_of(split, batch_size, limit)
    return images.reshape(len(images), -1)


def _images(state, batch, rng):
    return batch["image"]
