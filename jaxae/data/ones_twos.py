"""Ones and twos: two kinds of points in the plane, with detail that is independent of the kind.

Points are x = -3 e1 + u (a "one") or 3 e1 + u (a "two"), u ~ N(0, I), each kind half of the time:
the smallest data in which a code of one bit should say the kind and leave u to chance. A point is
an image of one row and two columns.
"""

import numpy as np
from scipy.special import ndtri

from jaxae.data.source import Raw, content_bits

CENTRE = 3.0  # distance of each kind from the origin
OFFSET, SPAN = 10.0, 20.0
"""a point p of the plane is stored as (p + OFFSET) / SPAN"""
_TRAIN, _TEST = 50_000, 10_000


def ones_twos() -> Raw:
    """50,000 train and 10,000 test points, float32 `[1,2,1]` in [0, 1], continuous (levels 0).

    The points are a pure function of fixed seeds; the label is 0 for a one and 1 for a two.
    """
    train, test = kinds_and_detail(_TRAIN, seed=0), kinds_and_detail(_TEST, seed=1)
    return Raw(_stored(train[0]), train[1], _stored(test[0]), test[1], levels=0)


def kinds_and_detail(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points `[count, 2]` float64 of the plane, and their kinds `[count]` int32."""
    kinds = (content_bits(count, seed, 0) % np.uint64(2)).astype(np.int32)
    shares = [((content_bits(count, seed, i) >> np.uint64(11)) + 0.5) / 2**53 for i in (1, 2)]
    points = np.stack([ndtri(share) for share in shares], axis=1)
    points[:, 0] += CENTRE * (2 * kinds - 1)
    return points, kinds


def in_the_plane(images: np.ndarray, mean: float = 0.0, deviation: float = 1.0) -> np.ndarray:
    """Images `[N,1,2,1]` as points `[N, 2]` of the plane.

    Args:
        images: as stored, or standardised.
        mean, deviation: of all stored training pixels, where the images are standardised.
    """
    stored = deviation * np.asarray(images, np.float64).reshape(-1, 2) + mean
    return SPAN * stored - OFFSET


def _stored(points: np.ndarray) -> np.ndarray:
    return np.float32((points + OFFSET) / SPAN).reshape(-1, 1, 2, 1)
