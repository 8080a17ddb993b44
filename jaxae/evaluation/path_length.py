"""Perceptual path length: the change of an image for a small change of its code.

Karras, Laine & Aila 2019, arXiv:1812.04948, section 4.1. Numbers are comparable only for the same
distance; published ones use VGG16 features (LPIPS) of cropped images, whose weights this package
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
    """Mean of distance / step^2 between images of two codes on a path, at t and t + step.

    Args:
        draw: rng, n -> codes `[n, Z]`, samples for both ends of a path. Pass the same object each
            time, also for `synthesise`: compiled code is cached by their identity.
        synthesise: codes, rng -> images; called twice with the same rng, so noise is the same.
        distance: images, images -> `[B]`, quadratic for small differences; not traced.
        pairs: number of paths; 50,000 in the published numbers.
        at: full: t ~ U(0, 1); end: t = 0.
        path: a straight line (for w), or the great circle of the normalised ends (for z).
        step: difference of t between the two codes.
        trim: share of the results discarded at the bottom, and the same at the top.
        batch_size: pairs at a time, all with the same noise.
    Raises:
        ValueError: no pair, step not positive, or trim of 0.5 or more; distances not finite,
            because images are not, or because two ends have no unique great circle (opposite codes,
            or a code of zeros).
    """
    if pairs < 1 or step <= 0 or not 0 <= trim < 0.5:
        raise ValueError(
            f"pairs={pairs}, step={step}, trim={trim}: at least one pair, a positive step and a "
            "trim in [0, 0.5) are needed"
        )
    between = _line if path == "line" else _sphere
    images = functools.partial(_two_images, draw, synthesise, between, at == "full", batch_size)
    keys = jax.random.split(rng, -(-pairs // batch_size))
    distances = [np.asarray(distance(*images(key, step)), np.float64) / step**2 for key in keys]
    distances = np.sort(np.concatenate(distances)[:pairs])
    if not np.isfinite(distances).all():
        raise ValueError(
            f"{np.sum(~np.isfinite(distances))} of {pairs} distances are NaN or infinity: the "
            "images are, or path=sphere got opposite codes or a code of zeros; use path=line"
        )
    discard = int(trim * pairs)
    return float(np.mean(distances[discard : pairs - discard]))


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
    """The point of the unit sphere at t times the angle from left to right (normalised)."""
    unit = lambda v: v / jnp.linalg.norm(v, axis=-1, keepdims=True)
    left, right = unit(left), unit(right)
    cosine = jnp.sum(left * right, axis=-1, keepdims=True)
    angle = t * jnp.arccos(jnp.clip(cosine, -1.0, 1.0))
    orthogonal = right - cosine * left
    # Equal ends have no direction between them.
    equal = jnp.all(orthogonal == 0, axis=-1, keepdims=True) & (cosine > 0)
    return jnp.where(equal, left, jnp.cos(angle) * left + jnp.sin(angle) * unit(orthogonal))
