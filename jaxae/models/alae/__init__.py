"""ALAE: a GAN in four networks, two of which are an autoencoder of a learned latent."""

from jaxae.models.alae.config import Config
from jaxae.models.alae.model import make

__all__ = ["Config", "make"]
