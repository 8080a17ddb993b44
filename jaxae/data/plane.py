"""Points of a plane as images of one row and two columns, for two-dimensional examples."""

from typing import NamedTuple

import numpy as np


class Plane(NamedTuple):
    """A point p is stored as (p + offset) / span."""

    offset: float
    span: float

    def to_images(self, points: np.ndarray) -> np.ndarray:
        """Points `[N, 2]` as images `[N,1,2,1]` float32."""
        return np.float32((points + self.offset) / self.span).reshape(-1, 1, 2, 1)

    def to_points(
        self, images: np.ndarray, mean: float = 0.0, deviation: float = 1.0
    ) -> np.ndarray:
        """Images `[N,1,2,1]` as points `[N, 2]` float64.

        Args:
            images: as from `to_images`, or standardised.
            mean, deviation: of all training pixels before standardisation.
        """
        stored = deviation * np.asarray(images, np.float64).reshape(-1, 2) + mean
        return self.span * stored - self.offset
