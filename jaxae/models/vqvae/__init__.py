"""VQ-VAE: an autoencoder with a discrete code, the nearest rows of a learnt codebook."""

from jaxae.models.vqvae.model import Config, make

__all__ = ["Config", "make"]
