"""ACAI: decoded mixtures of codes must look like reconstructions to a critic."""

from jaxae.models.acai.model import Config, make

__all__ = ["Config", "make"]
