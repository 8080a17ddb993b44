"""Mode coverage by hand, on a layout where all three numbers differ, and in closed form."""

import numpy as np
import pytest

from jaxae.evaluation import mode_coverage

CENTRES = np.array([[0.0, 0.0], [10, 0], [0, 10], [10, 10]])


def test_by_hand():
    """Two points in the first mode, one at 2.9 deviations of the second and one just outside of
    it, one far from all but nearest to the third, none for the fourth."""
    points = [[0.1, 0], [0, -0.2], [10 + 2.9 * 0.1, 0], [10 + 3.1 * 0.1, 0], [-5, 30]]
    found = mode_coverage(np.array(points), CENTRES, 0.1, strict=2)
    assert found == {"modes": 3, "strict": 1, "share": 3 / 5}
    assert mode_coverage(np.array(points), CENTRES, 0.1, strict=1)["strict"] == 2
    assert mode_coverage(np.array(points), CENTRES, 0.1)["strict"] == 0


def test_the_mixture_itself_in_closed_form():
    """In the plane the distance from a mode follows Rayleigh's law: 1 - exp(-9/2) are close."""
    rng = np.random.default_rng(0)
    points = CENTRES[rng.integers(4, size=20_000)] + 0.05 * rng.normal(size=(20_000, 2))
    found = mode_coverage(points, CENTRES, 0.05)
    share = 1 - np.exp(-4.5)
    assert (found["modes"], found["strict"]) == (4, 4)
    assert abs(found["share"] - share) < 5 * np.sqrt(share * (1 - share) / 20_000)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"points \(3, 3\) and centres \(4, 2\)"):
        mode_coverage(np.zeros((3, 3)), CENTRES, 1)
    with pytest.raises(ValueError, match="finite"):
        mode_coverage(np.full((3, 2), np.nan), CENTRES, 1)
    with pytest.raises(ValueError, match="at least one"):
        mode_coverage(np.zeros((0, 2)), CENTRES, 1)
    with pytest.raises(ValueError, match="deviation is 0"):
        mode_coverage(np.zeros((3, 2)), CENTRES, 0)
