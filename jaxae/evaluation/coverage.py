"""The number of modes of a known mixture that a set of points covers.

The rule of Dumoulin et al. 2017, arXiv:1606.00704, section 4.5, and a stricter one. By the
published rule a mode is covered by any one point nearest to it, which blurred samples satisfy too.
"""

import numpy as np

STRICT = 20
"""number of close points that a mode needs to count by the strict rule"""
CLOSE = 3.0
"""standard deviations within which a point is close"""


def mode_coverage(
    points: np.ndarray,
    centres: np.ndarray,
    deviation: float,
    strict: int = STRICT,
    close: float = CLOSE,
) -> dict[str, float | int]:
    """Covered modes of a mixture of Gaussians with equal weights and one standard deviation.

    A point belongs to the mode of largest responsibility, which is the nearest.

    Args:
        points: `[N, D]`, 10,000 samples in the paper.
        centres: `[K, D]`, the modes.
        deviation: standard deviation of the Gaussians.
        strict: number of close points that a mode needs by the strict rule.
        close: a point is close to its mode within less than this many standard deviations. In
            the plane this holds for 1 - exp(-close^2 / 2) of the mixture's points, 98.9 % at 3.
    Returns:
        `modes`: number of modes with any point; `strict`: number with enough close points; `share`:
        share of the points that are close to their mode, in 0..1.
    Raises:
        ValueError: shapes do not match, no points, points not finite, or deviation not positive.
    """
    points, centres = np.asarray(points, np.float64), np.asarray(centres, np.float64)
    if points.ndim != 2 or centres.ndim != 2 or points.shape[1] != centres.shape[1]:
        raise ValueError(
            f"points {points.shape} and centres {centres.shape} must be [N, D] and [K, D], one D"
        )
    if not len(points) or not len(centres) or not np.isfinite(points).all():
        raise ValueError(
            "points and centres must have at least one row each, and points must be finite"
        )
    if deviation <= 0:
        raise ValueError(f"deviation is {deviation}; it must be positive")
    distance = np.linalg.norm(points[:, None] - centres[None], axis=2)
    nearest, is_close = distance.argmin(1), distance.min(1) < close * deviation
    each = np.bincount(nearest[is_close], minlength=len(centres))
    return {
        "modes": len(np.unique(nearest)),
        "strict": int(np.sum(each >= strict)),
        "share": float(is_close.mean()),
    }
