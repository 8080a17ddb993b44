"""What the IAE's step needs beside networks and costs."""

import jax
import jax.numpy as jnp

from jaxae.nets.conv import downsample_mean, upsample_nearest


def in_the_other_domain(domain: str, x: jax.Array) -> jax.Array:
    """Images `[B,H,W,C]` in [0, 1] as codes `[B,HWC]` of another domain.

    Args:
        domain: `inverted`, black for white; `rotated`, a quarter turn to the left; `coarse`, means
            of 2x2 pixels in the place of each of them.
    """
    if domain == "inverted":
        x = 1 - x
    elif domain == "rotated":
        x = jnp.rot90(x, axes=(1, 2))
    else:
        x = upsample_nearest(downsample_mean(x))
    return x.reshape(x.shape[0], -1)
