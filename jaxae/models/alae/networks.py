"""The dense networks of ALAE: F and D, which StyleALAE shares, and the dense G and E.

Every layer has an equalised learning rate (podgorskiy/ALAE: net.py, lreq.py).
"""

import flax.linen as nn
import jax

from jaxae.nets.equalised import EqualDense, pixel_norm

SLOPE = 0.2  # default negative slope of the leaky ReLU


class Mapping(nn.Module):
    """F: noise z `[B, Z]` -> latent w `[B, Z]`, with a leaky ReLU after every layer."""

    layers: int
    rate: float = 0.1
    """factor on the learning rate"""

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        width, w = z.shape[-1], pixel_norm(z)
        for _ in range(self.layers):
            w = nn.leaky_relu(EqualDense(width, rate=self.rate)(w), SLOPE)
        return w


class DenseGenerator(nn.Module):
    """G: styles `[B, 1, Z]` -> image `[B,H,W,C]`, before the activation of the output."""

    image_shape: tuple[int, int, int]
    widths: tuple[int, ...]
    slope: float

    @nn.compact
    def __call__(self, styles: jax.Array, *noise: jax.Array) -> jax.Array:
        x, (height, width, channels) = styles[:, 0], self.image_shape
        for features in self.widths:
            x = nn.leaky_relu(EqualDense(features)(x), self.slope)
        return EqualDense(height * width * channels)(x).reshape(-1, *self.image_shape)


class DenseEncoder(nn.Module):
    """E: image `[B,H,W,C]` -> latent w `[B, out]`, with a leaky ReLU at the end, as in F."""

    widths: tuple[int, ...]
    out: int
    slope: float
    """negative slope of the last leaky ReLU; 1: none"""

    @nn.compact
    def __call__(self, x: jax.Array, hidden: bool = False) -> jax.Array:
        """With `hidden` the last hidden layer `[B, widths[-1]]`, as features for probes."""
        x = x.reshape(x.shape[0], -1)
        for features in self.widths:
            x = nn.leaky_relu(EqualDense(features)(x), SLOPE)
        return x if hidden else nn.leaky_relu(EqualDense(self.out)(x), self.slope)


class Judge(nn.Module):
    """D: latent w `[B, Z]` -> logit `[B]`."""

    layers: int
    rectified: bool
    """leaky ReLU between the layers; without it D is linear"""
    rate: float = 0.1

    @nn.compact
    def __call__(self, w: jax.Array) -> jax.Array:
        width = w.shape[-1]
        for _ in range(self.layers - 1):
            w = EqualDense(width, rate=self.rate)(w)
            w = nn.leaky_relu(w, SLOPE) if self.rectified else w
        return EqualDense(1, rate=self.rate)(w)[..., 0]
