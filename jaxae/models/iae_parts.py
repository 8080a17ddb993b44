"""What the IAE's step needs beside networks and costs."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxae.nets.conv import doubled, halved

AVERAGED = ("enc", "dec")


def moving_average(keep: float, params: Any, average: Any = None, step: Any = 0) -> Any:
    """Moving averages of encoder and decoder.

    Both, since a decoder of the past does not know the codes of today's encoder.

    Args:
        keep: what they keep of themselves at a step; at first they keep less, (1 + step) /
            (10 + step), and so forget their start. 0: there are none.
        params: by network.
        average: the averages before the step; None: they start as copies.
    Returns:
        by network.
    """
    if not keep:
        return {}
    now = {name: params[name] for name in AVERAGED if name in params}
    if average is None:
        return jax.tree.map(jnp.copy, now)
    keep = jnp.minimum(keep, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda old, new: keep * old + (1 - keep) * new, average, now)


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
        x = doubled(halved(x))
    return x.reshape(x.shape[0], -1)
