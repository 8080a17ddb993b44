"""Check, before anything is allocated, that a plan fits into memory."""

import jax

from jaxae.memory import host_memory
from jaxae.training.parallel import DeviceError
from jaxae.training.plan import Plan
from jaxae.training.state import Model

ARRAY_BYTES = 1024  # overhead of each array


def check_memory(model: Model, split, plan: Plan) -> None:
    """Raises DeviceError if states and gradients of all seeds and resident data cannot fit.

    Activations and the memory of other programs are not counted, so a plan that passes may still be
    too large.

    Raises:
        DeviceError: more memory is needed than the device (on a CPU: the machine or its container)
            has.
    """
    memory = available()
    if memory is None:
        return
    state = jax.eval_shape(model.init, jax.random.key(0))
    leaves = jax.tree.leaves(state)
    each = _nbytes(state) + _nbytes(state.params) + ARRAY_BYTES * len(leaves)
    data = _nbytes(split.arrays) if split.resident else 0
    if each * plan.seeds + data > memory:
        raise DeviceError(
            f"seeds={plan.seeds}: {plan.seeds} x {_text(each)} for states and gradients and "
            f"{_text(data)} of data need more memory than the {_text(memory)} available: use fewer "
            "seeds, smaller networks or less data"
        )


def available() -> int | None:
    """Bytes of memory of a device, on a CPU of the machine or its container; None if unknown."""
    if jax.default_backend() == "cpu":
        return host_memory()
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


def _nbytes(tree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _text(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"
