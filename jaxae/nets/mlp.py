"""Dense networks, and the small tools that the other networks share with them.

x [B, ...] any array with a leading batch axis -> [B, out].
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "tanh": jnp.tanh,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "elu": nn.elu,
    "leaky_relu": nn.leaky_relu,
    "leaky_relu_0.2": lambda x: nn.leaky_relu(x, 0.2),
    "sigmoid": nn.sigmoid,
}


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """The elementwise function called `name`.

    Args:
        name: relu, tanh, gelu, silu, elu, leaky_relu (slope 0.01), leaky_relu_0.2 or sigmoid.
    Raises:
        ValueError: another name; the message lists the choices.
    """
    if name not in _ACTIVATIONS:
        raise ValueError(f"activation {name!r} is unknown; choose from {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


def squashing(output: str) -> Callable[[jax.Array], jax.Array]:
    """What a decoder's last layer passes through: `sigmoid` for pixels in [0, 1], or `linear`."""
    return nn.sigmoid if output == "sigmoid" else lambda x: x


def bias_init(out_bias: Any = None) -> Callable[..., jax.Array]:
    """Initialiser of an output bias: zeros, or the given numbers.

    A decoder whose output bias starts at the logit of the mean training image need not spend its
    first hundreds of steps on learning that image.

    Args:
        out_bias: None, or an array that broadcasts to the bias (`[out]`, `[channels]` or a
            scalar).
    Returns:
        a linen initialiser; it raises ValueError where the array does not fit the bias.
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        del key
        start = jnp.asarray(0.0 if out_bias is None else out_bias, dtype)
        if start.ndim > len(shape) or any(
            have not in (1, want)
            for have, want in zip(start.shape[::-1], shape[::-1], strict=False)
        ):
            raise ValueError(f"out_bias has shape {start.shape}, the output needs {shape}")
        return jnp.full(shape, start.reshape((1,) * (len(shape) - start.ndim) + start.shape), dtype)

    return init


class MLP(nn.Module):
    """Hidden layers with one activation, then a linear layer: `[B, ...] -> [B, out]`.

    All axes but the first are flattened.
    """

    features: tuple[int, ...]
    """widths of the hidden layers, none for a linear map"""
    out: int
    activation: str = "relu"
    out_bias: Any = None
    """start of the last layer's bias, `[out]`; None: zeros"""
    batch_norm: bool = False
    """normalise the hidden layers before their activation"""
    deviation: float = 0.0
    """of the normal distribution from which all weights start; 0: LeCun's choice"""

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        act, start = activation(self.activation), kernel_init(self.deviation)
        x = x.reshape(x.shape[0], -1)
        for width in self.features:
            x = nn.Dense(width, use_bias=not self.batch_norm, kernel_init=start)(x)
            x = act(batch_norm(train, axis_name)(x) if self.batch_norm else x)
        return nn.Dense(self.out, kernel_init=start, bias_init=bias_init(self.out_bias))(x)


def kernel_init(deviation: float) -> Callable[..., jax.Array]:
    """Initialiser of weights: N(0, deviation^2), or LeCun's where `deviation` is 0."""
    return nn.initializers.normal(deviation) if deviation else nn.initializers.lecun_normal()


def condition(features: int, joins: bool, name: str | None = None) -> nn.Dense:
    """What a code adds to a layer of a decoder that can do without: `[..., Z] -> [..., features]`.

    A linear map without a bias.

    Args:
        features: of the layer.
        joins: whether the code joins a decoder that has learned without it. The map then begins at
            zero, and the code changes nothing at first; at the usual size it would be noise of
            order one in every unit. Its gradient is not zero unless the code is: put no second
            factor that begins at zero before or behind it. A decoder that has had a code from its
            first step learns to use it sooner from the usual start.
        name: of the layer.
    """
    start = nn.initializers.zeros if joins else nn.initializers.lecun_normal()
    return nn.Dense(features, use_bias=False, kernel_init=start, name=name)


def batch_norm(train: bool, axis_name: str | None, momentum: float = 0.9) -> nn.Module:
    """Batch normalisation with gain and shift.

    Args:
        train: normalise by this batch, and move the averages; else normalise by the averages.
        axis_name: mapped axis over which the batch is spread, if any.
        momentum: share of themselves that the moving averages keep.
    """
    return nn.BatchNorm(not train, momentum=momentum, axis_name=axis_name if train else None)
