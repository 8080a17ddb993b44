"""Prior distributions over codes, with an optional class label for each sample (AAE and IAE).

A prior is sampled given labels: labels `[n]` -> z `[n,Z]`. Without labels it is sampled given
uniformly random labels, so that the prior is the mixture of its classes. The shapes follow
reimplementations (musyoku and hwalsuklee: sampler.py, prior_factory.py); the constants of the
paper could not be verified.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

PRIORS = ("gaussian", "mixture", "swiss_roll", "uniform")
PETAL = (1.4, 0.5, 0.05)  # distance of a petal's centre; deviations along and across the petal


class Prior(NamedTuple):
    """A distribution over codes."""

    sample_given_label: Callable[[jax.Array, jax.Array], jax.Array]
    """rng, labels [n] int -> z [n,Z]"""
    sample: Callable[[jax.Array, int], jax.Array]
    """rng, n -> z [n,Z]"""


def make_prior(name: str, size: int, scale: float, num_classes: int = 10) -> Prior:
    """The prior called `name`.

    Args:
        name: `gaussian` N(0, scale^2 I); `uniform` on [-scale, scale]^Z; `mixture` of Gaussians
            arranged like the petals of a flower, one for each class (Z = 2); `swiss_roll`, a spiral
            cut into one section for each class, in order (Z = 2). The first two ignore labels.
        size: Z.
        scale: deviation (gaussian), half width (uniform), factor on the others.
        num_classes: number of petals, or of sections of the spiral.
    Raises:
        ValueError: an unknown name, or `mixture` or `swiss_roll` with a size other than 2.
    """
    if name not in PRIORS:
        raise ValueError(f"prior {name!r} is unknown; choose from {', '.join(PRIORS)}")
    if name in ("mixture", "swiss_roll") and size != 2:
        raise ValueError(f"prior={name} is two-dimensional: latent={size} must be 2")

    def sample_given_label(rng: jax.Array, labels: jax.Array) -> jax.Array:
        if name == "gaussian":
            return scale * jax.random.normal(rng, (len(labels), size))
        if name == "uniform":
            return scale * (2 * jax.random.uniform(rng, (len(labels), size)) - 1)
        if name == "mixture":
            return scale * _sample_petals(rng, labels, num_classes)
        return scale * _sample_swiss_roll(rng, labels, num_classes)

    def sample(rng: jax.Array, n: int) -> jax.Array:
        rng_labels, rng_z = jax.random.split(rng)
        labels = jax.random.randint(rng_labels, (n,), 0, num_classes)
        return sample_given_label(rng_z, labels)

    return Prior(sample_given_label, sample)


def petal_centres(scale: float, num_classes: int = 10) -> jax.Array:
    """The means of the Gaussians of `mixture`: `[num_classes, 2]`."""
    angle = 2 * jnp.pi * jnp.arange(num_classes) / num_classes
    return scale * PETAL[0] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def _sample_petals(rng: jax.Array, labels: jax.Array, num_classes: int) -> jax.Array:
    centre, along, across = PETAL
    u, v = jnp.moveaxis(jax.random.normal(rng, (len(labels), 2)), -1, 0)
    u, v, angle = centre + along * u, across * v, 2 * jnp.pi * labels / num_classes
    return jnp.stack(
        [u * jnp.cos(angle) - v * jnp.sin(angle), u * jnp.sin(angle) + v * jnp.cos(angle)], axis=-1
    )


def _sample_swiss_roll(rng: jax.Array, labels: jax.Array, num_classes: int) -> jax.Array:
    t = jnp.sqrt((labels + jax.random.uniform(rng, (len(labels),))) / num_classes)
    radius, angle = 3 * t, 4 * jnp.pi * t
    return jnp.stack([radius * jnp.cos(angle), radius * jnp.sin(angle)], axis=-1)
