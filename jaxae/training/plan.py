"""How a model is trained, whatever the model is: steps, batches, seeds, devices, intervals."""

import dataclasses
from typing import Annotated, Literal

from jaxae.fields import Batch, Checked, Count, Range, SizeOrZero, Steps, StepsOrZero
from jaxae.training.state import Model

LAST_SEED = 2**31 - 2
"""of training; what is drawn in evaluation has seed 2^31 - 1"""


@dataclasses.dataclass(frozen=True)
class Plan(Checked):
    """Every field is a flag of the command line; the line below a field is its help text."""

    steps: Steps = 2000
    """training steps in all"""
    batch_size: Batch = 64
    """examples per step, over all devices together"""
    seed: Annotated[int, Range(0, LAST_SEED)] = 0
    """fixes initial parameters, the order of the data and all noise"""
    seeds: Annotated[int, Range(1, 1_000)] = 1
    """independent runs in one go, with seeds seed, seed+1, ..."""
    parallel: Literal["mesh", "pmap"] = "mesh"
    """several devices by jit over a mesh, or by pmap"""
    devices: SizeOrZero = 0
    """devices to use; 0 takes all there are"""
    loop: Literal["auto", "scan", "calls"] = "auto"
    """a chunk of steps as one compiled scan or as single calls; auto: calls for convolutions on a
    CPU"""
    seeds_by: Literal["auto", "vmap", "sequence"] = "auto"
    """several seeds as one vmapped program, or each by itself: in threads side by side on one CPU
    device, else in turn; auto: by themselves on a CPU"""
    log_every: Steps = 50
    """steps in a chunk: metrics are averaged over a chunk and logged once; a chunk ends early where
    a look, a checkpoint or a refresh is due"""
    eval_every: StepsOrZero = 500
    """steps between looks at held-out data; 0: only at the last step, which is always looked at"""
    eval_examples: Count = 1000
    """held-out examples in such a look (the final evaluation uses all)"""
    eval_batch: Batch = 250
    """held-out examples at a time in such a look; its noise depends on it"""
    save_every: Steps = 1000
    """steps between checkpoints (one more is written at the end and when the run is stopped); the
    best is the best of those that were looked at, so save_every should be a multiple of eval_every,
    or the reverse"""
    refresh_first: bool = False
    """let the model re-read the whole training set before the first step (ACN: fill the memory)"""
    refresh_every: StepsOrZero = 0
    """steps between passes in which the model re-reads the whole training set; 0 for never"""

    def __post_init__(self):
        super().__post_init__()
        last = self.seed + self.seeds - 1
        if last > LAST_SEED:
            raise ValueError(
                f"seed={self.seed} and seeds={self.seeds}: the last seed would be {last:,}, which "
                f"must be at most {LAST_SEED:,}"
            )

    def check(self, model: Model) -> None:
        """Raises ValueError where the plan asks for what `model` has not."""
        for field in ("refresh_first", "refresh_every"):
            if getattr(self, field) and model.refresh is None:
                raise ValueError(
                    f"{field}={getattr(self, field)}: this model has nothing to refresh; leave "
                    f"{field} at {getattr(Plan(), field)}"
                )
