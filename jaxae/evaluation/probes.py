"""Probes: accuracy of classifiers on codes, with two baselines.

The accuracy of a probe needs baselines: raw pixels do well on easy data, and a random encoder keeps
most of the information. Both are measured in the same way.
"""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.evaluation.codes import encode_split, pixels_of
from jaxae.evaluation.passes import evenly_spaced
from jaxae.nets import nearest
from jaxae.training.state import Model, State

PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4)  # weights of |w|^2 / 2 added to the mean loss, largest first
SELECTION = 5000  # training examples on which the penalty is chosen
ITERATIONS = 1000
LINEAR_DIMS = 4096  # no regression on wider inputs: it would take minutes


def fit_linear_probe(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    seed: int = 0,
) -> dict[str, Any]:
    """Multinomial logistic regression on standardised codes.

    The L2 penalty is the one of `PENALTIES` with the best accuracy on a held-out fifth of (at most
    `SELECTION`) training examples; the test set is not used for it.

    Args:
        train: `[N, Z]`, and `test` `[M, Z]`; standardised by the training set.
        train_labels: `[N]`, and `test_labels` `[M]` integers.
        seed: of the choice of the held-out examples.
    Returns:
        `accuracy` on test in 0..1, the chosen `penalty`, and `converged`: False if the solver
        stopped at its iteration limit.
    Raises:
        ValueError: fewer than two classes among the training labels.
    """
    train_labels, test_labels = np.asarray(train_labels), np.asarray(test_labels)
    if len(np.unique(train_labels)) < 2:
        raise ValueError("fit_linear_probe: train_labels must have at least two classes")
    train, test = np.asarray(train, np.float32), np.asarray(test, np.float32)
    mean, deviation = train.mean(0), train.std(0)
    deviation = np.where(deviation > 0, deviation, 1)
    train, test = (train - mean) / deviation, (test - mean) / deviation

    order = np.random.default_rng(seed).permutation(len(train))[:SELECTION]
    held_out, used = np.split(order, [max(1, len(order) // 5)])
    penalty = PENALTIES[0]
    if len(np.unique(train_labels[used])) > 1:
        scores = [
            _fit(train[used], train_labels[used], p)[0].score(
                train[held_out], train_labels[held_out]
            )
            for p in PENALTIES
        ]
        penalty = PENALTIES[int(np.argmax(scores))]  # the largest in a tie
    probe, converged = _fit(train, train_labels, penalty)
    accuracy = float(probe.score(test, test_labels))
    return {"accuracy": accuracy, "penalty": penalty, "converged": converged}


def _fit(x: np.ndarray, labels: np.ndarray, penalty: float) -> tuple[Any, bool]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    probe = LogisticRegression(C=1 / (penalty * len(x)), max_iter=ITERATIONS, tol=1e-3)
    # One thread is 5 to 50 times faster for the solver's many small products on a busy machine.
    with threadpool_limits(1), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        probe.fit(x, labels)
    return probe, not any(issubclass(w.category, ConvergenceWarning) for w in caught)


def linear_probe(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    seed: int = 0,
) -> float:
    """The test `accuracy` in 0..1 of `fit_linear_probe`."""
    return fit_linear_probe(train, train_labels, test, test_labels, seed)["accuracy"]


_nearest = jax.jit(nearest, static_argnums=2)


def knn_probe(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    k: int = 5,
    batch_size: int = 500,
) -> float:
    """Test accuracy of k-nearest-neighbour classification, by Euclidean distance.

    Codes are not standardised, since their scale is learned too. Ties go to the class with the
    nearest member.

    Args:
        train: `[N, Z]`, and `test` `[M, Z]`.
        train_labels: `[N]`, and `test_labels` `[M]` integers.
        k: number of neighbours, at most N.
        batch_size: queries at a time; affects speed and memory only.
    Returns:
        0..1.
    """
    classes, votes = np.unique(np.asarray(train_labels), return_inverse=True)
    rows = jnp.asarray(train, jnp.float32)
    queries = np.asarray(test, np.float32)
    batch_size = min(batch_size, len(queries))
    voted = []
    for first in range(0, len(queries), batch_size):
        batch = queries[first : first + batch_size]
        padded = np.pad(batch, ((0, batch_size - len(batch)), (0, 0)), mode="edge")
        found = np.asarray(_nearest(jnp.asarray(padded), rows, k)[0])[: len(batch)]
        voted.append(_vote(votes[found], len(classes)))
    return float(np.mean(classes[np.concatenate(voted)] == np.asarray(test_labels)))


def _vote(labels: np.ndarray, classes: int) -> np.ndarray:
    """The most frequent label of each row `[Q, k]`, nearest first; ties go to the nearest."""
    k = labels.shape[1]
    cast = labels[:, :, None] == np.arange(classes)  # [Q, k, classes]
    first = np.where(cast.any(1), cast.argmax(1), k)
    return np.argmax(cast.sum(1) * (k + 1) - first, axis=1)


def probe_table(
    model: Model,
    state: State,
    untrained: State | None,
    data: Any,
    *,
    batch_size: int,
    rng: jax.Array,
    train_limit: int | None = 20_000,
    limit: int | None = None,
    k: int = 5,
) -> dict[str, Any]:
    """Linear and k-nearest-neighbour accuracy of codes, raw pixels and an untrained encoder.

    Args:
        model: the bundle.
        state: the trained state.
        untrained: a state from `model.init`, or None for no such row.
        data: a data set with `train` and `test`.
        batch_size: images encoded at a time.
        rng: for encoders that sample.
        train_limit: number of training examples, evenly spaced; None for all.
        limit: the same for test examples.
        k: number of neighbours.
    Returns:
        for `codes`, `raw_pixels` and `untrained_encoder` a dict of `linear_accuracy`,
        `linear_converged` and `knn_accuracy`, or None; `train_examples`, `test_examples`, `knn_k`;
        and `why_none`: the reason why a row is None, or None.
    """
    rows = dict.fromkeys(("codes", "raw_pixels", "untrained_encoder"))
    if data.train.labels is None or data.test.labels is None:
        return {**rows, "why_none": "the data has no labels"}
    labels = [
        np.asarray(split.labels)[evenly_spaced(split.size, count)]
        for split, count in ((data.train, train_limit), (data.test, limit))
    ]
    if len(np.unique(labels[0])) < 2:
        return {**rows, "why_none": "all training labels are the same"}
    k = min(k, len(labels[0]))

    def measure(features: list[np.ndarray]) -> dict[str, Any]:
        wide = features[0].shape[1] > LINEAR_DIMS
        train, test = features
        fit = {} if wide else fit_linear_probe(train, labels[0], test, labels[1])
        return {
            "linear_accuracy": fit.get("accuracy"),
            "linear_converged": fit.get("converged"),
            "knn_accuracy": knn_probe(train, labels[0], test, labels[1], k),
        }

    def codes_of(some_state: State) -> list[np.ndarray]:
        of = lambda split, count: encode_split(model, some_state, split, batch_size, rng, count)[0]
        return [of(data.train, train_limit), of(data.test, limit)]

    pixels = [
        pixels_of(data.train, batch_size, train_limit),
        pixels_of(data.test, batch_size, limit),
    ]
    reasons = []
    rows["raw_pixels"] = measure(pixels)
    if pixels[0].shape[1] > LINEAR_DIMS:
        reasons.append(f"no linear probe on inputs of more than {LINEAR_DIMS} numbers")
    if model.encode is None:
        reasons.append("the model has no encoder")
    else:
        rows["codes"] = measure(codes_of(state))
        if untrained is None:
            reasons.append("no untrained state was given")
        else:
            rows["untrained_encoder"] = measure(codes_of(untrained))
    return {
        **rows,
        "train_examples": len(labels[0]),
        "test_examples": len(labels[1]),
        "knn_k": k,
        "why_none": "; ".join(reasons) or None,
    }
