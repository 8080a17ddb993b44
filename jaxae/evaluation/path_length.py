"""Perceptual path length: how much an image changes where its code moves a little.

Karras, Laine & Aila 2019, arXiv:1812.04948, section 4.1. Numbers can be compared only under one
distance; published ones are of VGG16 features (LPIPS) on cropped images, whose weights this package
does not have.
"""

import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np


def perceptual_path_length(
    draw: Callable[[jax.Array, int], jax.Array],
    synthesise: Callable[[jax.Array, jax.Array], jax.Array],
    distance: Callable[[jax.Array, jax.Array], jax.Array],
    rng: jax.Array,
    *,
    pairs: int = 1000,
    at: Literal["full", "end"] = "full",
    path: Literal["line", "sphere"] = "line",
    step: float = 1e-4,
    trim: float = 0.01,
    batch_size: int = 250,
) -> float:
    """Mean of distance / step^2 between the images of two codes, `step` apart on a path.

    Args:
        draw: rng, n -> codes `[n, Z]`, from which both ends of a path are drawn. Equal ends are a
            path on which nothing changes. Give the same object each time, and of `synthesise` too:
            what is compiled is kept by their identity.
        synthesise: codes, rng -> images; called twice with one rng, so that noise is the same.
        distance: images, images -> `[B]`, quadratic for small differences; not traced.
        pairs: how many paths; the published numbers are of 50,000.
        at: where on the path: anywhere, t ~ U(0, 1), or at its beginning, t = 0.
        path: straight (for w), or along the great circle of the normalised ends (for z).
        step: difference of t between the two codes.
        trim: share of the results left out at the bottom, and the same at the top.
        batch_size: pairs at a time, all with the same noise.
    Raises:
        ValueError: no pair, a step that is not positive, or a trim that leaves nothing; distances
            that are not finite, from images that are not, or from ends with no one great circle
            between them (opposite codes, as all different ones of one number are; a code of zeros).
    """
    if pairs < 1 or step <= 0 or not 0 <= trim < 0.5:
        raise ValueError(
            f"pairs={pairs}, step={step}, trim={trim}: at least one pair, a positive step and a "
            "trim in [0, 0.5) are needed"
        )
    between = _line if path == "line" else _sphere
    images = functools.partial(_two_images, draw, synthesise, between, at == "full", batch_size)
    keys = jax.random.split(rng, -(-pairs // batch_size))
    found = [np.asarray(distance(*images(key, step)), np.float64) / step**2 for key in keys]
    found = np.sort(np.concatenate(found)[:pairs])
    if not np.isfinite(found).all():
        raise ValueError(
            f"{np.sum(~np.isfinite(found))} of {pairs} distances are NaN or infinity: the images "
            "are, or path=sphere has met opposite codes or a code of zeros; take path=line"
        )
    cut = int(trim * pairs)
    return float(np.mean(found[cut : pairs - cut]))


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _two_images(draw, synthesise, between, anywhere, batch_size, rng, step):
    of_ends, of_noise, of_t = jax.random.split(rng, 3)
    left, right = (draw(key, batch_size) for key in jax.random.split(of_ends))
    t = jnp.zeros((batch_size, 1))
    if anywhere:
        t = jax.random.uniform(of_t, (batch_size, 1))
    return [  # with the same noise
        synthesise(between(left, right, t + more), jax.random.clone(of_noise))
        for more in (0.0, step)
    ]


def _line(left: jax.Array, right: jax.Array, t: jax.Array) -> jax.Array:
    return (1 - t) * left + t * right


def _sphere(left: jax.Array, right: jax.Array, t: jax.Array) -> jax.Array:
    """The point of the unit sphere at a share t of the angle between two codes' directions."""
    unit = lambda v: v / jnp.linalg.norm(v, axis=-1, keepdims=True)
    left, right = unit(left), unit(right)
    cosine = jnp.sum(left * right, axis=-1, keepdims=True)
    angle = t * jnp.arccos(jnp.clip(cosine, -1.0, 1.0))
    aside = right - cosine * left
    # Equal ends have no direction between them, and need none.
    equal = jnp.all(aside == 0, axis=-1, keepdims=True) & (cosine > 0)
    return jnp.where(equal, left, jnp.cos(angle) * left + jnp.sin(angle) * unit(aside))
