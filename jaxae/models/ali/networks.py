"""The dense networks of BiGAN's MNIST and of ALI's plane.

    bigan   leaky or plain relu, batch normalisation without gain and shift, no biases; the
            generator and the discriminator are shown z again at every later layer, where a linear
            map of it is added (jeffdonahue/bigan: net.py, gan.py)
    plane   relu, batch normalisation with gain and shift, and a discriminator of maxout units
            that sees x and z side by side and is not normalised (IshmaelBelghazi/ALI:
            experiments/ali_mixture.py)

Each network may be normalised otherwise; where nothing takes a bias off again, layers have one.

x [B,D] flattened image; z [B,Z] code, beside which the embedding of a label may stand.
"""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxae import nets

MOMENTUM = 0.95  # what the averages of batch statistics keep of themselves


def _dense(width: int, deviation: float, bias: bool) -> nn.Dense:
    return nn.Dense(width, use_bias=bias, kernel_init=nets.kernel_init(deviation))


def _rectified(style: str) -> Callable[[jax.Array], jax.Array]:
    """What the networks that look at data pass through."""
    return nn.relu if style == "plane" else lambda x: nn.leaky_relu(x, 0.2)


class Encoder(nn.Module):
    """x `[B, D]`, with noise beside it where there is any -> `[B, out]`.

    The embedding of a label joins before the last layer.
    """

    widths: tuple[int, ...]
    out: int
    style: str
    deviation: float
    norm: Literal["none", "batch", "layer"] = "batch"

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        label: jax.Array | None = None,
        train: bool = False,
        axis_name: str | None = None,
        hidden: bool = False,
    ) -> jax.Array:
        """With `hidden` the last hidden layer `[B, widths[-1]]`, which probes may read."""
        affine, act = self.style == "plane", _rectified(self.style)
        bias = nets.needs_bias(self.norm)
        for layer, width in enumerate(self.widths):
            x = _dense(width, self.deviation, bias)(x)
            if layer or affine:
                x = nets.normalise(x, self.norm, train, axis_name, MOMENTUM, affine)
            x = act(x)
        if hidden:
            return x
        x = x if label is None else jnp.concatenate([x, label], axis=-1)
        return _dense(self.out, self.deviation, bias or affine)(x)


class Generator(nn.Module):
    """z `[B, Z]` -> `[B, out]`, before the output's squashing."""

    widths: tuple[int, ...]
    out: int
    style: str
    deviation: float
    norm: Literal["none", "batch", "layer"] = "batch"

    @nn.compact
    def __call__(
        self, z: jax.Array, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        x, affine, bias = z, self.style == "plane", nets.needs_bias(self.norm)
        for layer, width in enumerate(self.widths):
            x = _dense(width, self.deviation, bias)(x)
            if layer and not affine:
                x = x + _dense(width, self.deviation, bias=False)(z)
            x = nn.relu(nets.normalise(x, self.norm, train, axis_name, MOMENTUM, affine))
        return _dense(self.out, self.deviation, bias or affine)(x)


class Critic(nn.Module):
    """x `[B, D]` and z `[B, Z]` (or none) -> scores `[B, out]` and the last hidden layer."""

    widths: tuple[int, ...]
    out: int
    style: str
    deviation: float
    pieces: int = 5
    """linear pieces of a maxout unit (plane)"""
    zero_start: bool = False
    """the last layer's weights start at zero"""
    norm: nets.Norm = "batch"

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        z: jax.Array | None = None,
        train: bool = False,
        axis_name: str | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        plane, act = self.style == "plane", _rectified(self.style)
        bias = nets.needs_bias(self.norm)
        lay = lambda layer: nets.linear(layer, self.norm, train)
        if plane and z is not None:
            x = jnp.concatenate([x, z], axis=-1)
        for layer, width in enumerate(self.widths):
            units = width * self.pieces if plane else width
            x = lay(_dense(units, self.deviation, bias))(x)
            if layer and not plane and z is not None:
                x = x + lay(_dense(width, self.deviation, bias=False))(z)
            if layer or plane:
                x = nets.normalise(x, self.norm, train, axis_name, MOMENTUM, affine=plane)
            if plane:
                x = jnp.max(x.reshape(*x.shape[:-1], width, self.pieces), axis=-1)
            else:
                x = act(x)
        start = nn.initializers.zeros if self.zero_start else nets.kernel_init(self.deviation)
        return lay(nn.Dense(self.out, use_bias=bias or plane, kernel_init=start))(x), x
