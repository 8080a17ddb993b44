"""Points of a plane as images of one row and two columns, for toys that one can look at."""

from typing import NamedTuple

import numpy as np


class Plane(NamedTuple):
    """A point p is stored as (p + offset) / span."""

    offset: float
    span: float

    def stored(self, points: np.ndarray) -> np.ndarray:
        """Points `[N, 2]` as images `[N,1,2,1]` float32."""
        return np.float32((points + self.offset) / self.span).reshape(-1, 1, 2, 1)

    def points(self, images: np.ndarray, mean: float = 0.0, deviation: float = 1.0) -> np.ndarray:
        """Images `[N,1,2,1]` as points `[N, 2]` float64.

        Args:
            images: as stored, or standardised.
            mean, deviation: of all stored training pixels, where the images are standardised.
        """
        stored = deviation * np.asarray(images, np.float64).reshape(-1, 2) + mean
        return self.span * stored - self.offset
