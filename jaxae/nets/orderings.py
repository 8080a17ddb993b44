"""Orders of a set of codes in which every item is coded given one that came before."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.nets.neighbours import nearest


def greedy_path(codes: jax.Array, start: int = 0) -> np.ndarray:
    """The nearest-neighbour tour: from `start`, always on to the nearest code not yet visited.

    Args:
        codes: `[N, d]` float32.
        start: the first item.
    Returns:
        `[N]` int32, a permutation; item t+1 is coded given item t, so the path can be decoded
        item by item. N passes over the N*d numbers, in sequence.
    """
    codes = codes - jnp.mean(codes, axis=0, keepdims=True)
    half = 0.5 * jnp.sum(jnp.square(codes), axis=1)
    return np.asarray(_walk(codes, half, jnp.int32(start)))


@jax.jit
def _walk(codes, half, start):
    size = codes.shape[0]

    def move(t, carry):
        order, left, here = carry
        left = left.at[here].set(False)
        score = jnp.dot(codes, codes[here], precision=jax.lax.Precision.HIGHEST) - half
        there = jnp.argmax(jnp.where(left, score, -jnp.inf)).astype(jnp.int32)
        return order.at[t].set(there), left, there

    order = jnp.zeros((size,), jnp.int32).at[0].set(start)
    return jax.lax.fori_loop(1, size, move, (order, jnp.ones((size,), bool), start))[0]


@functools.partial(jax.jit, static_argnums=3)
def _others(queries, rows, own, k):
    return nearest(queries, rows, k, exclude=own)[0]


def neighbour_graph(codes: jax.Array, k: int, batch: int = 512) -> tuple[np.ndarray, dict]:
    """The k nearest others of every code, and how even the graph is.

    Args:
        codes: `[N, d]` float32, N > k.
        k: neighbours per code.
        batch: codes per look-up.
    Returns:
        indices `[N, k]` int32, nearest first, and `{"largest_in_degree": the times the most
        popular code is somebody's nearest, "mutual_share": the share of codes whose nearest has
        them as its nearest}`.
    """
    size = codes.shape[0]
    found = []
    for first in range(0, size, batch):
        own = np.minimum(np.arange(first, first + batch), size - 1).astype(np.int32)
        found.append(np.asarray(_others(codes[own], codes, own, k))[: size - first])
    indices = np.concatenate(found)
    closest = indices[:, 0]
    degree = np.bincount(closest, minlength=size)
    mutual = np.mean(closest[closest] == np.arange(size))
    return indices, {"largest_in_degree": float(degree.max()), "mutual_share": float(mutual)}
