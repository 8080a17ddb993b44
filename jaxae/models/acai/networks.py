"""The networks of ACAI: convolutions, average pooling and nearest-neighbour upsampling.

Berthelot, Raffel, Roy & Goodfellow 2018, arXiv:1807.07543; brain-research/acai: lib/layers.py.

x [B,S,S,C] image, S a multiple of 2^scales; h [B,S/2^scales,S/2^scales,channels] feature map; c the
depth:

    encoder   1x1 -> c;  at each scale s twice 3x3 -> c 2^s, then 2x2 average pooling;
              3x3 -> c 2^scales;  3x3 -> channels
    decoder   at each scale s, from the smallest, twice 3x3 -> c 2^s, then upsampling by two;
              3x3 -> c;  3x3 -> C
    critic    an encoder of its own; its output is the mean over the feature map

Leaky ReLU of slope 0.2 after all 3x3 convolutions but the last; the 1x1 and the last are linear.
No normalisation, and no activation of the decoder's output. `gain` is a factor on the published
variance of the initial kernels: with 1 each leaky ReLU halves the variance, and all codes are
nearly equal at the start; with 2 the variance is constant from layer to layer.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxae.nets.conv import upsample_nearest

SLOPE = 0.2  # of TensorFlow's leaky ReLU; JAX's is 0.01


class Encoder(nn.Module):
    """Images to feature maps: `[B,S,S,C] -> [B,S/2^scales,S/2^scales,channels]`."""

    scales: int
    depth: int
    channels: int
    gain: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = _conv(self.depth, self.gain, 1)(x)
        for scale in range(self.scales):
            x = _two_convs(self.depth * 2**scale, self.gain, x)
            x = nn.avg_pool(x, (2, 2), (2, 2))
        x = _leaky_relu(_conv(self.depth * 2**self.scales, self.gain)(x))
        return _conv(self.channels, self.gain)(x)


class Decoder(nn.Module):
    """Feature maps to images: `[B,h,h,channels] -> [B,2^scales h,2^scales h,colours]`."""

    scales: int
    depth: int
    colours: int
    gain: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for scale in reversed(range(self.scales)):
            x = upsample_nearest(_two_convs(self.depth * 2**scale, self.gain, x))
        x = _leaky_relu(_conv(self.depth, self.gain)(x))
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
    """The layers b between quantised codes and decoder: `[B, G D] -> [B, Z]`, two dense layers."""

    hidden: int
    out: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in (self.hidden, self.out):
            x = nn.relu(nn.Dense(width)(x))
        return x


def _leaky_relu(x: jax.Array) -> jax.Array:
    return nn.leaky_relu(x, SLOPE)


def _conv(features: int, gain: float, kernel: int = 3) -> nn.Conv:
    """Initial kernels from N(0, gain / ((1 + slope^2) fan-in)), initial biases zero."""
    start = nn.initializers.variance_scaling(gain / (1 + SLOPE**2), "fan_in", "normal")
    return nn.Conv(features, (kernel, kernel), kernel_init=start)


def _two_convs(features: int, gain: float, x: jax.Array) -> jax.Array:
    for _ in range(2):
        x = _leaky_relu(_conv(features, gain)(x))
    return x
