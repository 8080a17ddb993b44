"""ACN's memory: the last code of every training image, and the choice of a neighbour in it.

`extra` holds `memory [N,d]`, `written [N]` (rows that a step has written), and, where each row may
be chosen only once per pass over the data, `used [N]`. The memory is data: callers stop gradients,
and under a mapped axis pass the whole batch (`all_gather`), so that every device holds the same.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxae import nets
from jaxae.training.state import all_gather

Extra = dict[str, Any]


def empty(rng: jax.Array, size: int, latent: int, unique: bool) -> Extra:
    """The memory before the first step: N(0, I) noise, no row written, no row used."""
    extra = {
        "memory": jax.random.normal(rng, (size, latent)),
        "written": jnp.zeros((size,), bool),
    }
    return extra | ({"used": jnp.zeros((size,), bool)} if unique else {})


def write(extra: Extra, index: jax.Array, code: jax.Array) -> tuple[Extra, jax.Array]:
    """Sets rows `index [B]` to `code [B,d]`; codes with index -1 are not written.

    Returns:
        the new extra, and the mean squared change of an entry.
    """
    row = jnp.where(index < 0, len(extra["memory"]), index)  # one past the end is dropped
    old = extra["memory"].at[row].get(mode="fill", fill_value=0.0)
    drift = jnp.mean(jnp.square(code - old))
    memory = extra["memory"].at[row].set(code, mode="drop")
    written = extra["written"].at[row].set(True, mode="drop")
    return extra | {"memory": memory, "written": written}, drift


def reset_used(extra: Extra, step: jax.Array, batch_size: int) -> Extra:
    """Marks all rows as unused if `step` is the first of a pass over the data."""
    steps_per_pass = len(extra["memory"]) // batch_size
    return extra | {"used": extra["used"] & (step % steps_per_pass != 0)}


def choose_neighbours(
    extra: Extra,
    code: jax.Array,
    index: jax.Array,
    rng: jax.Array,
    *,
    k: int,
    only_written: bool,
    axis_name: str | None = None,
) -> tuple[jax.Array, Extra]:
    """For each code one of the k nearest rows, chosen uniformly at random.

    Args:
        extra: the memory.
        code: `[B,d]`.
        index: `[B]`, each code's own row, which is never chosen.
        rng: key.
        k: neighbours to choose from.
        only_written: exclude rows that no step has written, once more than k have been written.
        axis_name: the mapped axis, across which no row may be used twice.
    Returns:
        row indices `[B]`, and the new extra.
    """
    valid = None
    if only_written:
        valid = extra["written"] | (jnp.sum(extra["written"]) <= k)
    rank = jax.random.randint(rng, index.shape, 0, k)
    if "used" in extra:
        return _choose_unused(extra, code, index, rank, valid, k, axis_name)
    candidates, _ = nets.nearest(code, extra["memory"], k, exclude=index, valid=valid)
    return jnp.take_along_axis(candidates, rank[:, None], axis=1)[:, 0], extra


def _choose_unused(extra, code, index, rank, valid, k, axis_name):
    """As `choose_neighbours`, among rows not used in this pass; the lowest index chooses first.

    With K + B - 1 candidates for each item K remain whatever the others choose. An item without an
    unused candidate takes the nearest row, used or not.
    """
    local_size, size = index.shape[0], len(extra["memory"])
    code, index, rank = all_gather((code, index, rank), axis_name)
    batch_size = index.shape[0]
    unused = ~extra["used"] if valid is None else valid & ~extra["used"]
    candidates, _ = nets.nearest(
        code, extra["memory"], min(k + batch_size - 1, size - 1), exclude=index, valid=unused
    )
    nearest_of_all = nets.nearest(code, extra["memory"], 1, exclude=index, valid=valid)[0][:, 0]

    def choose_row(used, b):
        available = (candidates[b] >= 0) & ~used[candidates[b]]
        position = jnp.cumsum(available) - 1
        count = jnp.minimum(k, jnp.sum(available))
        chosen = available & (position == rank[b] % jnp.maximum(count, 1))
        row = jnp.where(count > 0, candidates[b][jnp.argmax(chosen)], nearest_of_all[b])
        return used.at[row].set(True), row

    order = jnp.argsort(index)
    used, rows = jax.lax.scan(choose_row, extra["used"], order)
    rows = jnp.zeros_like(rows).at[order].set(rows)
    if axis_name is not None:
        first = jax.lax.axis_index(axis_name) * local_size
        rows = jax.lax.dynamic_slice_in_dim(rows, first, local_size)
    return rows, extra | {"used": used}
