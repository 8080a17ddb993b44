"""Quality of interpolations in code space, on the lines task, where the correct ones are known.

Berthelot, Raffel, Roy & Goodfellow 2018, arXiv:1807.07543; brain-research/acai: lib/eval.py.

Every decoded image is compared with reference images of dense known angles. The mean distance
measures whether decoded images are lines, the smoothness whether their angles change evenly from
one end to the other. Neither is sufficient: a constant line has distance 0 and no smoothness, and
an empty image has no smoothness either. Read both.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.training.state import Model, State

MIXTURES = 16  # images of an interpolation, both ends included
PAIRS = 256
MIN_ANGLE = 1e-4  # radians between the ends below which an interpolation has no smoothness
_BLOCK = 1024  # images compared at once


class Scores(NamedTuple):
    """Scores of P interpolations with N images each."""

    distance: np.ndarray
    """[P,N] cosine distance to the nearest reference image, 0 for a perfect line, at most 2"""
    angle: np.ndarray
    """[P,N] angle of that image in radians, unwrapped along N"""
    smoothness: np.ndarray
    """[P] largest step of the angle divided by the total angle, minus 1/(N-1): 0 for equal steps.
    NaN if the angles of the ends differ by less than `MIN_ANGLE`."""


def score_interpolations(decoded: np.ndarray, reference: np.ndarray, angles: np.ndarray) -> Scores:
    """Distances of decoded images to reference images, and the smoothness of their angles.

    In float64: a perfect line has a distance of about 1e-7, below the precision of float32.

    Args:
        decoded: `[P,N,...]` pixels in [-1, 1] (background -1), N at least 2.
        reference: `[M,...]`, likewise; in the paper 10,000 evenly spaced lines.
        angles: `[M]` angles of the reference in radians, over the whole circle.
    Raises:
        ValueError: shapes do not match, fewer than two images, or decoded pixels not finite.
    """
    pairs, images = decoded.shape[:2]
    decoded = np.asarray(decoded, np.float64).reshape(pairs * images, -1)
    reference = np.asarray(reference, np.float64).reshape(len(reference), -1)
    if images < 2 or decoded.shape[1] != reference.shape[1] or len(angles) != len(reference):
        raise ValueError(
            f"decoded has {images} images of {decoded.shape[1]} pixels in each interpolation (at "
            f"least 2 are needed), reference {len(reference)} of {reference.shape[1]}, and there "
            f"are {len(angles)} angles"
        )
    if not np.isfinite(decoded).all():
        raise ValueError("decoded holds NaN or infinity: the run has diverged")
    decoded, reference = _unit(decoded), _unit(reference).T
    nearest, distance = np.empty(len(decoded), int), np.empty(len(decoded))
    for first in range(0, len(decoded), _BLOCK):
        part = slice(first, first + _BLOCK)
        cosine = decoded[part] @ reference
        nearest[part] = cosine.argmax(1)
        distance[part] = 1 - cosine.max(1)
    angle = np.unwrap(np.asarray(angles, np.float64)[nearest].reshape(pairs, images), axis=1)
    total = np.abs(angle[:, -1] - angle[:, 0])
    largest = np.abs(np.diff(angle, axis=1)).max(1)
    defined = total >= MIN_ANGLE
    share = np.where(defined, largest / np.where(defined, total, 1), np.nan)
    return Scores(distance.reshape(pairs, images), angle, share - 1 / (images - 1))


def _unit(rows: np.ndarray) -> np.ndarray:
    # An all-zero image has no direction: its cosine with any image is 0.
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)


def summarise(scores: Scores) -> dict[str, float | int]:
    """The two numbers of the paper's table, and the number of undefined scores.

    Returns:
        `mean_distance`: over all images (in the paper's table in thousandths).
        `official_smoothness`: as in the official code: the sum of the defined scores divided by
        the number of all interpolations, so an undefined score counts as perfect; NaN only if
        none is defined. `smoothness`: the mean of the defined scores. `undefined`: number of
        undefined scores. `interpolations`: number of interpolations.
    """
    exist = ~np.isnan(scores.smoothness)
    total, count = float(scores.smoothness[exist].sum()), len(exist)
    return {
        "mean_distance": float(scores.distance.mean()),
        "official_smoothness": total / count if exist.any() else float("nan"),
        "smoothness": total / int(exist.sum()) if exist.any() else float("nan"),
        "undefined": int(count - exist.sum()),
        "interpolations": count,
    }


def interpolate(
    model: Model,
    state: State,
    left: np.ndarray,
    right: np.ndarray,
    rng: jax.Array,
    mixtures: int = MIXTURES,
) -> np.ndarray:
    """Decoded codes (1 - a) code(left) + a code(right), a evenly spaced from 0 to 1.

    Args:
        model: one with `encode` and `decode`.
        left: `[P,H,W,C]` preprocessed images, and `right` likewise.
        mixtures: N. The first and the last image are reconstructions.
    Returns:
        `[P,N,H,W,C]`, the outputs of `decode`, not clipped.
    Raises:
        ValueError: the model lacks `encode` or `decode`.
    """
    if model.encode is None or model.decode is None:
        raise ValueError("interpolate: the model must have encode and decode")
    of_left, of_right, of_images = jax.random.split(rng, 3)
    encode, decode = jax.jit(model.encode), jax.jit(model.decode)
    ends = encode(state, jnp.asarray(left), of_left), encode(state, jnp.asarray(right), of_right)
    rows = []
    for number, a in enumerate(np.linspace(0, 1, mixtures)):
        key = jax.random.fold_in(of_images, number)
        rows.append(np.asarray(decode(state, (1 - a) * ends[0] + a * ends[1], key)))
    return np.stack(rows, axis=1)


def line_scores(
    model: Model,
    state: State,
    split: Any,
    reference: np.ndarray,
    angles: np.ndarray,
    rng: jax.Array,
    pairs: int = PAIRS,
) -> dict[str, float | int]:
    """`summarise` of interpolations between images of a split: image i with image i + pairs.

    Args:
        model: one with `encode` and `decode`, for images in [0, 1].
        split: a split of the lines data set; the paper uses the first 512 test images.
        reference: `[M,H,W]` in [-1, 1], and `angles` `[M]`, from `jaxae.data.render_lines`.
        pairs: number of interpolations.
    Raises:
        ValueError: the split has too few images.
    """
    if split.size < 2 * pairs:
        raise ValueError(
            f"line_scores: pairs={pairs} needs {2 * pairs} images, the split has {split.size}"
        )
    images = np.asarray(next(split.examples(2 * pairs))[0]["image"])
    decoded = interpolate(model, state, images[:pairs], images[pairs:], rng)
    return summarise(score_interpolations(2 * decoded[..., 0] - 1, reference, angles))
