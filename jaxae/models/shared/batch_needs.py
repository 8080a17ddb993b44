"""What models need of a batch, as `Need`s that `Plan.check` holds up to a plan."""

from typing import Literal

from jaxae.training.state import Need


def fewest_normalised(numbers: int) -> int:
    """Examples that a batch needs at least for what precedes batch normalisation to learn.

    Of one number normalisation leaves zero, and of two a sign each, (a - b) / |a - b|: neither has
    a slope. So a unit must put out three numbers in a batch.

    Args:
        numbers: how many a unit puts out for each example, where it has the fewest: the places of
            the smallest map, or an image and the fake that shares its batch.
    """
    return -(-3 // numbers)


def of_batch_norm(
    numbers: int = 1, of: Literal["batch_size", "labels_batch"] = "batch_size", **norms: str
) -> tuple[Need, ...]:
    """What networks need that normalise over the batch.

    Args:
        numbers: of `fewest_normalised`.
        of: which examples.
        norms: the normalisation of each network by the name of its field; only `batch` needs any.
    """
    least = fewest_normalised(numbers)
    return tuple(
        Need(f"{field}=batch normalises over these examples, and learns nothing from fewer than "
             f"{least}", least, of=of)
        for field, norm in norms.items() if norm == "batch" and least > 1
    )  # fmt: skip


def of_labels(task: str) -> Need:
    """That of a task which learns from labelled examples beside each batch."""
    return Need(
        f"task={task} learns from labelled examples beside each batch (labels: how many there are)",
        of="labels_batch",
    )
