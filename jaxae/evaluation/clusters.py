"""Classification error of clusters and codes, which have no names of their own.

Makhzani et al. 2016, arXiv:1511.05644, section on unsupervised clustering, as reading notes and a
reimplementation describe it: a cluster gets the label of the validation example that it is surest
of, and the test error is counted with that. Several clusters may share a label. No number here
depends on which integers the labels are, or on their order.
"""

import numpy as np


def max_confidence_label_map(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The label of the example with the largest q(y=k|x), for each cluster k.

    Args:
        logits: `[N, K]` of q(y|x), unnormalised.
        labels: `[N]` integers >= 0.
    Returns:
        `[K]` int64; -1, which is no label, for a cluster that is no example's most probable one.
    Raises:
        ValueError: shapes do not fit, no examples, or logits that are not finite.
    """
    logits, labels = _checked(logits, labels)
    surest = np.array([labels[np.argmax(_log_odds(logits, k))] for k in range(logits.shape[1])])
    return np.where(_counts(logits) > 0, surest, -1)


def cluster_errors(
    logits_valid: np.ndarray,
    labels_valid: np.ndarray,
    logits_test: np.ndarray,
    labels_test: np.ndarray,
) -> dict[str, float | int]:
    """Test error of clusters that were named on validation examples, and how evenly they are used.

    Args:
        logits_valid: `[N, K]`, and `logits_test` `[M, K]`; an example belongs to its argmax.
        labels_valid: `[N]`, and `labels_test` `[M]` integers >= 0.
    Returns:
        `max_confidence_error`: share of test examples whose label is not that of their cluster
        by `max_confidence_label_map`; `majority_error`: the same where a cluster has the most
        frequent label of its validation examples (of equals the one met first). Test examples of a
        cluster that is empty on validation always count as errors. `usage_entropy`: of the
        shares of the test set in each cluster, in nats, log K where all are equal;
        `clusters_used`: how many hold a test example.
    Raises:
        ValueError: as `max_confidence_label_map`, or another K on test.
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
    """Share of test labels guessed when every code stands for its most frequent training label.

    Args:
        codes: integers >= 0 of any shape, and `codes_test`; not too large, since all numbers up to
            the largest are counted.
        labels: integers >= 0, as many as `codes`; `labels_test` has the shape of `codes_test`.
    Returns:
        0..1. Of equally frequent labels a code has the one met first; what has a code that training
        lacks counts as an error.
    """
    names = _majority_label_map(codes.ravel(), labels.ravel(), max(codes.max(), codes_test.max()))
    return float(np.mean(names[codes_test] == labels_test))


def _majority_label_map(clusters: np.ndarray, labels: np.ndarray, largest: int) -> np.ndarray:
    """The most frequent label of each cluster 0..largest, of equals the one met first; -1, which is
    no label, for one without examples."""
    names, first, number = np.unique(labels, return_index=True, return_inverse=True)
    met = np.argsort(first)
    votes = np.zeros((largest + 1, len(names)), np.int64)
    np.add.at(votes, (clusters, number), 1)
    return np.where(votes.any(1), names[met][votes[:, met].argmax(1)], -1)


def _log_odds(logits: np.ndarray, k: int) -> np.ndarray:
    """`[N]` log q_k / (1 - q_k): orders examples as q_k does, and still where q_k rounds to 1."""
    others = np.delete(logits, k, axis=1)
    if not others.shape[1]:
        return np.zeros(len(logits))
    return logits[:, k] - np.logaddexp.reduce(others, axis=1)


def _counts(logits: np.ndarray) -> np.ndarray:
    """`[K]` how many examples belong to each cluster."""
    return np.bincount(logits.argmax(1), minlength=logits.shape[1])


def _checked(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not logits.size:
        raise ValueError(
            f"logits {logits.shape} and labels {labels.shape} must be [N, K] and [N], N and K >= 1"
        )
    if not np.isfinite(logits).all():
        raise ValueError("the logits hold NaN or infinity: the run has diverged before this state")
    return logits, labels
