"""A dense encoder and the decoder that mirrors it, reachable layer by layer.

Pair k of layers lies between the sizes s_k and s_{k+1}: `enc.layer_k` leads up, `dec.layer_k` down.
Hidden layers have one activation; the code and the outputs are linear, and the caller squashes
them. A pair by itself is a small autoencoder (or a restricted Boltzmann machine), which is how the
networks of 2006 to 2010 were built.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxae import nets

Params = dict[str, dict[str, dict[str, jax.Array]]]  # enc, dec -> layer_k -> kernel, bias
RBM_DEVIATION = 0.1  # Hinton's MATLAB release of 2006: rbm.m


@dataclasses.dataclass(frozen=True)
class Mirrored:
    """Sizes and units; the parameters are the caller's.

    Raises:
        ValueError: an unknown activation, or a size below 1.
    """

    sizes: tuple[int, ...]
    """D, the hidden widths, Z"""
    activation: str = "relu"
    tied: bool = False
    """the decoder's kernels are the encoder's, transposed"""
    side_inputs: int = 0
    """numbers that the first layer sees beside x and that are not reconstructed"""

    def __post_init__(self):
        nets.activation(self.activation)
        if len(self.sizes) < 2 or min(self.sizes) < 1:
            raise ValueError(f"widths: sizes {self.sizes} must be at least two, each at least 1")
        if self.tied and self.side_inputs:
            raise ValueError("tied weights reconstruct every input, side inputs among them")

    @property
    def depth(self) -> int:
        """Pairs of layers."""
        return len(self.sizes) - 1

    def init(self, rng: jax.Array, start: str) -> Params:
        """Zero biases, and kernels as `start` says.

        Args:
            rng: key.
            start: `he` (normal, variance 2 / inputs), `glorot` (uniform, variance 2 / (inputs +
                outputs)) or `rbm` (normal, deviation 0.1, the decoder the encoder's transpose).
        """
        draw = {
            "he": jax.nn.initializers.he_normal(),
            "glorot": jax.nn.initializers.glorot_uniform(),
            "rbm": jax.nn.initializers.normal(RBM_DEVIATION),
        }[start]
        enc, dec = {}, {}
        for k, keys in enumerate(jax.random.split(rng, (self.depth, 2))):
            low, high = self.sizes[k : k + 2]
            kernel = draw(keys[0], (low + (self.side_inputs if k == 0 else 0), high))
            enc[f"layer_{k}"] = {"kernel": kernel, "bias": jnp.zeros(high)}
            dec[f"layer_{k}"] = {"bias": jnp.zeros(low)}
            if not self.tied:
                back = kernel[:low].T if start == "rbm" else draw(keys[1], (high, low))
                dec[f"layer_{k}"]["kernel"] = back
        return {"enc": enc, "dec": dec}

    def up(self, p: Params, x: jax.Array, first: int = 0, last: int | None = None) -> jax.Array:
        """`[B, s_first] -> [B, s_last]` (by default the code), linear where that is the code."""
        act = nets.activation(self.activation)
        for k in range(first, self.depth if last is None else last):
            layer = p["enc"][f"layer_{k}"]
            x = x @ layer["kernel"] + layer["bias"][None]
            x = act(x) if k + 1 < self.depth else x
        return x

    def down(self, p: Params, z: jax.Array, first: int | None = None) -> jax.Array:
        """`[B, s_first] -> [B, D]`, from the code by default; the outputs are linear."""
        act = nets.activation(self.activation)
        for k in reversed(range(self.depth if first is None else first)):
            z = self.down_linear(p, z, k)
            z = act(z) if k > 0 else z
        return z

    def down_linear(self, p: Params, h: jax.Array, k: int) -> jax.Array:
        """`[B, s_{k+1}] -> [B, s_k]`, one layer without its activation."""
        return h @ self.kernel_down(p, k) + p["dec"][f"layer_{k}"]["bias"][None]

    def kernel_down(self, p: Params, k: int) -> jax.Array:
        """`[s_{k+1}, s_k]` the kernel that leads from pair k's upper side to its lower one."""
        if self.tied:
            return p["enc"][f"layer_{k}"]["kernel"].T
        return p["dec"][f"layer_{k}"]["kernel"]


def flat(images: Any) -> jax.Array:
    """`[B, ...] -> [B, D]`"""
    return images.reshape(images.shape[0], -1)
