"""Largest singular values of many matrices, by power iterations that go on from step to step.

Yoshida & Miyato 2017, arXiv:1705.10941 (spectral norm as a penalty); Vahdat & Kautz 2020,
arXiv:2007.03898 (over all convolutions of a network, from warm starts).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Vectors = dict[str, jax.Array]


def stacked(weights: Any) -> dict[str, jax.Array]:
    """The matrices of a tree by shape, `{"576x64": [N, 576, 64]}`.

    Raises:
        ValueError: a leaf is not a matrix.
    """
    found: dict[str, list] = {}
    for path, w in jax.tree_util.tree_leaves_with_path(weights):
        if w.ndim != 2:
            raise ValueError(
                f"weights{jax.tree_util.keystr(path)} has shape {w.shape}; reshape it to a matrix"
            )
        found.setdefault(f"{w.shape[0]}x{w.shape[1]}", []).append(w)
    return {shape: jnp.stack(same) for shape, same in found.items()}


def start_vectors(rng: jax.Array, weights: Any) -> Vectors:
    """Random directions to begin the power iterations with.

    Args:
        rng: one key for all.
        weights: a tree of matrices, or of their shapes.
    Returns:
        by shape, `[N, rows]` of length one.
    """
    shapes = {name: w.shape[:2] for name, w in jax.eval_shape(stacked, weights).items()}
    sizes = [n * rows for n, rows in shapes.values()]
    parts = jnp.split(jax.random.normal(rng, (sum(sizes),)), np.cumsum(sizes)[:-1])
    return {
        name: _unit(part.reshape(shape))
        for part, (name, shape) in zip(parts, shapes.items(), strict=True)
    }


def spectral_norms(
    weights: Any, vectors: Vectors, iterations: int | jax.Array
) -> tuple[jax.Array, Vectors]:
    """u' W v of each matrix of a tree, and the vectors u after more iterations.

    The vectors are constants to the gradient, so that of a norm is u v'.

    Args:
        weights: a tree of matrices.
        vectors: what the step before left, or `start_vectors`.
        iterations: of the power method before the norms are read off, at least 1; may be traced.
    Returns:
        `[N of all]` float, never above the true norms; the vectors.
    """
    norms, found = [], {}
    for shape, w in stacked(weights).items():
        u, v = _iterated(jax.lax.stop_gradient(w), vectors[shape], iterations)
        norms.append(jnp.einsum("nr,nrc,nc->n", u, w, v))
        found[shape] = u
    return jnp.concatenate(norms), found


def _iterated(w: jax.Array, u: jax.Array, iterations: Any) -> tuple[jax.Array, jax.Array]:
    """u `[N, rows]` and v `[N, columns]` after so many rounds of v = W'u, u = Wv."""

    def once(_, pair):
        v = _unit(jnp.einsum("nrc,nr->nc", w, pair[0]))
        return _unit(jnp.einsum("nrc,nc->nr", w, v)), v

    start = (u, jnp.zeros((w.shape[0], w.shape[2])))
    return jax.lax.stop_gradient(jax.lax.fori_loop(0, iterations, once, start))


def _unit(x: jax.Array) -> jax.Array:
    return x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-12)
