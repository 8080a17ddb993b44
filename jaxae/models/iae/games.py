"""What the IAE's two makers pay in the reconstruction game, and what each choice amounts to.

q(x, z) and r(x, z) are the distributions of data pairs and of reconstructed pairs; both have the
same marginal of z. T is the pair critic's logit; at its optimum T = log q / r. Gradients are of the
named maker alone with T held.

    name      remaker pays        maker pays                     what the makers descend
    ml        -exp T(r)           T(q)                           KL(q || r): exact for both
    js        -softplus(T(r))     -softplus(-T(q)) - softplus(T(r))   2 JSD(q, r): exact for both
    ns_both   softplus(-T(r))     softplus(-T(r)) + softplus(T(q))    js with swapped labels
    ns_pos    softplus(-T(r))     softplus(T(q))                 a part of ns_both
    ns_neg    softplus(-T(r))     softplus(-T(r))                a part of ns_both: biased
    rkl       -T(r)               -T(r)                          KL(r || q): exact for the remaker

Derived from the definitions; `tests/models/test_iae.py` checks it by finite differences.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

GAMES = ("ns_both", "ml", "ns_pos", "ns_neg", "js", "rkl")
CLIP = (-10.0, 5.0)  # of T before exp, which has no bound


class PairGame(NamedTuple):
    """Costs of logits `[...]` -> `[...]`, per example."""

    remaker: Callable[[jax.Array], jax.Array]
    """of T on reconstructed pairs: who makes the half of a pair that is remade"""
    maker: Callable[[jax.Array, jax.Array], jax.Array]
    """of T on original and on reconstructed pairs: who makes the half that both share"""
    marginal: Callable[[jax.Array], jax.Array]
    """of the other critic's logit S on what the maker made: its cost for the wrong marginal"""


def pair_game(name: str) -> PairGame:
    """The makers' costs by name.

    Raises:
        ValueError: another name.
    """
    softplus = jax.nn.softplus
    fool = lambda t: softplus(-t)
    games = {
        "ml": PairGame(lambda r: -jnp.exp(jnp.clip(r, *CLIP)), lambda q, r: q, fool),
        "js": PairGame(lambda r: -softplus(r), lambda q, r: -softplus(-q) - softplus(r), fool),
        "ns_both": PairGame(fool, lambda q, r: softplus(-r) + softplus(q), fool),
        "ns_pos": PairGame(fool, lambda q, r: softplus(q), fool),
        "ns_neg": PairGame(fool, lambda q, r: softplus(-r), fool),
        "rkl": PairGame(jnp.negative, lambda q, r: -r, jnp.negative),
    }
    if name not in games:
        raise ValueError(f"recon_gan={name!r} is unknown; choose from {', '.join(GAMES)}")
    return games[name]
