"""Precision and recall of samples: are they similar to data, and do they cover the data?

Kynkäänniemi, Karras, Laine, Lehtinen & Aila 2019, arXiv:1904.06991. The manifold of a set of
features is a union of balls, one around each, with the distance to its k-th nearest as radius.
"""

import numpy as np

NEIGHBOURS = 3
"""k of the paper"""
_ROWS = 500  # rows of the distance matrix at a time


def precision_and_recall(
    real: np.ndarray, generated: np.ndarray, k: int = NEIGHBOURS
) -> dict[str, float]:
    """Shares of each set that lie in the manifold of the other.

    Both grow with the size of the set of the manifold, and both are unreliable with few rows or
    with outliers, whose balls are large: compare only at equal sizes and features. The paper uses
    50,000 images each and features of VGG-16.

    Args:
        real: `[N, F]` features of data, and `generated` `[M, F]` of samples, more than k rows
            each; computed in float64.
        k: number of the neighbour at the radius of a ball, without the row itself.
    Returns:
        `precision`: share of the generated rows in the manifold of the real ones; `recall`: share
        of the real rows in the manifold of the generated ones; in 0..1.
    Raises:
        ValueError: shapes do not match, too few rows, or values that are not finite.
    """
    real, generated = np.asarray(real, np.float64), np.asarray(generated, np.float64)
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1]:
        raise ValueError(
            f"real {real.shape} and generated {generated.shape} must be [N, F], [M, F] with one F"
        )
    if k < 1 or min(len(real), len(generated)) <= k:
        raise ValueError(f"real has {len(real)} rows and generated {len(generated)}; both need "
                         f"more than k={k} rows, k at least 1")  # fmt: skip
    if not (np.isfinite(real).all() and np.isfinite(generated).all()):
        raise ValueError("real and generated must be finite: they hold NaN or infinity")
    return {
        "precision": _share_within(generated, real, _radii(real, k)),
        "recall": _share_within(real, generated, _radii(generated, k)),
    }


def _radii(rows: np.ndarray, k: int) -> np.ndarray:
    """`[N]` distance of each row to its k-th nearest other row."""
    # The row itself is the nearest, at distance 0.
    return np.concatenate([np.partition(part, k, axis=1)[:, k] for part in _distances(rows, rows)])


def _share_within(rows: np.ndarray, centres: np.ndarray, radii: np.ndarray) -> float:
    inside = [(part <= radii).any(1) for part in _distances(rows, centres)]
    return float(np.concatenate(inside).mean())


def _distances(rows: np.ndarray, others: np.ndarray):
    from scipy.spatial.distance import cdist

    for start in range(0, len(rows), _ROWS):
        yield cdist(rows[start : start + _ROWS], others)
