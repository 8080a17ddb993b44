"""What players of a min-max game pay: per example, from logits.

A discriminator's logit T is positive where it believes in real data (or in the prior, where codes
are judged). Each function is one player's cost, to be minimised by that player alone; no function
flips a sign or stops a gradient for somebody else.

Source: Goodfellow et al. 2014, arXiv:1406.2661 (logistic forms); Mao et al. 2017, arXiv:1611.04076
(least squares); Arjovsky, Chintala & Bottou 2017, arXiv:1701.07875 (Wasserstein); Salimans et al.
2016, arXiv:1606.03498 (feature matching); Mescheder, Geiger & Nowozin 2018, arXiv:1801.04406 (R1);
Gulrajani et al. 2017, arXiv:1704.00028 (gradient penalty).
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

GAMES = ("non_saturating", "saturating", "least_squares", "wasserstein")
_Cost = Callable[[jax.Array], jax.Array]


class Game(NamedTuple):
    """Three costs of a logit `[...]` float -> `[...]`."""

    real: _Cost
    """what the discriminator pays for the logit it gives to something real"""
    fake: _Cost
    """what the discriminator pays for the logit it gives to something made"""
    fool: _Cost
    """what the generator pays for the logit of what it made"""


def game(name: str) -> Game:
    """The costs of a game by name.

    Args:
        name: `non_saturating` (the generator pays -log D), `saturating` (it pays log(1 - D), the
            minimax form), both in nats with the discriminator's cross-entropy; `least_squares`
            (targets 1 and 0, half the squared distance); `wasserstein` (the logits themselves; the
            critic needs a penalty besides).
    Raises:
        ValueError: another name.
    """
    softplus = jax.nn.softplus
    games = {
        "non_saturating": (lambda t: softplus(-t), softplus, lambda t: softplus(-t)),
        "saturating": (lambda t: softplus(-t), softplus, lambda t: -softplus(t)),
        "least_squares": (
            lambda t: 0.5 * jnp.square(t - 1),
            lambda t: 0.5 * jnp.square(t),
            lambda t: 0.5 * jnp.square(t - 1),
        ),
        "wasserstein": (jnp.negative, lambda t: t, jnp.negative),
    }
    if name not in games:
        raise ValueError(f"game {name!r} is unknown; choose from {', '.join(GAMES)}")
    return Game(*(_checked(cost) for cost in games[name]))


def _checked(cost: _Cost) -> _Cost:
    def checked(logits: jax.Array) -> jax.Array:
        chex.assert_type(logits, float)
        return cost(logits)

    return checked


def feature_matching(real: jax.Array, made: jax.Array, power: int = 2) -> jax.Array:
    """Distance of the batch means of features: sum |mean real - mean made|^power.

    Args:
        real: `[B, F]` float, features of data. A gradient passes: a generator never enters them,
            but in ALI the encoder does, whose code stands beside the data.
        made: `[B', F]` float, features of what the generator made.
        power: 2 (the paper's), or 1 (openai/improved-gan's scripts).
    Returns:
        scalar: it is a distance of means, not a mean of distances.
    Raises:
        AssertionError: shapes do not match or not float.
        ValueError: another power.
    """
    chex.assert_rank([real, made], 2)
    chex.assert_equal(real.shape[1], made.shape[1])
    chex.assert_type([real, made], float)
    if power not in (1, 2):
        raise ValueError(f"power must be 1 or 2, is {power}")
    apart = jnp.mean(real, axis=0) - jnp.mean(made, axis=0)
    return jnp.sum(jnp.abs(apart)) if power == 1 else jnp.sum(jnp.square(apart))


def squared_slopes(critic: Callable[..., jax.Array], *inputs: jax.Array) -> jax.Array:
    """|grad T|^2 for each example, over all entries of all inputs together.

    Args:
        critic: `*inputs` of one example each as a batch of one -> logit `[1]`. It must judge each
            example by itself (no batch statistics).
        inputs: `[B, ...]` float each.
    Returns:
        `[B]` float, >= 0.
    """
    chex.assert_type(list(inputs), float)
    one = lambda *each: critic(*(x[None] for x in each)).reshape(())
    slopes = jax.vmap(jax.grad(one, argnums=tuple(range(len(inputs)))))(*inputs)
    return sum(jnp.sum(jnp.square(s.reshape(s.shape[0], -1)), axis=-1) for s in slopes)


def mean_squared_slope(judge: Callable[[jax.Array], jax.Array], at: jax.Array) -> jax.Array:
    """The mean of `squared_slopes` of one input, by one gradient of the whole batch.

    Several times as fast for convolutions, which are slow under `vmap`.

    Args:
        judge: `[B, ...]` -> logits `[B]`, each example by itself.
        at: `[B, ...]` float.
    Returns:
        a scalar, >= 0.
    """
    gradient = jax.grad(lambda at: jnp.sum(judge(at)))(at)
    return jnp.sum(jnp.square(gradient)) / at.shape[0]


def r1_penalty(critic: Callable[..., jax.Array], *real: jax.Array) -> jax.Array:
    """|grad T|^2 / 2 at real data, `[B]`; the discriminator pays gamma times its mean.

    Args: as `squared_slopes`.
    """
    return 0.5 * squared_slopes(critic, *real)


def gradient_penalty(
    critic: Callable[..., jax.Array], real: jax.Array, made: jax.Array, share: jax.Array
) -> jax.Array:
    """(|grad T| - 1)^2 between real and made examples, `[B]`; the critic pays lambda * mean.

    Args:
        critic: as in `squared_slopes`, of one input.
        real, made: `[B, ...]` float.
        share: `[B]` in [0, 1], how far from `made` towards `real` each point lies.
    Raises:
        AssertionError: shapes differ or not float.
    """
    chex.assert_equal_shape([real, made])
    chex.assert_shape(share, real.shape[:1])
    share = share.reshape(-1, *[1] * (real.ndim - 1))
    squares = squared_slopes(critic, share * real + (1 - share) * made)
    # sqrt has no gradient at zero; a critic that is flat somewhere must not give NaN.
    length = jnp.sqrt(jnp.where(squares > 0, squares, 1.0))
    return jnp.square(jnp.where(squares > 0, length, 0.0) - 1)
