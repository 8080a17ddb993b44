"""Retrieval by binary codes: precision, recall, mean average precision.

Every query ranks the whole collection by Hamming distance. Many items have equal distances, so all
numbers are expectations over a random order of items at the same distance. They depend only on the
numbers of items, and of relevant items, at each distance.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxae.evaluation.canvas import PALETTE, heading, write_png
from jaxae.evaluation.codes import encode_split, pixels_of
from jaxae.evaluation.hamming import distances, pack
from jaxae.evaluation.passes import evenly_spaced
from jaxae.training.state import Model, State

QUERIES = 1000  # number of queries (test items), at most
RADIUS = 2
LENGTH = 100
_ROWS = 50  # queries at a time

_distances = jax.jit(distances)


def counts_by_distance(
    queries: np.ndarray, codes: np.ndarray, query_labels: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of items, and of items with the query's label, at each Hamming distance.

    Args:
        queries: `[Q, b]` bits, and `codes` `[N, b]` of the collection.
        query_labels: `[Q]`, and `labels` `[N]`.
    Returns:
        two arrays `[Q, b+1]` int64.
    """
    bits = np.shape(codes)[1]
    table, rows, labels = pack(codes), [], np.asarray(labels)
    wanted = np.asarray(query_labels)
    packed = pack(queries)
    for first in range(0, len(packed), _ROWS):
        block = packed[first : first + _ROWS]
        padded = np.pad(block, ((0, _ROWS - len(block)), (0, 0)), mode="edge")
        far = np.asarray(_distances(padded, table))[: len(block)]
        slot = far + (bits + 1) * np.arange(len(block))[:, None]
        relevant = labels[None] == wanted[first : first + _ROWS, None]
        size = len(block) * (bits + 1)
        pair = [np.bincount(chosen, minlength=size) for chosen in (slot.ravel(), slot[relevant])]
        rows.append([found.reshape(len(block), -1) for found in pair])
    return np.concatenate([r[0] for r in rows]), np.concatenate([r[1] for r in rows])


