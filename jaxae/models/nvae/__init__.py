"""NVAE: a deep hierarchical VAE with one top-down network for inference and generation."""

from jaxae.models.nvae.model import Config, make

__all__ = ["Config", "make"]
