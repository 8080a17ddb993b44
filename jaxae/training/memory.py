"""Whether a plan fits the machine, found out before anything is allocated."""

import os
import pathlib

import jax

from jaxae.training.parallel import DeviceError
from jaxae.training.plan import Plan
from jaxae.training.state import Model

ARRAY_BYTES = 1024  # of bookkeeping for each array that lives by itself
CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def check_memory(model: Model, split, plan: Plan) -> None:
    """Refuses what cannot fit: every seed's state and gradient, and the data that stays resident.

    Activations are not counted, nor what others use: what passes may still turn out too large.

    Raises:
        DeviceError: it needs more than the device (on a CPU: the machine or its container) has.
    """
    there = available()
    if there is None:
        return
    state = jax.eval_shape(model.init, jax.random.key(0))
    leaves = jax.tree.leaves(state)
    each = _nbytes(state) + _nbytes(state.params) + ARRAY_BYTES * len(leaves)
    data = _nbytes(split.arrays) if split.resident else 0
    if each * plan.seeds + data > there:
        raise DeviceError(
            f"seeds={plan.seeds}: {plan.seeds} x {_text(each)} for states and gradients and "
            f"{_text(data)} of data need more memory than the {_text(there)} there are: take fewer "
            "seeds, smaller networks or less data"
        )


def available() -> int | None:
    """Bytes of memory of a device, on a CPU those of the machine; None where it does not say."""
    if jax.default_backend() != "cpu":
        return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    try:
        found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):
        return None
    for name in CGROUPS:
        try:
            found.append(int(pathlib.Path(name).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return min(found)


def _nbytes(tree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _text(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"
