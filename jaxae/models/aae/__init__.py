"""AAE: an autoencoder whose codes a discriminator cannot tell from draws of a chosen prior."""

from jaxae.models.aae.config import Config
from jaxae.models.aae.model import make

__all__ = ["Config", "make"]
