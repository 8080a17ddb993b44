"""IAE: an autoencoder without a pixel loss, with implicit distributions q(z|x) and p(x|z)."""

from jaxae.models.iae.config import Config
from jaxae.models.iae.model import make

__all__ = ["Config", "make"]
