"""How good decoded mixtures of two codes are, where the right ones are known: the lines task.

Berthelot, Raffel, Roy & Goodfellow 2018, arXiv:1807.07543; brain-research/acai: lib/eval.py.

Every decoded image is compared with reference images whose angles are known and dense. The mean
distance says whether decoded images are lines at all, the smoothness whether their angles turn
evenly from one end to the other. Each is fooled alone: repeating one line is perfect in distance
and has no smoothness, an empty picture has no smoothness either. Read them together.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.training.state import Model, State

MIXTURES = 16  # images of an interpolation, both ends included
PAIRS = 256
NO_TURN = 1e-4  # radians between the ends under which an interpolation has no smoothness
_BLOCK = 1024  # images compared at once, to bound memory


class Scores(NamedTuple):
    """Of P interpolations with N images each."""

    distance: np.ndarray
    """[P,N] cosine distance to the nearest reference image, 0 for a perfect line, at most 2"""
    angle: np.ndarray
    """[P,N] that image's angle in radians, without jumps of more than pi along N"""
    smoothness: np.ndarray
    """[P] largest step of the angle as a share of the whole turn, less 1/(N-1): 0 where all steps
    are the same. NaN where the ends are less than 1e-4 apart."""


def score_interpolations(decoded: np.ndarray, reference: np.ndarray, angles: np.ndarray) -> Scores:
    """Where decoded images lie among reference images, and how evenly they pass along them.

    In float64: a perfect line is about 1e-7 from its nearest reference, which float32 cannot tell.

    Args:
        decoded: `[P,N,...]` pixels in [-1, 1], N at least 2; the background counts.
        reference: `[M,...]` likewise; 10,000 lines, evenly spaced, in the paper.
        angles: `[M]` in radians, of a whole circle.
    Raises:
        ValueError: shapes do not fit, fewer than two images, or decoded pixels are not finite.
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
        raise ValueError("decoded holds NaN or infinity: the run has diverged before this state")
    decoded, reference = _unit(decoded), _unit(reference).T
    nearest, distance = np.empty(len(decoded), int), np.empty(len(decoded))
    for first in range(0, len(decoded), _BLOCK):
        part = slice(first, first + _BLOCK)
        likeness = decoded[part] @ reference
        nearest[part] = likeness.argmax(1)
        distance[part] = 1 - likeness.max(1)
    angle = np.unwrap(np.asarray(angles, np.float64)[nearest].reshape(pairs, images), axis=1)
    turn = np.abs(angle[:, -1] - angle[:, 0])
    largest = np.abs(np.diff(angle, axis=1)).max(1)
    turns = turn >= NO_TURN
    share = np.where(turns, largest / np.where(turns, turn, 1), np.nan)
    return Scores(distance.reshape(pairs, images), angle, share - 1 / (images - 1))


def _unit(rows: np.ndarray) -> np.ndarray:
    # An all-zero image has no direction; it is as far from everything as a right angle.
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)


def summarise(scores: Scores) -> dict[str, float | int]:
    """The table's two numbers, and what they hide.

    Returns:
        `mean_distance`: over all images (the paper's table has it in thousandths).
        `official_smoothness`: as the official code has it: the sum of the scores that exist,
        divided by the number of all interpolations, so that one without a score counts as
        perfect; NaN only where none has a score. `smoothness`: the mean of those that exist.
        `undefined`: how many have none. `interpolations`: how many there are.
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
    """Decoded codes (1 - a) code(left) + a code(right), a evenly from 0 to 1.

    Args:
        model: one with `encode` and `decode`.
        left: `[P,H,W,C]` as the model sees images, and `right` likewise.
        mixtures: N. The first and the last image are reconstructions.
    Returns:
        `[P,N,H,W,C]` as `decode` gives them, with nothing cut off.
    Raises:
        ValueError: the model lacks one of the two.
    """
    if model.encode is None or model.decode is None:
        raise ValueError("interpolations need a model that encodes and decodes")
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
    """`summarise` of interpolations between images of a split, the first half with the second.

    Args:
        model: one with `encode` and `decode`, for images in [0, 1].
        split: a half of a data set of lines; the paper takes the first 512 images of its test set.
        reference: `[M,H,W]` in [-1, 1], and `angles` `[M]`, as `jaxae.data.render_lines` gives.
        pairs: interpolations.
    Raises:
        ValueError: the split has too few images.
    """
    if split.size < 2 * pairs:
        raise ValueError(f"pairs={pairs} need {2 * pairs} images, the split has {split.size}")
    images = np.asarray(next(split.examples(2 * pairs))[0]["image"])
    decoded = interpolate(model, state, images[:pairs], images[pairs:], rng)
    return summarise(score_interpolations(2 * decoded[..., 0] - 1, reference, angles))
