"""Orders of a set of codes in which each item is coded given an earlier one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.nets.neighbours import nearest


def greedy_path(codes: jax.Array, start: int = 0) -> np.ndarray:
    """The nearest-neighbour tour from `start`: the next item is the nearest one not yet visited.

    Args:
        codes: `[N, d]` float32.
        start: the first item.
    Returns:
        `[N]` int32, a permutation; item t+1 is coded given item t, so the path can be decoded
        item by item. Computed by N sequential passes over the codes.
    """
    codes = codes - jnp.mean(codes, axis=0, keepdims=True)
    half = 0.5 * jnp.sum(jnp.square(codes), axis=1)
    return np.asarray(_walk(codes, half, jnp.int32(start)))


@jax.jit
def _walk(codes, half, start):
    size = codes.shape[0]

    def visit_next(t, carry):
        order, unvisited, current = carry
        unvisited = unvisited.at[current].set(False)
        score = jnp.dot(codes, codes[current], precision=jax.lax.Precision.HIGHEST) - half
        following = jnp.argmax(jnp.where(unvisited, score, -jnp.inf)).astype(jnp.int32)
        return order.at[t].set(following), unvisited, following

    order = jnp.zeros((size,), jnp.int32).at[0].set(start)
    return jax.lax.fori_loop(1, size, visit_next, (order, jnp.ones((size,), bool), start))[0]


@functools.partial(jax.jit, static_argnums=3)
def _nearest_others(queries, rows, exclude, k):
    return nearest(queries, rows, k, exclude=exclude)[0]


def neighbour_graph(codes: jax.Array, k: int, batch: int = 512) -> tuple[np.ndarray, dict]:
    """The k nearest other codes of each code, and statistics of the graph.

    Args:
        codes: `[N, d]` float32, N > k.
        k: neighbours per code.
        batch: queries per call.
    Returns:
        indices `[N, k]` int32, nearest first, and `{"largest_in_degree": the largest number of
        codes with the same nearest code, "mutual_share": the share of codes that are the nearest of
        their nearest}`.
    """
    size = codes.shape[0]
    neighbours = []
    for first in range(0, size, batch):
        own = np.minimum(np.arange(first, first + batch), size - 1).astype(np.int32)
        neighbours.append(np.asarray(_nearest_others(codes[own], codes, own, k))[: size - first])
    indices = np.concatenate(neighbours)
    closest = indices[:, 0]
    degree = np.bincount(closest, minlength=size)
    mutual = np.mean(closest[closest] == np.arange(size))
    return indices, {"largest_in_degree": float(degree.max()), "mutual_share": float(mutual)}
