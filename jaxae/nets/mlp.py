"""Dense networks, and the small tools that the other networks share with them.

x [B, ...] any array with a leading batch axis -> [B, out].
"""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

Norm = Literal["none", "batch", "spectral", "layer"]
"""How a network is normalised; see `normalised` (batch, layer) and `linear` (spectral)."""

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
    norm: Norm = "none"
    """of the hidden layers, before their activation; spectral: of all weights"""
    deviation: float = 0.0
    """of the normal distribution from which all weights start; 0: LeCun's choice"""

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        act, start = activation(self.activation), kernel_init(self.deviation)
        x = x.reshape(x.shape[0], -1)
        for width in self.features:
            dense = nn.Dense(width, use_bias=needs_bias(self.norm), kernel_init=start)
            x = linear(dense, self.norm, train)(x)
            x = act(normalised(x, self.norm, train, axis_name))
        last = nn.Dense(self.out, kernel_init=start, bias_init=bias_init(self.out_bias))
        return linear(last, self.norm, train)(x)


def kernel_init(deviation: float) -> Callable[..., jax.Array]:
    """Initialiser of weights: N(0, deviation^2), or LeCun's where `deviation` is 0."""
    return nn.initializers.normal(deviation) if deviation else nn.initializers.lecun_normal()


def condition(features: int, name: str | None = None) -> nn.Dense:
    """What a code adds to a layer of a decoder that can do without: `[..., Z] -> [..., features]`.

    A linear map without a bias that begins at zero, so that the decoder begins as if there were no
    code and a code that joins one which has learned alone changes nothing at first. Its gradient
    is not zero unless the code is: put no second factor that begins at zero before or behind it.
    """
    return nn.Dense(features, use_bias=False, kernel_init=nn.initializers.zeros, name=name)


def batch_norm(
    train: bool, axis_name: str | None, momentum: float = 0.9, affine: bool = True
) -> nn.Module:
    """Batch normalisation.

    Args:
        train: normalise by this batch, and move the averages; else normalise by the averages.
        axis_name: mapped axis over which the batch is spread, if any.
        momentum: share of themselves that the moving averages keep.
        affine: with gain and shift.
    """
    return nn.BatchNorm(
        not train, momentum=momentum, use_scale=affine, use_bias=affine,
        axis_name=axis_name if train else None,
    )  # fmt: skip


def needs_bias(norm: Norm) -> bool:
    """Whether a layer that is so normalised needs a bias: over the batch it is taken off again."""
    return norm != "batch"


def normalised(
    h: jax.Array,
    norm: Norm,
    train: bool,
    axis_name: str | None,
    momentum: float = 0.9,
    affine: bool = True,
) -> jax.Array:
    """What a layer's linear map gives, normalised before the activation: `[B, ..., C]` -> the same.

    Args:
        norm: `batch`: each channel over the batch and all places; `layer`: each example by itself
            over all channels and places (Ba, Kiros & Hinton 2016, arXiv:1607.06450); else `h` as
            it is.
        train, axis_name, momentum: of `batch_norm`.
        affine: with gain and shift, one for each channel.
    """
    if norm == "batch":
        return batch_norm(train, axis_name, momentum, affine)(h)
    if norm == "layer":
        return nn.LayerNorm(
            use_scale=affine, use_bias=affine, reduction_axes=tuple(range(1, h.ndim))
        )(h)
    return h


def linear(layer: nn.Module, norm: Norm, train: bool) -> Callable[[jax.Array], jax.Array]:
    """A dense layer or a convolution, with its weights divided by their norm where it is spectral.

    The spectral norm is the largest singular value of the weights as a matrix, their last axis
    against all others. It is estimated by one power iteration a call, which under `train` goes on
    from the one before: the vectors are kept among the batch statistics. Source: Miyato, Kataoka,
    Koyama & Yoshida 2018, arXiv:1802.05957.

    Args:
        layer: has a `kernel`, and perhaps a bias, which stays as it is.
        norm: as in `normalised`; only `spectral` changes anything here.
        train: keep the vectors of this call.
    """
    if norm != "spectral":
        return layer
    wrapped = nn.SpectralNorm(layer)
    return lambda x: wrapped(x, update_stats=train)
