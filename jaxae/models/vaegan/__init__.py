"""VAE/GAN: a VAE whose decoder is a GAN's generator, with a loss of discriminator features."""

from jaxae.models.vaegan.config import Config
from jaxae.models.vaegan.model import make

__all__ = ["Config", "make"]
