"""The labelled examples that semi-supervised training sees beside each batch: AAE, ALI and IAE."""

from typing import Any


def supervised_examples(batch: dict[str, Any], task: str) -> dict[str, Any]:
    """The batch of labelled examples that stands beside `batch`.

    Raises:
        ValueError: there is none; the message says what to set.
    """
    if "supervised" not in batch:
        raise ValueError(
            f"task={task} needs labelled examples beside each batch: set labels_batch (and labels, "
            "how many there are)"
        )
    return batch["supervised"]
