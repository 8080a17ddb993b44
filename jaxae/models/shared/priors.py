"""Priors of the AAE: anything that can be drawn from, with a class attached to each draw.

Each prior gives `z [n,Z]` for labels `[n]`; a draw without a label takes a label at random, so that
the mixture over labels is the prior itself. Shapes follow reimplementations (musyoku and
hwalsuklee: sampler.py, prior_factory.py); the paper's constants could not be verified.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

NAMES = ("gaussian", "mixture", "swiss_roll", "uniform")
PETAL = (1.4, 0.5, 0.05)  # distance of a petal's centre, deviations along and across it


class Prior(NamedTuple):
    """A distribution over codes."""

    sample_given_label: Callable[[jax.Array, jax.Array], jax.Array]
    """rng, labels [n] int -> z [n,Z]"""
    sample: Callable[[jax.Array, int], jax.Array]
    """rng, n -> z [n,Z]"""


def prior(name: str, size: int, scale: float, classes: int = 10) -> Prior:
    """The prior called `name`.

    Args:
        name: `gaussian` N(0, scale^2 I); `uniform` on [-scale, scale]^Z; `mixture`, a petal of a
            flower for each class (Z = 2); `swiss_roll`, a stretch of the spiral for each class in
            order (Z = 2). The first two take no notice of labels.
        size: Z.
        scale: deviation (gaussian), half width (uniform), factor on the others.
        classes: petals, or stretches of the roll.
    Raises:
        ValueError: another name, or a picture in the plane for codes that are not of size 2.
    """
    if name not in NAMES:
        raise ValueError(f"prior {name!r} is unknown; choose from {', '.join(NAMES)}")
    if name in ("mixture", "swiss_roll") and size != 2:
        raise ValueError(f"prior={name} lies in the plane: latent={size} must be 2")
    if name == "gaussian":
        given = lambda rng, labels: scale * jax.random.normal(rng, (len(labels), size))
    elif name == "uniform":
        given = lambda rng, labels: scale * (2 * jax.random.uniform(rng, (len(labels), size)) - 1)
    elif name == "mixture":
        given = lambda rng, labels: scale * _petals(rng, labels, classes)
    else:
        given = lambda rng, labels: scale * _roll(rng, labels, classes)

    def sample(rng: jax.Array, n: int) -> jax.Array:
        of_labels, of_z = jax.random.split(rng)
        return given(of_z, jax.random.randint(of_labels, (n,), 0, classes))

    return Prior(given, sample)


def petal_centres(scale: float, classes: int = 10) -> jax.Array:
    """Where the petals' Gaussians are centred: `[classes, 2]`."""
    angle = 2 * jnp.pi * jnp.arange(classes) / classes
    return scale * PETAL[0] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def _petals(rng: jax.Array, labels: jax.Array, classes: int) -> jax.Array:
    centre, along, across = PETAL
    u, v = jnp.moveaxis(jax.random.normal(rng, (len(labels), 2)), -1, 0)
    u, v, angle = centre + along * u, across * v, 2 * jnp.pi * labels / classes
    return jnp.stack(
        [u * jnp.cos(angle) - v * jnp.sin(angle), u * jnp.sin(angle) + v * jnp.cos(angle)], axis=-1
    )


def _roll(rng: jax.Array, labels: jax.Array, classes: int) -> jax.Array:
    way = jnp.sqrt((labels + jax.random.uniform(rng, (len(labels),))) / classes)
    radius, angle = 3 * way, 4 * jnp.pi * way
    return jnp.stack([radius * jnp.cos(angle), radius * jnp.sin(angle)], axis=-1)
