"""How a model is trained, whatever the model is: steps, batches, seeds, devices, intervals."""

import dataclasses
from typing import Literal, get_args, get_type_hints

from jaxae.training.state import Model


@dataclasses.dataclass(frozen=True)
class Plan:
    """Every field is a flag of the command line; the line below a field is its help text."""

    steps: int = 2000
    """training steps in all"""
    batch_size: int = 64
    """examples per step, over all devices together"""
    seed: int = 0
    """fixes initial parameters, the order of the data and all noise"""
    seeds: int = 1
    """independent runs in one go, with seeds seed, seed+1, ..."""
    parallel: Literal["mesh", "pmap"] = "mesh"
    """several devices by jit over a mesh, or by pmap"""
    devices: int = 0
    """devices to use; 0 takes all there are"""
    loop: Literal["auto", "scan", "calls"] = "auto"
    """a chunk of steps as one compiled scan or as single calls; auto: calls for convolutions on a
    CPU"""
    seeds_by: Literal["auto", "vmap", "sequence"] = "auto"
    """several seeds as one vmapped program, or each by itself: in threads side by side on one CPU
    device, else in turn; auto: by themselves on a CPU"""
    log_every: int = 50
    """steps in a chunk: metrics are averaged over a chunk and logged once; a chunk ends early where
    a look, a checkpoint or a refresh is due"""
    eval_every: int = 500
    """steps between looks at held-out data; 0: only at the last step, which is always looked at"""
    eval_examples: int = 1000
    """held-out examples in such a look (the final evaluation uses all)"""
    eval_batch: int = 250
    """held-out examples at a time in such a look; its noise depends on it"""
    save_every: int = 1000
    """steps between checkpoints (one more is written at the end and when the run is stopped); the
    best is the best of those that were looked at, so save_every should be a multiple of eval_every,
    or the reverse"""
    refresh_first: bool = False
    """let the model re-read the whole training set before the first step (ACN: fill the memory)"""
    refresh_every: int = 0
    """steps between passes in which the model re-reads the whole training set; 0 for never"""

    def __post_init__(self):
        positive = ("steps", "batch_size", "seeds", "log_every", "save_every", "eval_examples",
                    "eval_batch")  # fmt: skip
        for field in positive:
            if getattr(self, field) < 1:
                raise ValueError(f"{field}={getattr(self, field)} must be at least 1")
        for field in ("seed", "devices", "eval_every", "refresh_every"):
            if getattr(self, field) < 0:
                raise ValueError(f"{field}={getattr(self, field)} must not be negative")
        for field in ("parallel", "loop", "seeds_by"):
            choices = get_args(get_type_hints(Plan)[field])
            if getattr(self, field) not in choices:
                raise ValueError(f"{field}={getattr(self, field)!r}: {', '.join(choices)}")

    def check(self, model: Model) -> None:
        """Raises ValueError where the plan asks for what `model` has not."""
        for field in ("refresh_first", "refresh_every"):
            if getattr(self, field) and model.refresh is None:
                raise ValueError(
                    f"{field}={getattr(self, field)}: this model has nothing to refresh; leave "
                    f"{field} at {getattr(Plan(), field)}"
                )
