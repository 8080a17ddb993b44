"""Balancing the KL terms of the latent groups of a hierarchical VAE during warm-up."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.losses import _check


def group_weights(groups_per_scale: Sequence[int]) -> np.ndarray:
    """alpha: the rate expected of each latent group, relative to the smallest.

    Args:
        groups_per_scale: latent groups per scale, coarse to fine; sides double at each scale.
    Returns:
        `[number of groups]`: (2^scale)^2 / groups of that scale, divided by their minimum.
    Raises:
        ValueError: no scale, or a scale without groups.
    Source: Vahdat & Kautz 2020, arXiv:2007.03898 (NVlabs/NVAE).
    """
    if not len(groups_per_scale) or min(groups_per_scale) < 1:
        raise ValueError(
            "group_weights: groups_per_scale must be at least 1 at every scale, is "
            f"{groups_per_scale!r}"
        )
    alpha = np.concatenate(
        [np.full(count, 4.0**scale / count) for scale, count in enumerate(groups_per_scale)]
    )
    return alpha / alpha.min()


def kl_balance(kl: jax.Array, alpha: np.ndarray) -> jax.Array:
    """kappa: weights of the groups' KL terms, larger for groups of larger KL.

    Args:
        kl: `[B, L]` nats per group, for the whole batch; estimates may be negative.
        alpha: `[L]`, see `group_weights`.
    Returns:
        `[L]`, proportional to (batch mean of |kl| + 0.01) / alpha, with mean 1; no gradient flows
        through it.
    Raises:
        TypeError: not float.
        ValueError: shapes do not match.
    Source: Vahdat et al. 2018, arXiv:1802.04920; Vahdat & Kautz 2020, arXiv:2007.03898.
    """
    kl, alpha = _check.floats("kl_balance", kl=kl, alpha=alpha)
    _check.shape("kl_balance", "kl", kl, ("B", "L"))
    _check.shape("kl_balance", "alpha", alpha, kl.shape[1:], kl=kl)
    alpha = alpha.astype(kl.dtype)
    kappa = (jnp.mean(jnp.abs(jax.lax.stop_gradient(kl)), axis=0) + 0.01) / alpha
    return kappa / jnp.mean(kappa)
