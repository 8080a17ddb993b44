"""NVAE: a deep hierarchical VAE whose top-down network is shared by inference and generation."""

from jaxae.models.nvae.model import Config, make

__all__ = ["Config", "make"]
