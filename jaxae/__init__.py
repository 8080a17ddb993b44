"""The autoencoder family in functional JAX.

    model = jaxae.train("vae", "digits", workdir="runs/mine")     # or jaxae.load("runs/mine")
    images = model.sample(16)
    codes = model.encode(images)

Subpackages are imported by name: `jaxae.losses`, `jaxae.nets`, `jaxae.models`, `jaxae.training`,
`jaxae.data`, `jaxae.evaluation`, `jaxae.recipes`.
"""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["Trained", "load", "train"]
_LAZY = {"Trained": "trained", "load": "api", "train": "api"}  # so that this import needs no jax


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"jaxae.command.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
