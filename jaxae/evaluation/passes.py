"""One pass over a split, an example at a time: what every number of this package is read from."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np


@functools.partial(jax.jit, static_argnums=0)
def alone(fn: Callable, state: Any, batch: Any, positions: jax.Array, rng: jax.Array) -> Any:
    """`fn(state, batch, rng)` on every example as a batch of one, with a key of its own.

    The key is `fold_in(rng, position)`, so neither the noise of an example nor anything else that
    `fn` says of it depends on the batch it happens to come in. Compiled once per `fn` and shape.

    Args:
        fn: state, batch, rng -> tree of `[B, ...]`; give the same object each time.
        batch: tree of `[B, ...]`.
        positions: `[B]` int32, where in the split each example stands.
    Returns:
        what `fn` returns, `[B, ...]`.
    """

    def one(example, key):
        found = fn(state, jax.tree.map(lambda x: x[None], example), key)
        return jax.tree.map(lambda x: x[0], found)

    keys = jax.vmap(jax.random.fold_in, (None, 0))(rng, positions)
    return jax.vmap(one)(batch, keys)


@functools.partial(jax.jit, static_argnums=0)
def together(fn: Callable, state: Any, batch: Any, positions: jax.Array, rng: jax.Array) -> Any:
    """`fn(state, batch, rng)` on the whole batch, its key folded from the first position."""
    return fn(state, batch, jax.random.fold_in(rng, positions[0]))


def spread(size: int, limit: int | None) -> np.ndarray:
    """The positions that a limited pass visits: `limit` of `size`, evenly spread, in order.

    Spread and not the first ones, because a split may be sorted by class. None means all.

    Raises:
        ValueError: a limit below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; give at least 1 example, or None for the whole split")
    limit = size if limit is None else min(limit, size)
    return np.arange(limit) * size // limit


def batches(split: Any, batch_size: int, limit: int | None = None) -> Iterator[tuple]:
    """Batches of one shape over a split or over `spread` positions of it.

    Args:
        split: a half of a data set, with `size` and `examples(batch_size)`.
        batch_size: B; the last batch is padded to it.
        limit: how many examples; None for all.
    Yields:
        batch (tree of `[B, ...]`), positions `[B]` int32, mask `[B]` bool, False on padding.
    """
    batch_size = max(1, min(batch_size, split.size))
    if limit is None or limit >= split.size:
        for number, (batch, mask) in enumerate(split.examples(batch_size)):
            positions = np.arange(batch_size, dtype=np.int32) + np.int32(number * batch_size)
            yield batch, positions, np.asarray(mask)
        return
    wanted, held = spread(split.size, limit), None
    for number, (batch, _) in enumerate(split.examples(batch_size)):
        here = wanted[wanted // batch_size == number]
        rows = jax.tree.map(lambda x: np.asarray(x)[here - number * batch_size], batch)
        rows = (rows, here.astype(np.int32))
        held = rows if held is None else jax.tree.map(lambda *x: np.concatenate(x), held, rows)
        if len(held[1]) >= batch_size:
            full = jax.tree.map(lambda x: x[:batch_size], held)
            held = jax.tree.map(lambda x: x[batch_size:], held)
            yield *full, np.ones(batch_size, bool)
    rest = len(held[1])
    if rest:
        pad = np.minimum(np.arange(batch_size), rest - 1)
        yield *jax.tree.map(lambda x: x[pad], held), np.arange(batch_size) < rest


def over_split(
    fn: Callable,
    state: Any,
    split: Any,
    batch_size: int,
    rng: jax.Array,
    limit: int | None = None,
    apart: bool = True,
) -> Any:
    """What `fn` says of every example of a split, padding left out.

    Args:
        fn: state, batch, rng -> tree of `[B, ...]`, jitted or not; see `alone` for its key.
        split: a half of a data set; its `examples` have fixed noise, so two passes agree.
        batch_size: affects speed and memory only.
        limit: evaluate that many examples, evenly spread over the split; None for all.
        apart: one example at a time (`alone`) or whole batches (`together`).
    Returns:
        tree of numpy `[N, ...]`, in the order of the split.
    """
    run, kept, running = alone if apart else together, [], None
    for batch, positions, mask in batches(split, batch_size, limit):
        started = (run(fn, state, batch, positions, rng), mask)
        # Fetched one batch late: the device has work while the host waits, and never a long queue.
        kept += [_fetch(*running)] if running else []
        running = started
    return jax.tree.map(lambda *x: np.concatenate(x), *kept, _fetch(*running))


def _fetch(values: Any, mask: np.ndarray) -> Any:
    return jax.tree.map(lambda x: np.asarray(x)[mask], values)
