"""Networks that more than one paper uses, as flax.linen modules, and exact nearest neighbours."""

from jaxae.nets.bundle import Bundle, cast_like
from jaxae.nets.conv import ConvDecoder, ConvEncoder, Residual, Upsample
from jaxae.nets.custom import replace_networks
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
    normalise,
)
from jaxae.nets.neighbours import nearest
from jaxae.nets.pixelcnn import GatedPixelCNN
from jaxae.nets.spectral import init_spectral_vectors, spectral_norms

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
    "batch_norm",
    "bias_init",
    "cast_like",
    "init_spectral_vectors",
    "kernel_init",
    "linear",
    "nearest",
    "needs_bias",
    "normalise",
    "replace_networks",
    "spectral_norms",
]