def average_precision(items: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Expected average precision of each query `[Q]`; 0 if no item is relevant.

    With R0 relevant items among the N0 nearer ones, and r among the n at a distance, the j-th of
    these is relevant with probability r/n, and then R0 + (j-1)(r-1)/(n-1) of the items before it
    are relevant on average.

    Args:
        items, relevant: `[Q, b+1]` from `counts_by_distance`.
    """
    n, r = np.float64(items), np.float64(relevant)
    nearer, hits = np.cumsum(n, 1) - n, np.cumsum(r, 1) - r
    harmonic = np.concatenate([[0], np.cumsum(1 / np.arange(1, items.sum(1).max() + 1))])
    inverse = harmonic[np.int64(nearer + n)] - harmonic[np.int64(nearer)]  # sum of 1/(N0+j)
    others = np.where(n > 1, (r - 1) / np.maximum(n - 1, 1), 0)
    share = np.divide(r, n, out=np.zeros_like(r), where=n > 0)
    # sum over j of (R0 + 1 + (j-1) others) / (N0 + j)
    each = share * ((hits + 1) * inverse + others * (n - (nearer + 1) * inverse))
    total = r.sum(1)
    return np.divide(each.sum(1), total, out=np.zeros(len(r)), where=total > 0)


def precision_recall(
    items: np.ndarray, relevant: np.ndarray, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Expected precision and recall `[Q]` of the `length` nearest items of each query.

    Args:
        items, relevant: `[Q, b+1]` from `counts_by_distance`.
        length: at most the size of the collection.
    """
    n, r = np.float64(items), np.float64(relevant)
    taken = np.clip(length - (np.cumsum(n, 1) - n), 0, n)
    share = np.divide(taken, n, out=np.zeros_like(n), where=n > 0)
    hits, total = (share * r).sum(1), r.sum(1)
    return hits / length, np.divide(hits, total, out=np.zeros(len(r)), where=total > 0)


def scores(items: np.ndarray, relevant: np.ndarray, radius: int = RADIUS) -> dict[str, float]:
    """Retrieval scores, averaged over queries.

    Returns:
        `mean_average_precision`; `precision_in_ball`: of all items within `radius`, 0 for a query
        without any; `empty_balls`: the share of such queries; `items_in_ball`: the mean number of
        items; `precision_at_100` and `recall_at_100` (or at the size of a smaller collection).
    """
    found, right = items[:, : radius + 1].sum(1), relevant[:, : radius + 1].sum(1)
    precision = np.divide(right, found, out=np.zeros(len(found)), where=found > 0)
    length = min(LENGTH, int(items[0].sum()))
    at, recall = precision_recall(items, relevant, length)
    numbers = {
        "mean_average_precision": average_precision(items, relevant).mean(),
        "precision_in_ball": precision.mean(),
        "empty_balls": np.mean(found == 0),
        "items_in_ball": found.mean(),
        f"precision_at_{length}": at.mean(),
        f"recall_at_{length}": recall.mean(),
    }
    return {name: float(value) for name, value in numbers.items()}


def curve(items: np.ndarray, relevant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean recall and mean precision over queries, for lists of 1, 2, 4, ... and all items."""
    size = int(items[0].sum())
    lengths = [*(2**i for i in range(size.bit_length()) if 2**i < size), size]
    pairs = [precision_recall(items, relevant, length) for length in lengths]
    return (np.array([recall.mean() for _, recall in pairs]),
            np.array([precision.mean() for precision, _ in pairs]))  # fmt: skip


def random_hyperplanes(
    train: np.ndarray, *others: np.ndarray, bits: int, seed: int = 0
) -> list[np.ndarray]:
    """Untrained codes: the sides of random hyperplanes through the training mean.

    Args:
        train: `[N, D]`, and any `others` `[M, D]`.
        bits: number of planes, with uniformly random normals.
    Returns:
        bits `[N, b]` of `train` and of each of `others`, bool.
    Source: Charikar 2002, "Similarity estimation techniques from rounding algorithms".
    """
    train = np.asarray(train, np.float32)
    normals = np.random.default_rng(seed).normal(size=(train.shape[1], bits)).astype(np.float32)
    mean = train.mean(0)
    return [(np.asarray(x, np.float32) - mean) @ normals > 0 for x in (train, *others)]


def retrieval_table(
    model: Model,
    state: State,
    data: Any,
    *,
    batch_size: int,
    rng: jax.Array,
    train_limit: int | None = None,
    limit: int | None = None,
) -> dict[str, Any] | None:
    """Retrieval of training items by the codes of test items, with random hyperplanes as baseline.

    Args:
        model: the bundle.
        state: the trained state.
        data: a data set with `train` and `test`; items with the query's label are relevant.
        batch_size: images encoded at a time.
        rng: for encoders that sample.
        train_limit: number of items of the collection, evenly spaced; None for all.
        limit: number of queries, at most `QUERIES`.
    Returns:
        `scores` of `codes` and of `random_hyperplanes`, `bits`, `radius`, `queries`, `collection`;
        None for a model whose codes are not all 0 or 1, and for data without labels.
    """
    if model.encode is None or data.train.labels is None or data.test.labels is None:
        return None
    count = min(QUERIES, limit or QUERIES)
    halves = []
    for split, some in ((data.test, count), (data.train, train_limit)):
        halves.append(encode_split(model, state, split, batch_size, rng, some))
        if not np.isin(halves[-1][0], (0, 1)).all():
            return None
    (queries, wanted), (codes, labels) = halves
    pixels = [pixels_of(data.train, batch_size, train_limit),
              pixels_of(data.test, batch_size, count)]  # fmt: skip
    planes = random_hyperplanes(*pixels, bits=codes.shape[1])
    return {
        "codes": scores(*counts_by_distance(queries, codes, wanted, labels)),
        "random_hyperplanes": scores(*counts_by_distance(planes[1], planes[0], wanted, labels)),
        "bits": codes.shape[1],
        "radius": RADIUS,
        "queries": len(evenly_spaced(data.test.size, count)),
        "collection": len(codes),
    }


def draw_precision_recall(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]], path: pathlib.Path, note: str = ""
) -> pathlib.Path:
    """Precision over recall, a line for each of `curves` (results of `curve`, by name)."""

    def compose(figure):
        axes = figure.add_axes((0.11, 0.11, 0.85, 0.72))
        for colour, (name, (recall, precision)) in zip(PALETTE, curves.items(), strict=False):
            axes.plot(recall, precision, color=colour, marker="o", markersize=3, label=name)
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
        axes.legend(loc="upper right", fontsize=10)
        heading(figure, "Retrieval", note or "lists of 1, 2, 4, ... items; mean over queries")

    return write_png(path, (7.2, 5.4), compose)
