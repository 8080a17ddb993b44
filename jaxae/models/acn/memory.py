"""ACN's memory: the last code of every training image, and the choice of a neighbour in it.

`extra` holds `memory [N,d]`, `written [N]` (rows that a step has written), and where each row may
serve once per pass `used [N]`. It is data: callers stop gradients, and under a mapped axis hand in
the whole batch (`all_gather`), so that every device holds the same.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxae import nets
from jaxae.training.state import all_gather

Extra = dict[str, Any]


def empty(rng: jax.Array, size: int, latent: int, unique: bool) -> Extra:
    """The memory before the first step: unit noise, nothing written, nothing used."""
    extra = {
        "memory": jax.random.normal(rng, (size, latent)),
        "written": jnp.zeros((size,), bool),
    }
    return extra | ({"used": jnp.zeros((size,), bool)} if unique else {})


def write(extra: Extra, index: jax.Array, code: jax.Array) -> tuple[Extra, jax.Array]:
    """Rows `index [B]` become `code [B,d]`; those of index -1 are nobody's.

    Returns:
        the new extra, and how far the codes moved: mean squared change of an entry.
    """
    row = jnp.where(index < 0, len(extra["memory"]), index)  # one past the end is dropped
    old = extra["memory"].at[row].get(mode="fill", fill_value=0.0)
    drift = jnp.mean(jnp.square(code - old))
    memory = extra["memory"].at[row].set(code, mode="drop")
    written = extra["written"].at[row].set(True, mode="drop")
    return extra | {"memory": memory, "written": written}, drift


def begin_pass(extra: Extra, step: jax.Array, batch: int) -> Extra:
    """Forgets what has been used, if `step` is the first of a pass over the data."""
    passes = len(extra["memory"]) // batch
    return extra | {"used": extra["used"] & (step % passes != 0)}


def choose(
    extra: Extra,
    code: jax.Array,
    index: jax.Array,
    rng: jax.Array,
    *,
    k: int,
    only_written: bool,
    axis_name: str | None = None,
) -> tuple[jax.Array, Extra]:
    """One of the k rows nearest to each code [B,d], by chance, itself excluded by `index [B]`.

    Args:
        only_written: leave out rows that no step has written, once k others have been.
        axis_name: the mapped axis, where `used` rows must be shared out among the devices.
    Returns:
        row indices [B], and the new extra.
    """
    valid = None
    if only_written:
        valid = extra["written"] | (jnp.sum(extra["written"]) <= k)
    turn = jax.random.randint(rng, index.shape, 0, k)
    if "used" in extra:
        return _choose_unused(extra, code, index, turn, valid, k, axis_name)
    found, _ = nets.nearest(code, extra["memory"], k, exclude=index, valid=valid)
    return jnp.take_along_axis(found, turn[:, None], axis=1)[:, 0], extra


def _choose_unused(extra, code, index, turn, valid, k, axis_name):
    """As `choose`, among rows that have not served in this pass; clashes by lowest index.

    With K + B - 1 candidates for each item there are K left however the others chose. An item for
    which nothing is left takes the nearest row, used or not.
    """
    share, size = index.shape[0], len(extra["memory"])
    code, index, turn = all_gather((code, index, turn), axis_name)
    batch = index.shape[0]
    free = ~extra["used"] if valid is None else valid & ~extra["used"]
    found, _ = nets.nearest(
        code, extra["memory"], min(k + batch - 1, size - 1), exclude=index, valid=free
    )
    nearest_any = nets.nearest(code, extra["memory"], 1, exclude=index, valid=valid)[0][:, 0]

    def take(taken, b):
        open_ = (found[b] >= 0) & ~taken[found[b]]
        rank = jnp.cumsum(open_) - 1
        among = jnp.minimum(k, jnp.sum(open_))
        pick = open_ & (rank == turn[b] % jnp.maximum(among, 1))
        row = jnp.where(among > 0, found[b][jnp.argmax(pick)], nearest_any[b])
        return taken.at[row].set(True), row

    order = jnp.argsort(index)
    used, rows = jax.lax.scan(take, extra["used"], order)
    rows = jnp.zeros_like(rows).at[order].set(rows)
    if axis_name is not None:
        rows = jax.lax.dynamic_slice_in_dim(rows, jax.lax.axis_index(axis_name) * share, share)
    return rows, extra | {"used": used}
