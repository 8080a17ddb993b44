"""How the rate is shared out among the groups of a hierarchy while it warms up."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.losses import _check


def group_weights(groups: Sequence[int]) -> np.ndarray:
    """alpha: what a group is expected to say, relative to the least talkative one.

    Args:
        groups: latent groups per scale, coarse to fine; the sides double from scale to scale.
    Returns:
        `[sum of groups]`: (2^scale)^2 / groups of that scale, divided by the least of them.
    Raises:
        ValueError: no scale, or a scale without groups.
    Source: Vahdat & Kautz 2020, arXiv:2007.03898 (NVlabs/NVAE).
    """
    if not len(groups) or min(groups) < 1:
        raise ValueError(f"group_weights: groups must be at least 1 at every scale, is {groups!r}")
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
        TypeError: not float.
        ValueError: shapes do not fit.
    Source: Vahdat et al. 2018, arXiv:1802.04920; Vahdat & Kautz 2020, arXiv:2007.03898.
    """
    kl, alpha = _check.floats("kl_balance", kl=kl, alpha=alpha)
    _check.shape("kl_balance", "kl", kl, ("B", "L"))
    _check.shape("kl_balance", "alpha", alpha, kl.shape[1:], kl=kl)
    alpha = alpha.astype(kl.dtype)
    kappa = (jnp.mean(jnp.abs(jax.lax.stop_gradient(kl)), axis=0) + 0.01) / alpha
    return kappa / jnp.mean(kappa)
