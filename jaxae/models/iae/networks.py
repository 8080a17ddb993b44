"""The IAE's networks with an image and a vector as inputs; the other networks are in `nets`."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxae import nets
from jaxae.nets.conv import pyramid

LEAKY = "leaky_relu_0.2"


class DenseReader(nn.Module):
    """Dense layers: x `[B, H, W, C]` and v `[B, V]`, concatenated -> `[B, out]`. V may be 0."""

    widths: tuple[int, ...]
    out: int
    deviation: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, v: jax.Array) -> jax.Array:
        inputs = jnp.concatenate([x.reshape(x.shape[0], -1), v], axis=-1)
        return nets.MLP(self.widths, self.out, LEAKY, deviation=self.deviation)(inputs)


class ConvReader(nn.Module):
    """Convolutions of stride 2: x `[B, H, W, C]` and v `[B, V]` -> `[B, out]`. V may be 0.

    A linear map of v is added to the output of the first convolution, at every position, as in
    kaiu85/IAE_celebA, a reimplementation.
    """

    width: int
    """channels of the first convolution, doubled at each halving of the image"""
    out: int

    @nn.compact
    def __call__(self, x: jax.Array, v: jax.Array) -> jax.Array:
        act = nets.activation(LEAKY)
        for level in range(len(pyramid(x.shape[1:])) - 1):
            x = nn.Conv(self.width * 2**level, (4, 4), strides=(2, 2))(x)
            if level == 0 and v.shape[-1]:
                x = x + nn.Dense(self.width, use_bias=False)(v)[:, None, None]
            x = act(x)
        return nn.Dense(self.out)(x.reshape(x.shape[0], -1))
