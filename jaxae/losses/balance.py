"""How the rate is shared out among the groups of a hierarchy while it warms up."""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np


def group_weights(groups: Sequence[int]) -> np.ndarray:
    """alpha: what a group is expected to say, relative to the least talkative one.

    Args:
        groups: latent groups per scale, coarse to fine; the sides double from scale to scale.
    Returns:
        `[sum of groups]`: (2^scale)^2 / groups of that scale, divided by the least of them.
    Source: Vahdat & Kautz 2020, arXiv:2007.03898 (NVlabs/NVAE).
    """
    alpha = np.concatenate([np.full(count, 4.0**s / count) for s, count in enumerate(groups)])
    return alpha / alpha.min()


def kl_balance(kl: jax.Array, alpha: np.ndarray) -> jax.Array:
    """kappa: weights of the groups' rates that charge more where more nats are spent.

    Args:
        kl: `[B, L]` nats of each group, of the whole batch; estimates may be negative.
        alpha: `[L]`, see `group_weights`.
    Returns:
        `[L]`, proportional to (the batch's mean of |kl| + 0.01) / alpha, with a mean of 1 and
        without a gradient.
    Raises:
        AssertionError: shapes do not fit or not float.
    Source: Vahdat et al. 2018, arXiv:1802.04920; Vahdat & Kautz 2020, arXiv:2007.03898.
    """
    chex.assert_rank(kl, 2)
    chex.assert_type(kl, float)
    chex.assert_shape(alpha, kl.shape[1:])
    kappa = (jnp.mean(jnp.abs(jax.lax.stop_gradient(kl)), axis=0) + 0.01) / alpha
    return kappa / jnp.mean(kappa)
