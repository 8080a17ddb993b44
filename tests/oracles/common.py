"""What the oracles of all adversarial models share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import tiny

from jaxae.models import MODELS


class Oracle(NamedTuple):
    owns: dict[str, tuple[str, ...]]
    losses: dict[str, Callable[[Any], Any]]  # in the order of play: params -> scalar
    simultaneous: bool


def of(variant: str, spec):
    """A variant's config, and `run(p, stats, network, *inputs)` with each batch's statistics."""
    name, fields = tiny.VARIANTS[variant]
    config = MODELS[name].Config(**fields)
    modules = tiny.module_of(name).build_networks(config, spec).networks

    def run(p, stats, network, *inputs):
        if network not in stats:
            return modules[network].apply({"params": p[network]}, *inputs)
        variables = {"params": p[network], "batch_stats": stats[network]}
        return modules[network].apply(variables, *inputs, train=True, mutable=["batch_stats"])[0]

    return config, run


def r1(weight, judge, at):
    """weight/2 times the mean over examples of a discriminator's squared slope at `at`."""
    slopes = jax.vmap(jax.grad(lambda one: judge(one[None])[0]))(at)
    return weight / 2 * jnp.sum(slopes**2) / len(at)


def cross_entropy(logit, target):
    """-log of the probability that sigmoid(logit) gives to `target` (0 or 1), its mean."""
    probability = jax.nn.sigmoid(logit)
    return -jnp.mean(jnp.log(probability if target else 1 - probability))
