"""Training: the contract of a model, its plan, the compiled engine, the loop, checkpoints.

Only the contract is imported here; `fit`, which needs Orbax, is imported at its first use.
"""

from typing import Any

from jaxae.training.plan import Plan
from jaxae.training.state import Model, Need, Spec, State, adam, all_gather, descend

__all__ = [
    "Fitted",
    "Model",
    "Need",
    "Plan",
    "Spec",
    "State",
    "Workdir",
    "adam",
    "all_gather",
    "descend",
    "fit",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in ("fit", "Fitted"):
        from jaxae.training import loop

        return getattr(loop, name)
    if name == "Workdir":
        from jaxae.training.workdir import Workdir

        return Workdir
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
