"""A dense encoder and its mirror image, the decoder, with access to single layers.

Pair k of layers connects the sizes s_k and s_{k+1}: `enc.layer_k` leads from s_k to s_{k+1},
`dec.layer_k` back. All hidden layers have the same activation; the code and the outputs are
linear, and a model applies its own output function. One pair alone is a small autoencoder (or a
restricted Boltzmann machine), which is how the networks of 2006 to 2010 were built.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxae import nets

Params = dict[str, dict[str, dict[str, jax.Array]]]  # enc, dec -> layer_k -> kernel, bias
PAIRED_LAYERS = (
    "model {} builds encoder and decoder from pairs of dense layers, which are trained layer by "
    "layer or share weights; it takes no networks of your own"
)
RBM_DEVIATION = 0.1  # Hinton's MATLAB release of 2006: rbm.m


@dataclasses.dataclass(frozen=True)
class Mirrored:
    """Sizes and activation. It holds no parameters: they are arguments of its methods.

    Raises:
        ValueError: an unknown activation, or a size below 1.
    """

    sizes: tuple[int, ...]
    """D, the hidden widths, Z"""
    activation: str = "relu"
    tied: bool = False
    """the decoder's kernels are the encoder's, transposed"""
    side_inputs: int = 0
    """inputs of the first layer beside x, which are not reconstructed"""

    def __post_init__(self):
        nets.activation(self.activation)
        if len(self.sizes) < 2 or min(self.sizes) < 1:
            raise ValueError(f"widths: sizes {self.sizes} must be at least two, each at least 1")
        if self.tied and self.side_inputs:
            raise ValueError("tied weights reconstruct every input, side inputs included")

    @property
    def depth(self) -> int:
        """Number of pairs of layers."""
        return len(self.sizes) - 1

    def init(self, rng: jax.Array, start: str) -> Params:
        """Zero biases, and random kernels.

        Args:
            rng: key.
            start: `he` (normal, variance 2 / inputs), `glorot` (uniform, variance 2 / (inputs +
                outputs)) or `rbm` (normal, deviation 0.1; the decoder's kernels are the encoder's,
                transposed).
        """
        init_kernel = {
            "he": jax.nn.initializers.he_normal(),
            "glorot": jax.nn.initializers.glorot_uniform(),
            "rbm": jax.nn.initializers.normal(RBM_DEVIATION),
        }[start]
        enc, dec = {}, {}
        for k, keys in enumerate(jax.random.split(rng, (self.depth, 2))):
            low, high = self.sizes[k : k + 2]
            inputs = low + (self.side_inputs if k == 0 else 0)
            kernel = init_kernel(keys[0], (inputs, high))
            enc[f"layer_{k}"] = {"kernel": kernel, "bias": jnp.zeros(high)}
            dec[f"layer_{k}"] = {"bias": jnp.zeros(low)}
            if not self.tied:
                transposed = start == "rbm"
                dec[f"layer_{k}"]["kernel"] = (
                    kernel[:low].T if transposed else init_kernel(keys[1], (high, low))
                )
        return {"enc": enc, "dec": dec}

    def encode(self, p: Params, x: jax.Array, first: int = 0, last: int | None = None) -> jax.Array:
        """Layers first..last-1 of the encoder: `[B, s_first] -> [B, s_last]`.

        By default all of them, from x to the code; the code is linear.
        """
        act = nets.activation(self.activation)
        for k in range(first, self.depth if last is None else last):
            layer = p["enc"][f"layer_{k}"]
            x = x @ layer["kernel"] + layer["bias"][None]
            x = act(x) if k + 1 < self.depth else x
        return x

    def decode(self, p: Params, z: jax.Array, first: int | None = None) -> jax.Array:
        """Layers first-1..0 of the decoder: `[B, s_first] -> [B, D]`; the outputs are linear.

        By default all of them, from the code.
        """
        act = nets.activation(self.activation)
        for k in reversed(range(self.depth if first is None else first)):
            z = self.decode_layer(p, z, k)
            z = act(z) if k > 0 else z
        return z

    def decode_layer(self, p: Params, h: jax.Array, k: int) -> jax.Array:
        """Layer k of the decoder without its activation: `[B, s_{k+1}] -> [B, s_k]`."""
        return h @ self.decoder_kernel(p, k) + p["dec"][f"layer_{k}"]["bias"][None]

    def decoder_kernel(self, p: Params, k: int) -> jax.Array:
        """`[s_{k+1}, s_k]` kernel of layer k of the decoder."""
        if self.tied:
            return p["enc"][f"layer_{k}"]["kernel"].T
        return p["dec"][f"layer_{k}"]["kernel"]


def flat(images: Any) -> jax.Array:
    """`[B, ...] -> [B, D]`"""
    return images.reshape(images.shape[0], -1)
