"""ALI and BiGAN: a GAN over pairs (image, code), which trains an encoder with the generator."""

from jaxae.models.ali.config import Config
from jaxae.models.ali.model import make

__all__ = ["Config", "make"]
