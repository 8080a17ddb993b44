"""Precision and recall of samples: are they like data, and is all of the data among them?

Kynkäänniemi, Karras, Laine, Lehtinen & Aila 2019, arXiv:1904.06991. The manifold of a set of
features is the union of balls, one around each, as large as the distance to its k-th nearest one.
"""

import numpy as np

NEIGHBOURS = 3
"""k of the paper"""
_ROWS = 500  # of the matrix of distances at a time


def precision_and_recall(
    real: np.ndarray, generated: np.ndarray, k: int = NEIGHBOURS
) -> dict[str, float]:
    """Shares of each set that lie in the manifold of the other.

    Both grow with the size of the manifold's set, and both say little where there are few rows or
    outliers among them, whose balls are huge: compare at equal sizes and features only. The paper
    takes 50,000 images each and features of VGG-16.

    Args:
        real: `[N, F]` features of images of the data set, and `generated` `[M, F]` of samples,
            more than k of each; computed in float64.
        k: which neighbour a ball reaches to, a row itself not counted.
    Returns:
        `precision`: share of the generated rows in the manifold of the real ones; `recall`: share
        of the real rows in the manifold of the generated ones; in 0..1.
    Raises:
        ValueError: shapes do not fit, too few rows, or numbers that are not finite.
    """
    real, generated = np.asarray(real, np.float64), np.asarray(generated, np.float64)
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1]:
        raise ValueError(
            f"real {real.shape} and generated {generated.shape} must be [N, F], [M, F] with one F"
        )
    if k < 1 or min(len(real), len(generated)) <= k:
        raise ValueError(f"real has {len(real)} rows and generated {len(generated)}; both need "
                         f"more than k, which is {k} and at least 1")  # fmt: skip
    if not (np.isfinite(real).all() and np.isfinite(generated).all()):
        raise ValueError("real and generated must be finite: they hold NaN or infinity")
    return {
        "precision": _share_within(generated, real, _radii(real, k)),
        "recall": _share_within(real, generated, _radii(generated, k)),
    }


def _radii(rows: np.ndarray, k: int) -> np.ndarray:
    """`[N]` distance of each row to its k-th nearest other row."""
    # The row itself is the nearest, at 0; where others are equal to it that makes no difference.
    return np.concatenate([np.partition(part, k, axis=1)[:, k] for part in _distances(rows, rows)])


def _share_within(rows: np.ndarray, centres: np.ndarray, radii: np.ndarray) -> float:
    inside = [(part <= radii).any(1) for part in _distances(rows, centres)]
    return float(np.concatenate(inside).mean())


def _distances(rows: np.ndarray, others: np.ndarray):
    from scipy.spatial.distance import cdist

    for start in range(0, len(rows), _ROWS):
        yield cdist(rows[start : start + _ROWS], others)
