"""The networks of the AAE. The encoder has three parts, because its phases train different parts.

x [B,D] flattened image (and noise) -> trunk h [B,W] -> code [B,Z or 2Z], label [B,K].
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxae import nets


class Trunk(nn.Module):
    """Hidden layers with normalisation (`norm`) and relu: `[B, D] -> [B, widths[-1]]`."""

    widths: tuple[int, ...]
    norm: Literal["none", "batch", "layer"] = "none"
    deviation: float = 0.0

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        start = nets.kernel_init(self.deviation)
        for width in self.widths:
            x = nn.Dense(width, use_bias=nets.needs_bias(self.norm), kernel_init=start)(x)
            x = nn.relu(nets.normalise(x, self.norm, train, axis_name))
        return x


class Heads(nn.Module):
    """Cluster heads, one vector for each cluster: `rows [K, n]`."""

    clusters: int
    size: int

    @nn.compact
    def __call__(self) -> jax.Array:
        return self.param("rows", nn.initializers.normal(1.0), (self.clusters, self.size))


def head_repulsion(rows: jax.Array, margin: float) -> jax.Array:
    """The sum over pairs of heads of max(0, margin - distance), a scalar.

    Args:
        rows: `[K, n]` the cluster heads.
        margin: pairs at this distance or farther have no loss.
    """
    first, second = jnp.triu_indices(rows.shape[0], 1)
    squares = jnp.sum(jnp.square(rows[first] - rows[second]), axis=-1)
    # sqrt has no gradient at zero: two equal heads get the gradient zero, not NaN.
    distances = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    return jnp.sum(jnp.maximum(0.0, margin - distances))
