"""The labelled examples of semi-supervised training (AAE, ALI and IAE)."""

from typing import Any


def get_labelled_batch(batch: dict[str, Any], task: str) -> dict[str, Any]:
    """The batch of labelled examples that comes with `batch`, a dict of the same entries.

    Args:
        batch: the batch of a training step.
        task: the value of the field `task`, for the message.
    Raises:
        ValueError: the batch has none; the message says what to set.
    """
    if "supervised" not in batch:
        raise ValueError(
            f"task={task} needs a batch of labelled examples at each step: set labels_batch (its "
            "size) and labels (how many examples have labels)"
        )
    return batch["supervised"]
