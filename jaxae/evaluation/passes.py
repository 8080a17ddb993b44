"""Passes over a split, with a key per example: all measures use them."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np


@functools.partial(jax.jit, static_argnums=0)
def apply_per_example(
    fn: Callable, state: Any, batch: Any, positions: jax.Array, rng: jax.Array
) -> Any:
    """`fn(state, batch, rng)` on each example as a batch of one, with its own key.

    The key is `fold_in(rng, position)`, so the result of an example does not depend on the rest of
    the batch. Compiled once per `fn` and shape.

    Args:
        fn: state, batch, rng -> tree of `[B, ...]`; pass the same object each time.
        batch: tree of `[B, ...]`.
        positions: `[B]` int32, positions of the examples in the split.
    Returns:
        the results of `fn`, `[B, ...]`.
    """

    def one(example, key):
        result = fn(state, jax.tree.map(lambda x: x[None], example), key)
        return jax.tree.map(lambda x: x[0], result)

    keys = jax.vmap(jax.random.fold_in, (None, 0))(rng, positions)
    return jax.vmap(one)(batch, keys)


@functools.partial(jax.jit, static_argnums=0)
def apply_to_batch(
    fn: Callable, state: Any, batch: Any, positions: jax.Array, rng: jax.Array
) -> Any:
    """`fn(state, batch, rng)` on the whole batch, with a key folded from the first position."""
    return fn(state, batch, jax.random.fold_in(rng, positions[0]))


def evenly_spaced(size: int, limit: int | None) -> np.ndarray:
    """`limit` of the positions 0..size-1, evenly spaced, in order; all if `limit` is None.

    Not the first ones, because a split may be sorted by class.

    Raises:
        ValueError: a limit below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, or None for the whole split, is {limit}")
    limit = size if limit is None else min(limit, size)
    return np.arange(limit) * size // limit


def batches(split: Any, batch_size: int, limit: int | None = None) -> Iterator[tuple]:
    """Batches of one shape over a split, or over `evenly_spaced` positions of it.

    Args:
        split: a split of a data set, with `size` and `examples(batch_size)`.
        batch_size: B; the last batch is padded to it.
        limit: number of examples; None for all.
    Yields:
        batch (tree of `[B, ...]`), positions `[B]` int32, mask `[B]` bool, False on padding.
    """
    batch_size = max(1, min(batch_size, split.size))
    if limit is None or limit >= split.size:
        for number, (batch, mask) in enumerate(split.examples(batch_size)):
            positions = np.arange(batch_size, dtype=np.int32) + np.int32(number * batch_size)
            yield batch, positions, np.asarray(mask)
        return
    wanted, pending = evenly_spaced(split.size, limit), None
    for number, (batch, _) in enumerate(split.examples(batch_size)):
        here = wanted[wanted // batch_size == number]
        rows = jax.tree.map(lambda x: np.asarray(x)[here - number * batch_size], batch)
        rows = (rows, here.astype(np.int32))
        pending = (
            rows if pending is None else jax.tree.map(lambda *x: np.concatenate(x), pending, rows)
        )
        if len(pending[1]) >= batch_size:
            full = jax.tree.map(lambda x: x[:batch_size], pending)
            pending = jax.tree.map(lambda x: x[batch_size:], pending)
            yield *full, np.ones(batch_size, bool)
    rest = len(pending[1])
    if rest:
        pad = np.minimum(np.arange(batch_size), rest - 1)
        yield *jax.tree.map(lambda x: x[pad], pending), np.arange(batch_size) < rest


def over_split(
    fn: Callable,
    state: Any,
    split: Any,
    batch_size: int,
    rng: jax.Array,
    limit: int | None = None,
    per_example: bool = True,
) -> Any:
    """The results of `fn` for all examples of a split, without padding.

    Args:
        fn: state, batch, rng -> tree of `[B, ...]`, jitted or not; for its key see
            `apply_per_example`.
        split: a split of a data set; its `examples` have fixed noise, so two passes agree.
        batch_size: affects speed and memory only.
        limit: number of examples, evenly spaced over the split; None for all.
        per_example: call `fn` on each example (`apply_per_example`) or on whole batches
            (`apply_to_batch`).
    Returns:
        tree of numpy `[N, ...]`, in the order of the split.
    """
    run, results, running = apply_per_example if per_example else apply_to_batch, [], None
    for batch, positions, mask in batches(split, batch_size, limit):
        started = (run(fn, state, batch, positions, rng), mask)
        # Fetched one batch late, so that the device is busy and its queue stays short.
        results += [_fetch(*running)] if running else []
        running = started
    return jax.tree.map(lambda *x: np.concatenate(x), *results, _fetch(*running))


def _fetch(values: Any, mask: np.ndarray) -> Any:
    return jax.tree.map(lambda x: np.asarray(x)[mask], values)
