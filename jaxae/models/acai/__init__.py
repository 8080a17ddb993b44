"""ACAI: an autoencoder whose decoded interpolations a critic cannot tell from reconstructions."""

from jaxae.models.acai.model import Config, make

__all__ = ["Config", "make"]
