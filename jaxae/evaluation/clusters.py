"""Classification error of unsupervised clusters and discrete codes.

Makhzani et al. 2016, arXiv:1511.05644, section on unsupervised clustering, according to reading
notes and a reimplementation: a cluster gets the label of the validation example with the largest
probability of the cluster, and the test error uses these labels. Several clusters may have the same
label. The results do not depend on which integers the labels are, or on their order.
"""

import numpy as np


def max_confidence_label_map(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The label of the example with the largest q(y=k|x), for each cluster k.

    Args:
        logits: `[N, K]` of q(y|x), unnormalised.
        labels: `[N]` integers >= 0.
    Returns:
        `[K]` int64; -1 (no label) for a cluster that is not the most probable one of any example.
    Raises:
        ValueError: shapes do not match, no examples, or logits that are not finite.
    """
    logits, labels = _checked(logits, labels)
    most_confident = np.array(
        [labels[np.argmax(_log_odds(logits, k))] for k in range(logits.shape[1])]
    )
    return np.where(_counts(logits) > 0, most_confident, -1)


def cluster_errors(
    logits_valid: np.ndarray,
    labels_valid: np.ndarray,
    logits_test: np.ndarray,
    labels_test: np.ndarray,
) -> dict[str, float | int]:
    """Test error of clusters labelled on validation examples, and the usage of the clusters.

    Args:
        logits_valid: `[N, K]`, and `logits_test` `[M, K]`; an example belongs to its argmax.
        labels_valid: `[N]`, and `labels_test` `[M]` integers >= 0.
    Returns:
        `max_confidence_error`: share of test examples whose label is not that of their cluster
        by `max_confidence_label_map`; `majority_error`: the same if a cluster has the most frequent
        label of its validation examples (in a tie the one that occurs first). Test examples of a
        cluster without validation examples count as errors. `usage_entropy`: entropy of the
        distribution of test examples over clusters, in nats, at most log K; `clusters_used`: number
        of clusters with a test example.
    Raises:
        ValueError: as `max_confidence_label_map`, or a different K on test.
    """
    logits, labels = _checked(logits_valid, labels_valid)
    logits_test, labels_test = _checked(logits_test, labels_test)
    if logits.shape[1] != logits_test.shape[1]:
        raise ValueError(
            f"logits_valid have {logits.shape[1]} clusters and logits_test {logits_test.shape[1]}"
        )
    clusters = logits_test.argmax(1)
    error = lambda names: float(np.mean(names[clusters] != labels_test))
    shares = _counts(logits_test) / len(logits_test)
    used = shares[shares > 0]
    return {
        "max_confidence_error": error(max_confidence_label_map(logits, labels)),
        "majority_error": error(_majority_label_map(logits.argmax(1), labels, logits.shape[1] - 1)),
        "usage_entropy": float(np.sum(used * -np.log(used))),
        "clusters_used": len(used),
    }


def majority_accuracy(
    codes: np.ndarray, labels: np.ndarray, codes_test: np.ndarray, labels_test: np.ndarray
) -> float:
    """Test accuracy if each code predicts its most frequent training label.

    Args:
        codes: integers >= 0 of any shape, and `codes_test`; memory grows with the largest one.
        labels: integers >= 0, as many as `codes`; `labels_test` has the shape of `codes_test`.
    Returns:
        0..1. In a tie of labels a code predicts the one that occurs first; a code that does not
        occur in training counts as an error.
    """
    names = _majority_label_map(codes.ravel(), labels.ravel(), max(codes.max(), codes_test.max()))
    return float(np.mean(names[codes_test] == labels_test))


def _majority_label_map(clusters: np.ndarray, labels: np.ndarray, largest: int) -> np.ndarray:
    """The most frequent label of each cluster 0..largest, in a tie the one that occurs first; -1
    (no label) for a cluster without examples."""
    names, first, number = np.unique(labels, return_index=True, return_inverse=True)
    by_occurrence = np.argsort(first)
    votes = np.zeros((largest + 1, len(names)), np.int64)
    np.add.at(votes, (clusters, number), 1)
    return np.where(votes.any(1), names[by_occurrence][votes[:, by_occurrence].argmax(1)], -1)


def _log_odds(logits: np.ndarray, k: int) -> np.ndarray:
    """`[N]` log q_k / (1 - q_k): the order of q_k, also where q_k rounds to 1."""
    others = np.delete(logits, k, axis=1)
    if not others.shape[1]:
        return np.zeros(len(logits))
    return logits[:, k] - np.logaddexp.reduce(others, axis=1)


def _counts(logits: np.ndarray) -> np.ndarray:
    """`[K]` number of examples in each cluster."""
    return np.bincount(logits.argmax(1), minlength=logits.shape[1])


def _checked(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not logits.size:
        raise ValueError(
            f"logits {logits.shape} and labels {labels.shape} must be [N, K] and [N], N and K >= 1"
        )
    if not np.isfinite(logits).all():
        raise ValueError("logits hold NaN or infinity: the run has diverged")
    return logits, labels
