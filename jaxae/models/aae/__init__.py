"""AAE: an autoencoder whose codes a discriminator matches to a chosen prior distribution."""

from jaxae.models.aae.config import Config
from jaxae.models.aae.model import make

__all__ = ["Config", "make"]
