"""The networks of ACAI: convolutions, average pooling and nearest-neighbour doubling.

Berthelot, Raffel, Roy & Goodfellow 2018, arXiv:1807.07543; brain-research/acai: lib/layers.py.

x [B,S,S,C] image, S a multiple of 2^scales; map h [B,S/2^scales,S/2^scales,channels]; c the depth:

    encoder   1x1 -> c;  at each scale s twice 3x3 -> c 2^s, then 2x2 averages;
              3x3 -> c 2^scales;  3x3 -> channels
    decoder   at each scale s, from the smallest, twice 3x3 -> c 2^s, then every pixel four times;
              3x3 -> c;  3x3 -> C
    critic    an encoder of its own; its judgement is the mean of the map it gives

Leaky ReLU of slope 0.2 after all 3x3 convolutions but the last; the 1x1 and the last are linear.
No normalisation, nothing after the decoder's last convolution. `gain` times the published variance
of the first kernels: at 1 a leaky ReLU halves the variance, layer by layer, and the codes start as
good as equal; at 2 it is kept.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxae.nets.conv import upsample_nearest

SLOPE = 0.2  # of TensorFlow's leaky ReLU; JAX's is 0.01


class Encoder(nn.Module):
    """Images to maps: `[B,S,S,C] -> [B,S/2^scales,S/2^scales,channels]`."""

    scales: int
    depth: int
    channels: int
    gain: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = _conv(self.depth, self.gain, 1)(x)
        for scale in range(self.scales):
            x = _twice(self.depth * 2**scale, self.gain, x)
            x = nn.avg_pool(x, (2, 2), (2, 2))
        x = _leaky(_conv(self.depth * 2**self.scales, self.gain)(x))
        return _conv(self.channels, self.gain)(x)


class Decoder(nn.Module):
    """Maps to images: `[B,h,h,channels] -> [B,2^scales h,2^scales h,colours]`."""

    scales: int
    depth: int
    colours: int
    gain: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for scale in reversed(range(self.scales)):
            x = upsample_nearest(_twice(self.depth * 2**scale, self.gain, x))
        x = _leaky(_conv(self.depth, self.gain)(x))
        return _conv(self.colours, self.gain)(x)


class Critic(nn.Module):
    """Images to one number each: `[B,S,S,C] -> [B]`."""

    scales: int
    depth: int
    channels: int
    gain: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.mean(
            Encoder(self.scales, self.depth, self.channels, self.gain)(x), axis=(1, 2, 3)
        )


class Bottleneck(nn.Module):
    """What quantised codes pass on their way to the decoder: `[B, G D] -> [B, Z]`, two layers."""

    hidden: int
    out: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in (self.hidden, self.out):
            x = nn.relu(nn.Dense(width)(x))
        return x


def _leaky(x: jax.Array) -> jax.Array:
    return nn.leaky_relu(x, SLOPE)


def _conv(features: int, gain: float, kernel: int = 3) -> nn.Conv:
    """Kernels from N(0, gain / ((1 + slope^2) fan-in)), biases from zero."""
    start = nn.initializers.variance_scaling(gain / (1 + SLOPE**2), "fan_in", "normal")
    return nn.Conv(features, (kernel, kernel), kernel_init=start)


def _twice(features: int, gain: float, x: jax.Array) -> jax.Array:
    for _ in range(2):
        x = _leaky(_conv(features, gain)(x))
    return x
