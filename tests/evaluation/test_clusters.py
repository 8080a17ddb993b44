"""Errors of named clusters, by hand."""

import numpy as np
import pytest

from jaxae.evaluation import cluster_errors, majority_accuracy, max_confidence_label_map

K = 30


def perfect(labels, rng, draws=None):
    """Logits of a head with three clusters for each of ten labels, all of them right."""
    clusters = labels + 10 * (rng.integers(3, size=len(labels)) if draws is None else draws)
    return 40 * np.eye(K)[clusters] + rng.normal(size=(len(labels), K))


def test_a_perfect_head_has_no_error():
    rng = np.random.default_rng(0)
    valid, test = np.arange(600) % 10, np.arange(300) % 10
    draws = np.arange(300) // 10 % 3  # ten test examples in each cluster
    found = cluster_errors(perfect(valid, rng), valid, perfect(test, rng, draws), test)
    assert found["max_confidence_error"] == found["majority_error"] == 0
    assert found["usage_entropy"] == pytest.approx(np.log(30))
    assert found["clusters_used"] == 30


def test_a_cluster_that_is_empty_on_validation_is_always_wrong():
    rng = np.random.default_rng(1)
    valid, test = np.arange(600) % 10, np.arange(300) % 10
    logits = perfect(valid, rng)
    kept = logits.argmax(1) != 17
    found = cluster_errors(
        logits[kept], valid[kept], perfect(test, rng, np.arange(300) // 10 % 3), test
    )
    assert max_confidence_label_map(logits[kept], valid[kept])[17] == -1
    assert found["max_confidence_error"] == found["majority_error"] == pytest.approx(10 / 300)
    assert found["clusters_used"] == 30


def test_two_ways_to_name_a_cluster():
    """Cluster 0 holds labels 5, 5, 7 and is surest of the 7; cluster 1 holds a 2 and a 3."""
    probabilities = [[0.6, 0.3, 0.1], [0.7, 0.2, 0.1], [0.8, 0.1, 0.1], [0.3, 0.6, 0.1],
                     [0.2, 0.7, 0.1]]  # fmt: skip
    logits, labels = np.log(probabilities), np.array([5, 5, 7, 3, 2])
    assert max_confidence_label_map(logits, labels).tolist() == [7, 2, -1]
    test = np.array([[3.0, 0, 0], [2, 0, 0], [0, 1, 0], [0, 0, 1]])
    found = cluster_errors(logits, labels, test, np.array([5, 7, 2, 7]))
    # Named 7 and 2: 5 and the last are wrong. By majority 5 and (the first of equals) 3: all but 5.
    assert found["max_confidence_error"] == 0.5
    assert found["majority_error"] == 0.75
    assert found["usage_entropy"] == pytest.approx(1.5 * np.log(2))  # 1/2, 1/4, 1/4
    assert found["clusters_used"] == 3
    other = cluster_errors(logits, labels, test, np.array([5, 5, 2, 7]))
    assert (other["max_confidence_error"], other["majority_error"]) == (0.75, 0.5)


def test_the_surest_example_need_not_belong_to_the_cluster():
    """q(y=1|x) is largest, 0.45, for an example of cluster 0."""
    logits = np.log([[0.5, 0.45, 0.05], [0.3, 0.4, 0.3]])
    assert max_confidence_label_map(logits, np.array([4, 6])).tolist() == [4, 4, -1]


def test_probabilities_that_round_to_one_are_told_apart():
    logits = np.array([[50.0, 0], [60, 0], [55, 0], [0, 800], [0, 900]])
    assert max_confidence_label_map(logits, np.array([1, 2, 3, 4, 5])).tolist() == [2, 5]
    assert max_confidence_label_map(logits[:, :1], np.array([1, 2, 3, 4, 5])).tolist() == [1]


def test_mistakes_are_named():
    logits, labels = np.zeros((4, 3)), np.zeros(4, int)
    with pytest.raises(ValueError, match=r"must be \[N, K\] and \[N\]"):
        max_confidence_label_map(logits, labels[:2])
    with pytest.raises(ValueError, match="N and K >= 1"):
        max_confidence_label_map(logits[:0], labels[:0])
    with pytest.raises(ValueError, match="diverged"):
        max_confidence_label_map(logits * np.nan, labels)
    with pytest.raises(ValueError, match="3 clusters and logits_test 2"):
        cluster_errors(logits, labels, logits[:, :2], labels)


def test_codes_stand_for_their_most_frequent_labels():
    """Code 0 stands for 1, code 2 for 3 (a draw with 2, met later), code 3 for nothing."""
    codes, labels = np.array([[0, 0], [0, 2], [2, 1]]), np.array([[1, 1], [0, 3], [2, 3]])
    test, truth = np.array([[0, 0, 2], [1, 3, 3]]), np.array([[1, 0, 3], [3, 0, 1]])
    assert majority_accuracy(codes, labels, test, truth) == pytest.approx(3 / 6)


def test_other_names_of_the_labels_change_no_number():
    """Any integers in any order, ties and empty clusters among them."""
    rng = np.random.default_rng(0)
    logits = rng.integers(0, 3, (40, 6)) + np.eye(6)[rng.integers(5, size=40)]
    labels, test = rng.integers(0, 4, 40), rng.integers(0, 4, 60)
    logits_test, codes, codes_test = rng.normal(size=(60, 6)), np.arange(40) % 8, np.arange(60) % 9
    for names in ([0, 1, 2, 3], [3, 1, 0, 2], [5, 6, 7, 8], [10**9, 7, 2**40, 0]):
        renamed, renamed_test = np.array(names)[labels], np.array(names)[test]
        found = cluster_errors(logits, renamed, logits_test, renamed_test)
        found["accuracy"] = majority_accuracy(codes, renamed, codes_test, renamed_test)
        if names[0] == 0:
            wanted = found
        assert found == wanted
