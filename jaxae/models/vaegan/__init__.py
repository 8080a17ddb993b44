"""VAE/GAN: a VAE whose decoder is a GAN's generator, and whose error the discriminator measures."""

from jaxae.models.vaegan.config import Config
from jaxae.models.vaegan.model import make

__all__ = ["Config", "make"]
