"""Networks that more than one paper uses, as flax.linen modules, and the exact neighbour search."""

from jaxae.nets.bundle import Bundle, as_before
from jaxae.nets.conv import ConvDecoder, ConvEncoder, Residual, Upsample
from jaxae.nets.made import MaskedMLP
from jaxae.nets.mlp import (
    MLP,
    Norm,
    activation,
    batch_norm,
    bias_init,
    kernel_init,
    linear,
    needs_bias,
    normalised,
)
from jaxae.nets.neighbours import nearest
from jaxae.nets.own import with_own
from jaxae.nets.pixelcnn import GatedPixelCNN
from jaxae.nets.spectral import spectral_norms, start_vectors

__all__ = [
    "MLP",
    "Bundle",
    "ConvDecoder",
    "ConvEncoder",
    "GatedPixelCNN",
    "MaskedMLP",
    "Norm",
    "Residual",
    "Upsample",
    "activation",
    "as_before",
    "batch_norm",
    "bias_init",
    "kernel_init",
    "linear",
    "nearest",
    "needs_bias",
    "normalised",
    "spectral_norms",
    "start_vectors",
    "with_own",
]
