"""Clusters against labels by hand, and k-means where the clusters cannot be missed."""

import itertools

import jax
import numpy as np
import pytest

from jaxae.data import from_arrays
from jaxae.evaluation import (
    kmeans_accuracy,
    kmeans_scores,
    matched_accuracy,
    normalised_mutual_information,
)
from jaxae.evaluation.kmeans import kmeans_table, whiten

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2])


def test_matching_against_all_ways_to_name_clusters():
    rng = np.random.default_rng(0)
    labels, clusters = rng.integers(4, size=(2, 60))
    best = max(np.mean(np.array(names)[clusters] == labels)
               for names in itertools.permutations(range(4)))  # fmt: skip
    assert matched_accuracy(clusters, labels) == pytest.approx(best)


def test_matching_by_hand():
    # Cluster 1 holds the three ones, 0 most zeros, and 2 one zero and the two.
    assert matched_accuracy(np.array([0, 0, 0, 2, 1, 1, 1, 2]), LABELS) == 7 / 8
    assert matched_accuracy(np.zeros(8, int), LABELS) == 4 / 8  # one name for one cluster
    assert matched_accuracy(np.arange(8), LABELS) == 3 / 8  # a name is given once
    assert matched_accuracy(np.arange(8) * 2**40, LABELS * 2**50 - 1) == 3 / 8  # by no other name
    with pytest.raises(ValueError, match=r"clusters \(7,\)"):
        matched_accuracy(LABELS[:7], LABELS)


def test_mutual_information_by_hand():
    """Two classes of 4 in two clusters of 4, one of each in the wrong one: both entropies are
    ln 2, and the information ln 2 - H(1/4)."""
    labels, clusters = np.repeat([0, 1], 4), np.array([1, 1, 1, 0, 0, 0, 0, 1])
    share = 1 + (0.25 * np.log(0.25) + 0.75 * np.log(0.75)) / np.log(2)
    assert normalised_mutual_information(clusters, labels) == pytest.approx(share)
    assert normalised_mutual_information(1 - labels, labels) == pytest.approx(1)
    assert normalised_mutual_information(np.zeros(8, int), labels) == 0
    # Each class in two clusters of its own: all of ln 2 of the mean of ln 2 and ln 4.
    halves = np.arange(8) // 2
    assert normalised_mutual_information(halves, labels) == pytest.approx(2 / 3)


def test_whitened_codes_have_no_correlation_and_one_size():
    rng = np.random.default_rng(1)
    train = 3 + rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4))
    white, other = whiten(train, train[:7])
    np.testing.assert_allclose(white.T @ white, np.eye(4), atol=1e-4)
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(other, white[:7])


def corners(rng, count):
    labels = rng.integers(3, size=count)
    return np.array([[0.0, 0], [9, 0], [0, 900]])[labels] + 0.1 * rng.normal(
        size=(count, 2)
    ), labels


def test_clusters_that_cannot_be_missed():
    """On another scale in each direction, which whitening takes away."""
    rng = np.random.default_rng(2)
    (train, _), (test, labels) = corners(rng, 60), corners(rng, 30)
    assert kmeans_scores(train, test, labels, 3, restarts=5) == {
        "accuracy": 1.0, "nmi": pytest.approx(1)
    }  # fmt: skip
    assert kmeans_accuracy(train, test, labels, 3, restarts=5) == 1


def test_codes_that_are_all_one_point():
    labels = np.repeat([0, 1, 2], [5, 3, 2])
    found = kmeans_scores(np.ones((10, 2)), np.ones((10, 2)), labels, 3, restarts=2)
    assert found == {"accuracy": 0.5, "nmi": 0.0}


def test_table_of_a_model(linear):
    """Codes in two corners, by the label; what cannot be clustered has no table."""
    rng = np.random.default_rng(3)
    labels = np.arange(40) % 2
    images = np.uint8(labels[:, None, None] * 200 + rng.integers(20, size=(40, 2, 3)))
    data = from_arrays(images[:30], labels[:30], images[30:], labels[30:])
    model = linear.model._replace(encode=lambda state, x, rng: x.reshape(len(x), -1)[:, :2])
    table = lambda model, data: kmeans_table(
        model, linear.exact, data, batch_size=4, rng=jax.random.key(0), train_limit=20
    )
    assert table(model, data) == {
        "accuracy": 1.0, "nmi": pytest.approx(1), "clusters": 2, "restarts": 10,
        "train_codes": 20, "test_codes": 10,
    }  # fmt: skip
    for names in ([7, 3], [1, 100_000]):
        other = from_arrays(images[:30], np.array(names)[labels[:30]],
                            images[30:], np.array(names)[labels[30:]])  # fmt: skip
        assert table(model, other) == table(model, data)
    wide = lambda state, x, rng: np.zeros((len(x), 513), np.float32)
    assert table(model._replace(encode=wide), data) is None
    assert table(model._replace(encode=None), data) is None
    assert table(model, from_arrays(images[:30], None, images[30:])) is None
