"""25 narrow Gaussians on a grid in the plane, to measure mode coverage.

Dumoulin et al. 2017, arXiv:1606.00704, section 4.5: means on {-4,-2,0,2,4}^2, standard deviation
0.05, equal weights, 100,000 training points. A point is an image of one row and two columns.
"""

import numpy as np

from jaxae.data.plane import Plane
from jaxae.data.source import Raw, synthetic_bits, synthetic_uniforms

CENTRES = np.array([(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)], np.float64)
"""`[25, 2]` means, in the order of the labels"""
DEVIATION = 0.05
PLANE = Plane(offset=6.0, span=12.0)
_TRAIN, _TEST = 100_000, 10_000


def grid25() -> Raw:
    """100,000 train and 10,000 test points, float32 `[1,2,1]` in [0, 1], continuous (levels 0).

    The points are a pure function of fixed seeds; the label is the number of the Gaussian.
    """
    train, test = sample_points(_TRAIN, seed=0), sample_points(_TEST, seed=1)
    return Raw(PLANE.to_images(train[0]), train[1], PLANE.to_images(test[0]), test[1], levels=0)


def sample_points(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points `[count, 2]` float64 of the plane, and their Gaussians `[count]` int32."""
    labels = (synthetic_bits(count, seed, 0) % np.uint64(len(CENTRES))).astype(np.int32)
    # Normal numbers by Box and Muller, since numpy's may differ between versions.
    uniforms = [synthetic_uniforms(count, seed, i) for i in (1, 2)]
    radius, angle = np.sqrt(-2 * np.log(uniforms[0])), 2 * np.pi * uniforms[1]
    noise = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return CENTRES[labels] + DEVIATION * noise, labels
