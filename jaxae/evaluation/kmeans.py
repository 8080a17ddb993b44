"""Agreement of k-means clusters of codes with labels.

Berthelot, Raffel, Roy & Goodfellow 2018, arXiv:1807.07543; brain-research/acai: cluster.py.
"""

import warnings
from typing import Any

import jax
import numpy as np

from jaxae.evaluation.codes import encode_split
from jaxae.training.state import Model, State

CLUSTERS = 10
RESTARTS = 1000
ITERATIONS = 1000
TABLE_RESTARTS = 10
TABLE_CODES = 5000
TABLE_DIMS = 512  # with wider codes it would take minutes
_EPSILON = 1e-5


def whiten(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes in the principal directions of the training codes, each divided by its singular value.

    All directions get the same scale, up to the 1e-5 added to every singular value.

    Args:
        train: `[N,Z]`, and `test` `[M,Z]`.
    Returns:
        both, `[N,min(N,Z)]` and `[M,min(N,Z)]` float64.
    """
    train, test = np.asarray(train, np.float64), np.asarray(test, np.float64)
    mean = train.mean(0)
    _, values, directions = np.linalg.svd(train - mean, full_matrices=False)
    turn = directions.T / (values + _EPSILON)
    return (train - mean) @ turn, (test - mean) @ turn


def matched_accuracy(clusters: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy for the best one-to-one assignment of clusters to labels.

    Args:
        clusters: `[N]`, and `labels` `[N]`: any integers.
    Raises:
        ValueError: shapes differ, or no examples.
    """
    from scipy.optimize import linear_sum_assignment

    clusters, labels = np.asarray(clusters), np.asarray(labels)
    if clusters.shape != labels.shape or clusters.ndim != 1 or not len(labels):
        raise ValueError(
            f"clusters {clusters.shape} and labels {labels.shape} must be [N], N at least 1"
        )
    (cluster_values, row), (label_values, column) = (
        np.unique(numbers, return_inverse=True) for numbers in (clusters, labels)
    )
    counts = np.zeros((len(cluster_values), len(label_values)), int)
    np.add.at(counts, (row, column), 1)
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(labels))


def normalised_mutual_information(clusters: np.ndarray, labels: np.ndarray) -> float:
    """I(cluster; label) / ((H(cluster) + H(label)) / 2): 1 if each determines the other, 0 if they
    are independent (also with one cluster only).

    Unlike `matched_accuracy` it penalises a class split into several clusters only in part. Its
    value by chance grows with the number of clusters.

    Args:
        clusters: `[N]`, and `labels` `[N]`, integers.
    Raises:
        ValueError: shapes differ.
    """
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(labels, clusters))


def kmeans_scores(
    train: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    clusters: int = CLUSTERS,
    restarts: int = RESTARTS,
    seed: int = 0,
) -> dict[str, float]:
    """Agreement with test labels of k-means clusters fitted to whitened training codes.

    Args:
        train: `[N,Z]`, and `test` `[M,Z]`; see `whiten`.
        test_labels: `[M]` integers.
        clusters: k, at most N.
        restarts: random starts, of which the one with the least inertia is used; the paper's 1000
            are slow, and fewer give a lower and noisier result.
        seed: of the starts.
    Returns:
        `accuracy`: `matched_accuracy`; `nmi`: `normalised_mutual_information`; in 0..1.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    train, test = whiten(train, test)
    kmeans = KMeans(
        clusters, init="random", n_init=restarts, max_iter=ITERATIONS, random_state=seed
    )
    # One thread is faster for small products; the warning is for fewer codes than clusters.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        kmeans.fit(train)
        predicted = kmeans.predict(test)
    return {
        "accuracy": matched_accuracy(predicted, test_labels),
        "nmi": normalised_mutual_information(predicted, test_labels),
    }


def kmeans_accuracy(
    train: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    clusters: int = CLUSTERS,
    restarts: int = RESTARTS,
    seed: int = 0,
) -> float:
    """The `accuracy` of `kmeans_scores`."""
    return kmeans_scores(train, test, test_labels, clusters, restarts, seed)["accuracy"]


def kmeans_table(
    model: Model,
    state: State,
    data: Any,
    *,
    batch_size: int,
    rng: jax.Array,
    train_limit: int | None = TABLE_CODES,
    limit: int | None = None,
    restarts: int = TABLE_RESTARTS,
) -> dict[str, Any] | None:
    """`kmeans_scores` of a model's codes, with as many clusters as the data has classes.

    Args:
        model: the bundle.
        state: the trained state.
        data: a data set with `train` and `test`.
        batch_size: images encoded at a time.
        rng: for encoders that sample.
        train_limit: number of training codes, evenly spaced; None for all.
        limit: the same for test codes.
        restarts: as in `kmeans_scores`; fewer than in the paper, to be fast.
    Returns:
        `accuracy`, `nmi`, and the numbers of `clusters`, `restarts`, `train_codes` and
        `test_codes`. None without an encoder or labels, with fewer than two classes, with fewer
        codes than classes, and for codes of more than `TABLE_DIMS` dimensions.
    """
    k = data.spec.classes
    if model.encode is None or data.test.labels is None or k < 2:
        return None
    test, labels = encode_split(model, state, data.test, batch_size, rng, limit)
    count = min(train_limit or data.train.size, data.train.size)
    if test.shape[1] > TABLE_DIMS or count < k:
        return None
    train, _ = encode_split(model, state, data.train, batch_size, rng, count)
    return {
        **kmeans_scores(train, test, labels, k, restarts),
        "clusters": k,
        "restarts": restarts,
        "train_codes": len(train),
        "test_codes": len(test),
    }
