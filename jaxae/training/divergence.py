"""Whether a run whose numbers are all finite has nevertheless diverged."""

from collections.abc import Sequence
from typing import Any

import numpy as np

FAR = 1000.0  # starts; no preset's loss comes near, and a diverging one is soon beyond it


class Diverged(ArithmeticError):
    """A state is finite, and what it computes is not."""


def far_above_start(start: Sequence[float] | None, records: list[dict[str, Any]]) -> str | None:
    """Says so where a seed's loss has ended far above its start; None where none has.

    Far is `FAR` times the size of the loss of the very first step, or `FAR` where that is below 1
    (a critic's estimate starts at 0). A chunk would not do for the start: a run may diverge within
    its first. Losses of players that work against each other may rise to many times their start
    and mean nothing by it; they do not rise a thousandfold.

    Args:
        start: the loss of the first step, one per seed; None: that of the first record.
        records: those of `metrics.jsonl`; `train/loss` is a chunk's mean, or a list of one a seed.
    """
    losses = [np.atleast_1d(np.asarray(record["train/loss"], np.float64))
              for record in records if "train/loss" in record]  # fmt: skip
    if not losses:
        return None
    first = losses[0] if start is None else np.asarray(start, np.float64)
    last = losses[-1]
    with np.errstate(over="ignore"):
        far = ~(last <= first + FAR * np.maximum(np.abs(first), 1.0))
    if not far.any():
        return None
    seed = int(np.argmax(far))
    return (
        f"the training loss ended at {last[seed]:.4g} and had begun at {first[seed]:.4g}: the run "
        "has diverged; a lower learning rate is the usual remedy"
    )
