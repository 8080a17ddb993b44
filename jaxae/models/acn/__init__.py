"""ACN: a code is cheap when a similar item has been sent already."""

from jaxae.models.acn.config import Config
from jaxae.models.acn.model import make

__all__ = ["Config", "make"]
