"""ACN (associative compression networks): a code is coded given the code of a similar image."""

from jaxae.models.acn.config import Config
from jaxae.models.acn.model import make

__all__ = ["Config", "make"]
