"""VQ-VAE: an autoencoder whose code is the nearest rows of a learnt table."""

from jaxae.models.vqvae.model import Config, make

__all__ = ["Config", "make"]
