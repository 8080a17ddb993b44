"""ALI and BiGAN: an encoder and a generator that a discriminator of pairs cannot tell apart."""

from jaxae.models.ali.config import Config
from jaxae.models.ali.model import make

__all__ = ["Config", "make"]
