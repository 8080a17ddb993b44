"""IAE: an autoencoder without a pixel loss, in which both conditionals are only sampled from."""

from jaxae.models.iae.config import Config
from jaxae.models.iae.model import make

__all__ = ["Config", "make"]
