"""The settings of training, for any model: steps, batches, seeds, devices, intervals."""

import dataclasses
from typing import Annotated, Literal

import jax

from jaxae.fields import Batch, Checked, Count, Range, SizeOrZero, Steps, StepsOrZero
from jaxae.training.state import Model

LAST_SEED = 2**31 - 2
"""largest seed of training; evaluation uses 2^31 - 1"""


@dataclasses.dataclass(frozen=True)
class Plan(Checked):
    """Every field is a flag of the command line; the text below a field is its help text."""

    steps: Steps = 2000
    """training steps in all"""
    batch_size: Batch = 64
    """examples per step, over all devices together"""
    seed: Annotated[int, Range(0, LAST_SEED)] = 0
    """determines initial parameters, the order of the data and all noise"""
    seeds: Annotated[int, Range(1, 1_000)] = 1
    """number of independent runs at once, with seeds seed, seed+1, ..."""
    parallel: Literal["mesh", "pmap"] = "mesh"
    """several devices by jit over a mesh, or by pmap"""
    devices: SizeOrZero = 0
    """devices to use; 0: all"""
    loop: Literal["auto", "scan", "calls"] = "auto"
    """a chunk of steps as one compiled scan or as single calls; auto: calls for convolutions on a
    CPU"""
    seeds_by: Literal["auto", "vmap", "sequence"] = "auto"
    """several seeds as one vmapped program (vmap), or separately (sequence): in parallel threads on
    one CPU device, else one after another; auto: sequence on a CPU, else vmap"""
    log_every: Steps = 50
    """steps in a chunk: metrics are averaged over a chunk and logged once; a chunk ends early if an
    evaluation, a checkpoint or a refresh is due"""
    eval_every: StepsOrZero = 500
    """steps between evaluations on held-out data; 0: only at the last step (always evaluated)"""
    eval_examples: Count = 1000
    """held-out examples in these evaluations (the final evaluation uses all)"""
    eval_batch: Batch = 250
    """batch size of these evaluations; their noise depends on it"""
    save_every: Steps = 1000
    """steps between checkpoints (also written at the end and when the run is stopped); the best one
    is chosen among those at evaluated steps, so save_every should be a multiple of eval_every, or
    the reverse"""
    refresh_first: bool = False
    """pass the whole training set through the model before the first step (ACN: fill the memory)"""
    refresh_every: StepsOrZero = 0
    """steps between such passes of the whole training set; 0: never"""

    def __post_init__(self):
        super().__post_init__()
        last = self.seed + self.seeds - 1
        if last > LAST_SEED:
            raise ValueError(
                f"seed={self.seed} and seeds={self.seeds}: the last seed would be {last:,}, which "
                f"must be at most {LAST_SEED:,}"
            )

    def check(self, model: Model, labels_batch: int = 0) -> None:
        """Raises ValueError if the plan does not fit the model.

        Args:
            labels_batch: labelled examples of the data in addition to each batch.
        Raises:
            ValueError: the plan needs a capability that the model lacks, or has too few examples
                per batch; names the field and the remedy.
        """
        for field in ("refresh_first", "refresh_every"):
            if getattr(self, field) and model.refresh is None:
                raise ValueError(
                    f"{field}={getattr(self, field)}: this model has nothing to refresh; leave "
                    f"{field} at {getattr(Plan(), field)}"
                )
        for need in model.needs:
            count = self.batch_size if need.of == "batch_size" else labels_batch
            setting = f"{need.of}={count}"
            if need.by_device and self.parallel == "pmap":
                devices = self.devices or jax.device_count()
                count //= devices
                setting += f" and parallel=pmap, {count} for each of {devices} devices"
            need.check(count, setting)
