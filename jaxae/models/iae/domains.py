"""The image domains of the IAE's translation task."""

import jax
import jax.numpy as jnp

from jaxae.nets.conv import downsample_mean, upsample_nearest


def to_other_domain(domain: str, x: jax.Array) -> jax.Array:
    """Images `[B,H,W,C]` in [0, 1] of the data, as codes `[B,HWC]` of another domain.

    Args:
        domain: `inverted`, 1 - x; `rotated`, a quarter turn to the left; `coarse`, each block of
            2x2 pixels replaced by its mean.
    """
    if domain == "inverted":
        x = 1 - x
    elif domain == "rotated":
        x = jnp.rot90(x, axes=(1, 2))
    else:
        x = upsample_nearest(downsample_mean(x))
    return x.reshape(x.shape[0], -1)
