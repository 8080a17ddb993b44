"""Ones and twos: two kinds of points in the plane, with detail that is independent of the kind.

Points are x = -3 e1 + u (a "one") or 3 e1 + u (a "two"), u ~ N(0, I), each kind half of the time:
the smallest data in which a code of one bit should say the kind and leave u to chance. A point is
an image of one row and two columns.
"""

import numpy as np
from scipy.special import ndtri

from jaxae.data.plane import Plane
from jaxae.data.source import Raw, content_bits, content_shares

CENTRE = 3.0  # distance of each kind from the origin
PLANE = Plane(offset=10.0, span=20.0)
_TRAIN, _TEST = 50_000, 10_000


def ones_twos() -> Raw:
    """50,000 train and 10,000 test points, float32 `[1,2,1]` in [0, 1], continuous (levels 0).

    The points are a pure function of fixed seeds; the label is 0 for a one and 1 for a two.
    """
    train, test = kinds_and_detail(_TRAIN, seed=0), kinds_and_detail(_TEST, seed=1)
    return Raw(PLANE.stored(train[0]), train[1], PLANE.stored(test[0]), test[1], levels=0)


def kinds_and_detail(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points `[count, 2]` float64 of the plane, and their kinds `[count]` int32."""
    kinds = (content_bits(count, seed, 0) % np.uint64(2)).astype(np.int32)
    points = np.stack([ndtri(content_shares(count, seed, i)) for i in (1, 2)], axis=1)
    points[:, 0] += CENTRE * (2 * kinds - 1)
    return points, kinds
