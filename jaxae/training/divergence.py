"""Detection of runs that have diverged although all numbers are finite."""

from collections.abc import Sequence
from typing import Any

import numpy as np

FACTOR = 1000.0  # far above the losses of all recipes, and soon reached by a diverging run


class Diverged(ArithmeticError):
    """A state is finite, but numbers computed from it are not."""


def find_divergence(start: Sequence[float] | None, records: list[dict[str, Any]]) -> str | None:
    """A message if the loss of a seed ended far above its start, else None.

    Far is `FACTOR` times the absolute loss of the first step, at least `FACTOR` (a critic's loss
    may start at 0). The mean of the first chunk cannot be used as start, since a run may diverge
    within it. Losses of adversarial players may rise to many times their start without divergence,
    but not by this factor.

    Args:
        start: the loss of the first step, one per seed; None: that of the first record.
        records: those of `metrics.jsonl`; `train/loss` is the mean of a chunk, or a list of one per
            seed.
    """
    losses = [np.atleast_1d(np.asarray(record["train/loss"], np.float64))
              for record in records if "train/loss" in record]  # fmt: skip
    if not losses:
        return None
    first = losses[0] if start is None else np.asarray(start, np.float64)
    last = losses[-1]
    with np.errstate(over="ignore"):
        far = ~(last <= first + FACTOR * np.maximum(np.abs(first), 1.0))
    if not far.any():
        return None
    seed = int(np.argmax(far))
    return (
        f"the training loss ended at {last[seed]:.4g} and started at {first[seed]:.4g}: the run "
        "has diverged; the usual remedy is a lower learning rate"
    )
