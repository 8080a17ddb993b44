"""Ones and twos: two classes of points in the plane, with noise independent of the class.

Points are x = -3 e1 + u (a "one") or 3 e1 + u (a "two"), u ~ N(0, I), each class with probability
1/2: a minimal example where a code of one bit should be the class, without u. A point is an image
of one row and two columns.
"""

import numpy as np
from scipy.special import ndtri

from jaxae.data.plane import Plane
from jaxae.data.source import Raw, synthetic_bits, synthetic_uniforms

CENTRE = 3.0  # distance of the class means from the origin
PLANE = Plane(offset=10.0, span=20.0)
_TRAIN, _TEST = 50_000, 10_000


def ones_twos() -> Raw:
    """50,000 train and 10,000 test points, float32 `[1,2,1]` in [0, 1], continuous (levels 0).

    The points are a pure function of fixed seeds; the label is 0 for a one and 1 for a two.
    """
    train, test = sample_points(_TRAIN, seed=0), sample_points(_TEST, seed=1)
    return Raw(PLANE.to_images(train[0]), train[1], PLANE.to_images(test[0]), test[1], levels=0)


def sample_points(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points `[count, 2]` float64 of the plane, and their classes `[count]` int32."""
    kinds = (synthetic_bits(count, seed, 0) % np.uint64(2)).astype(np.int32)
    points = np.stack([ndtri(synthetic_uniforms(count, seed, i)) for i in (1, 2)], axis=1)
    points[:, 0] += CENTRE * (2 * kinds - 1)
    return points, kinds
