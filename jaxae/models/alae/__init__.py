"""ALAE: a GAN of four networks, two of which are an autoencoder of a learned latent space."""

from jaxae.models.alae.config import Config
from jaxae.models.alae.model import make

__all__ = ["Config", "make"]
