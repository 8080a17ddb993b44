"""What models require of a batch, as `Need`s, which `Plan.check` compares with a plan."""

from typing import Literal

from jaxae.training.state import Need


def min_batch_for_batch_norm(values_per_example: int) -> int:
    """The smallest batch with which the layers below a batch normalisation have a gradient.

    A unit that has one value in the whole batch is normalised to zero, and one that has two, a and
    b, to the signs (a - b) / |a - b| and its negative: neither has a gradient. So each unit needs
    at least three values in a batch.

    Args:
        values_per_example: values of a unit for each example, in the layer where they are fewest:
            the positions of the smallest feature map, or 2 where fakes share the batch of data.
    """
    return -(-3 // values_per_example)


def batch_norm_needs(
    values_per_example: int = 1,
    of: Literal["batch_size", "labels_batch"] = "batch_size",
    **norms: str,
) -> tuple[Need, ...]:
    """What networks with batch normalisation require of a batch.

    Args:
        values_per_example: see `min_batch_for_batch_norm`.
        of: the field of the plan that sets the size of the batch.
        norms: the normalisation of each network by the name of its field; only `batch` requires
            anything.
    """
    least = min_batch_for_batch_norm(values_per_example)
    return tuple(
        Need(f"{field}=batch normalises over these examples, and has no gradient with fewer than "
             f"{least}", least, of=of)
        for field, norm in norms.items() if norm == "batch" and least > 1
    )  # fmt: skip


def labelled_batch_need(task: str) -> Need:
    """What a task requires that learns from a batch of labelled examples at each step."""
    return Need(
        f"task={task} learns from a batch of labelled examples at each step (labels: how many "
        "examples have labels)",
        of="labels_batch",
    )
