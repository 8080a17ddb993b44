"""Dense networks, and functions shared with the other networks.

x [B, ...] any array with a leading batch axis -> [B, out].
"""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

Norm = Literal["none", "batch", "spectral", "layer"]
"""How a network is normalised; see `normalise` (batch, layer) and `linear` (spectral)."""

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
        ValueError: unknown name; the message lists the choices.
    """
    if name not in _ACTIVATIONS:
        raise ValueError(f"activation {name!r} is unknown; choose from {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


def output_activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """Activation of a decoder's last layer: `sigmoid` (pixels in [0, 1]) or `linear` (none)."""
    return nn.sigmoid if name == "sigmoid" else lambda x: x


def bias_init(out_bias: Any = None) -> Callable[..., jax.Array]:
    """Initialiser of an output bias: zeros, or given values.

    With the logits of the mean training image as initial bias a decoder does not spend its first
    hundreds of steps on learning that image.

    Args:
        out_bias: None, or an array that broadcasts to the bias (`[out]`, `[channels]` or a
            scalar).
    Returns:
        a linen initialiser; it raises ValueError if the array does not broadcast to the bias.
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        del key
        start = jnp.asarray(0.0 if out_bias is None else out_bias, dtype)
        if start.ndim > len(shape) or any(
            given not in (1, wanted)
            for given, wanted in zip(start.shape[::-1], shape[::-1], strict=False)
        ):
            raise ValueError(f"out_bias must broadcast to shape {shape}, has shape {start.shape}")
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
    """initial value of the last layer's bias, `[out]`; None: zeros"""
    norm: Norm = "none"
    """of the hidden layers, before their activation; spectral: of all weights"""
    deviation: float = 0.0
    """standard deviation of the initial weights; 0: LeCun's initialisation"""

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        act, start = activation(self.activation), kernel_init(self.deviation)
        x = x.reshape(x.shape[0], -1)
        for width in self.features:
            dense = nn.Dense(width, use_bias=needs_bias(self.norm), kernel_init=start)
            x = linear(dense, self.norm, train)(x)
            x = act(normalise(x, self.norm, train, axis_name))
        last = nn.Dense(self.out, kernel_init=start, bias_init=bias_init(self.out_bias))
        return linear(last, self.norm, train)(x)


def kernel_init(deviation: float) -> Callable[..., jax.Array]:
    """Initialiser of weights: N(0, deviation^2), or LeCun's if `deviation` is 0."""
    return nn.initializers.normal(deviation) if deviation else nn.initializers.lecun_normal()


def conditioning_layer(features: int, zero_init: bool, name: str | None = None) -> nn.Dense:
    """The linear map, without bias, that adds a code to a layer: `[..., Z] -> [..., features]`.

    Args:
        features: units of the layer that the code is added to.
        zero_init: start at zero, for a code that is added to a decoder already trained without it:
            the code then has no effect at first, while the usual start would add noise of order one
            to every unit. The gradient is zero only where the code is: no other factor in series
            with this map may start at zero. For a decoder trained with a code from its first step,
            the usual start learns faster.
        name: of the layer.
    """
    start = nn.initializers.zeros if zero_init else nn.initializers.lecun_normal()
    return nn.Dense(features, use_bias=False, kernel_init=start, name=name)


def batch_norm(
    train: bool, axis_name: str | None, momentum: float = 0.9, affine: bool = True
) -> nn.Module:
    """Batch normalisation.

    Args:
        train: normalise by this batch and update the moving averages; else normalise by these.
        axis_name: mapped axis over which the batch is split, if any.
        momentum: decay of the moving averages.
        affine: with scale and bias.
    """
    return nn.BatchNorm(
        not train, momentum=momentum, use_scale=affine, use_bias=affine,
        axis_name=axis_name if train else None,
    )  # fmt: skip


def needs_bias(norm: Norm) -> bool:
    """Whether a layer with this normalisation needs a bias; batch normalisation would remove it."""
    return norm != "batch"


def normalise(
    h: jax.Array,
    norm: Norm,
    train: bool,
    axis_name: str | None,
    momentum: float = 0.9,
    affine: bool = True,
) -> jax.Array:
    """Normalises the outputs of a linear layer before the activation; `[B, ..., C]`, as the result.

    Args:
        norm: `batch`: each channel over the batch and all positions; `layer`: each example over all
            channels and positions (Ba, Kiros & Hinton 2016, arXiv:1607.06450); otherwise `h` is
            returned unchanged.
        train, axis_name, momentum: as in `batch_norm`.
        affine: with scale and bias per channel.
    """
    if norm == "batch":
        return batch_norm(train, axis_name, momentum, affine)(h)
    if norm == "layer":
        return nn.LayerNorm(
            use_scale=affine, use_bias=affine, reduction_axes=tuple(range(1, h.ndim))
        )(h)
    return h


def linear(layer: nn.Module, norm: Norm, train: bool) -> Callable[[jax.Array], jax.Array]:
    """A dense layer or convolution; if `norm` is `spectral`, its kernel is divided by its norm.

    The spectral norm is the largest singular value of the kernel as a matrix `[all other axes, last
    axis]`. It is estimated by one power iteration per call; with `train` the iterate is stored in
    the batch statistics and used by the next call. Source: Miyato, Kataoka, Koyama & Yoshida 2018,
    arXiv:1802.05957.

    Args:
        layer: has a `kernel`, and perhaps a bias, which is not normalised.
        norm: as in `normalise`; values other than `spectral` have no effect here.
        train: store the iterate of this call.
    """
    if norm != "spectral":
        return layer
    wrapped = nn.SpectralNorm(layer)
    return lambda x: wrapped(x, update_stats=train)
