"""How many modes of a known mixture a set of points covers.

The rule of Dumoulin et al. 2017, arXiv:1606.00704, section 4.5, and a stricter one beside it. The
published rule asks for one point for a mode, wherever it lies, which blurred samples give too.
"""

import numpy as np

STRICT = 20
"""points close to a mode by which it counts strictly"""
CLOSE = 3.0
"""standard deviations within which a point is close"""


def mode_coverage(
    points: np.ndarray,
    centres: np.ndarray,
    deviation: float,
    strict: int = STRICT,
    close: float = CLOSE,
) -> dict[str, float | int]:
    """Covered modes of a mixture of Gaussians with equal weights and one deviation.

    A point belongs to the mode that is the most responsible for it, which is the nearest.

    Args:
        points: `[N, D]`, 10,000 samples in the paper.
        centres: `[K, D]`, the modes.
        deviation: of every Gaussian in every direction.
        strict: close points that a mode needs to count strictly.
        close: a point is close to its mode within so many deviations, the border excluded. In the
            plane 1 - exp(-close^2 / 2) of the mixture's own points are, 98.9 % at 3.
    Returns:
        `modes`: to which any point belongs; `strict`: those with enough close points; `share`: of
        the points that are close to their mode, in 0..1.
    Raises:
        ValueError: shapes do not fit, points are none or not finite, deviation is not positive.
    """
    points, centres = np.asarray(points, np.float64), np.asarray(centres, np.float64)
    if points.ndim != 2 or centres.ndim != 2 or points.shape[1] != centres.shape[1]:
        raise ValueError(
            f"points {points.shape} and centres {centres.shape} must be [N, D] and [K, D], one D"
        )
    if not len(points) or not len(centres) or not np.isfinite(points).all():
        raise ValueError("points and centres must be at least one each, and the points finite")
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
