"""The losses of encoder and decoder in the IAE's reconstruction GAN, and what each one minimises.

q(x, z) is the distribution of real pairs and r(x, z) that of reconstructed pairs; both have the
same marginal over z. T is the logit of the pair critic; at its optimum T = log q / r. The
reconstructor produces the reconstructed half of a pair (the decoder; in the flipped IAE the
encoder), the source network the half that both pairs share (the encoder; flipped: the decoder). In
the table T(q) and T(r) are logits of real and reconstructed pairs, s(t) = log(1 + exp(t)), and
gradients are those of the named network with T held constant.

    name      reconstructor loss   source loss              what they descend
    ml        -exp T(r)            T(q)                     KL(q || r), exact for both
    js        -s(T(r))             -s(-T(q)) - s(T(r))      2 JSD(q, r), exact for both
    ns_both   s(-T(r))             s(-T(r)) + s(T(q))       js with swapped labels
    ns_pos    s(-T(r))             s(T(q))                  a part of ns_both
    ns_neg    s(-T(r))             s(-T(r))                 a part of ns_both: biased
    rkl       -T(r)                -T(r)                    KL(r || q), exact for the reconstructor

Derived from the definitions; `tests/models/test_iae.py` checks it by finite differences.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

PAIR_LOSSES = ("ns_both", "ml", "ns_pos", "ns_neg", "js", "rkl")
LOGIT_CLIP = (-10.0, 5.0)  # bounds of T before exp (ml)


class PairLosses(NamedTuple):
    """Losses of logits `[...]` -> `[...]`, per example."""

    reconstructor_loss: Callable[[jax.Array], jax.Array]
    """of the logits of reconstructed pairs"""
    source_loss: Callable[[jax.Array, jax.Array], jax.Array]
    """of the logits of real and of reconstructed pairs"""
    marginal_loss: Callable[[jax.Array], jax.Array]
    """the source network's loss in the other GAN, of the other critic's logits of its output"""


def pair_losses(name: str) -> PairLosses:
    """The losses of encoder and decoder by name.

    Raises:
        ValueError: an unknown name.
    """
    softplus = jax.nn.softplus
    non_saturating = lambda t: softplus(-t)
    table = {
        "ml": PairLosses(
            lambda r: -jnp.exp(jnp.clip(r, *LOGIT_CLIP)), lambda q, r: q, non_saturating
        ),
        "js": PairLosses(
            lambda r: -softplus(r), lambda q, r: -softplus(-q) - softplus(r), non_saturating
        ),
        "ns_both": PairLosses(
            non_saturating, lambda q, r: softplus(-r) + softplus(q), non_saturating
        ),
        "ns_pos": PairLosses(non_saturating, lambda q, r: softplus(q), non_saturating),
        "ns_neg": PairLosses(non_saturating, lambda q, r: softplus(-r), non_saturating),
        "rkl": PairLosses(jnp.negative, lambda q, r: -r, jnp.negative),
    }
    if name not in table:
        raise ValueError(f"recon_gan={name!r} is unknown; choose from {', '.join(PAIR_LOSSES)}")
    return table[name]
