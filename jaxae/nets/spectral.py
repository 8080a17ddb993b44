"""Largest singular values of many matrices, by power iterations continued from step to step.

Yoshida & Miyato 2017, arXiv:1705.10941 (spectral norm as a penalty); Vahdat & Kautz 2020,
arXiv:2007.03898 (for all convolutions of a network, with warm starts).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Vectors = dict[str, jax.Array]


def stack_by_shape(weights: Any) -> dict[str, jax.Array]:
    """The matrices of a tree by shape, `{"576x64": [N, 576, 64]}`.

    Raises:
        ValueError: a leaf is not a matrix.
    """
    matrices: dict[str, list] = {}
    for path, w in jax.tree_util.tree_leaves_with_path(weights):
        if w.ndim != 2:
            raise ValueError(
                f"weights{jax.tree_util.keystr(path)} must be a matrix, has shape {w.shape}"
            )
        matrices.setdefault(f"{w.shape[0]}x{w.shape[1]}", []).append(w)
    return {shape: jnp.stack(same) for shape, same in matrices.items()}


def init_spectral_vectors(rng: jax.Array, weights: Any) -> Vectors:
    """Random vectors from which the power iterations start.

    Args:
        rng: one key for all.
        weights: a tree of matrices, or of their shapes.
    Returns:
        by shape, `[N, rows]` of unit length.
    """
    shapes = {name: w.shape[:2] for name, w in jax.eval_shape(stack_by_shape, weights).items()}
    sizes = [n * rows for n, rows in shapes.values()]
    parts = jnp.split(jax.random.normal(rng, (sum(sizes),)), np.cumsum(sizes)[:-1])
    return {
        name: _unit(part.reshape(shape))
        for part, (name, shape) in zip(parts, shapes.items(), strict=True)
    }


def spectral_norms(
    weights: Any, vectors: Vectors, iterations: int | jax.Array
) -> tuple[jax.Array, Vectors]:
    """u' W v of each matrix W of a tree, and the vectors u after more iterations.

    No gradient flows through the vectors, so the gradient of a norm is u v'.

    Args:
        weights: a tree of matrices.
        vectors: from the step before, or from `init_spectral_vectors`.
        iterations: of the power method, at least 1; may be traced.
    Returns:
        `[number of matrices]` float, at most the true norms; the vectors.
    """
    norms, updated = [], {}
    for shape, w in stack_by_shape(weights).items():
        u, v = _iterate(jax.lax.stop_gradient(w), vectors[shape], iterations)
        norms.append(jnp.einsum("nr,nrc,nc->n", u, w, v))
        updated[shape] = u
    return jnp.concatenate(norms), updated


def _iterate(w: jax.Array, u: jax.Array, iterations: Any) -> tuple[jax.Array, jax.Array]:
    """u `[N, rows]` and v `[N, columns]` after `iterations` rounds of v = W'u, u = Wv."""

    def once(_, pair):
        v = _unit(jnp.einsum("nrc,nr->nc", w, pair[0]))
        return _unit(jnp.einsum("nrc,nc->nr", w, v)), v

    start = (u, jnp.zeros((w.shape[0], w.shape[2])))
    return jax.lax.stop_gradient(jax.lax.fori_loop(0, iterations, once, start))


def _unit(x: jax.Array) -> jax.Array:
    return x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-12)
