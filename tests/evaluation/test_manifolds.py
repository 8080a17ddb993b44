"""Precision and recall by hand on a line, and against a direct computation."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from jaxae.evaluation import manifolds, precision_and_recall


def test_on_a_line_by_hand():
    """k = 1. The balls of the real points 0, 1, 3 reach 1, 1 and 2 far: they cover [-1, 5].
    Those of the generated ones 5, 9, 11, 20 reach 4, 2, 2, 9: they cover [1, 29]."""
    real, generated = np.array([[0.0], [1], [3]]), np.array([[5.0], [9], [11], [20]])
    found = precision_and_recall(real, generated, k=1)
    assert found == {"precision": 1 / 4, "recall": 2 / 3}
    # k = 2 on the real side: 3, 2 and 3, so [-3, 6]; on the other 6, 4, 6 and 11: [-1, 31].
    assert precision_and_recall(real, generated, k=2) == {"precision": 1 / 4, "recall": 1.0}


def test_a_dropped_mode_and_a_foreign_one():
    """The data has two clusters far apart, the samples one of them and one of their own."""
    rng = np.random.default_rng(0)
    cluster = lambda at, count: at + 0.1 * rng.normal(size=(count, 2))
    real = np.concatenate([cluster(0, 100), cluster(50, 300)])
    generated = np.concatenate([cluster(0, 60), cluster(-50, 140)])
    found = precision_and_recall(real, generated)
    assert found["precision"] == pytest.approx(0.3, abs=0.03)
    assert found["recall"] == pytest.approx(0.25, abs=0.03)
    assert found["precision"] <= 0.3
    assert found["recall"] <= 0.25


def test_blocks_against_all_pairs(monkeypatch):
    monkeypatch.setattr(manifolds, "_ROWS", 16)
    rng = np.random.default_rng(1)
    real, generated = rng.normal(size=(50, 4)), 0.3 + rng.normal(size=(37, 4))

    def within(rows, centres):
        radii = NearestNeighbors(n_neighbors=4).fit(centres).kneighbors(centres)[0][:, 3]
        apart = np.linalg.norm(rows[:, None] - centres[None], axis=2)
        return np.mean((apart <= radii).any(1))

    expected = {"precision": within(generated, real), "recall": within(real, generated)}
    assert precision_and_recall(real, generated) == pytest.approx(expected)
    assert 0 < expected["precision"] < 1


def test_equal_sets_and_points_that_repeat():
    x = np.repeat(np.random.default_rng(2).normal(size=(5, 3)), 4, axis=0)
    assert precision_and_recall(x, x[::-1]) == {"precision": 1, "recall": 1}
    # Four copies of each point: the balls have radius 0, and nothing else is in them.
    assert precision_and_recall(x, x + 1e-3) == {"precision": 0, "recall": 0}


def test_mistakes_are_named():
    x = np.zeros((4, 2))
    with pytest.raises(ValueError, match=r"real \(4, 2\) and generated \(4, 3\)"):
        precision_and_recall(x, np.zeros((4, 3)))
    with pytest.raises(ValueError, match="generated 3; both need more than k=3"):
        precision_and_recall(x, x[:3])
    with pytest.raises(ValueError, match="NaN or infinity"):
        precision_and_recall(x, x * np.nan)
