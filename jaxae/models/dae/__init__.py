"""DAE: corrupt the input, reconstruct the clean one."""

from jaxae.models.dae.model import Config, make

__all__ = ["Config", "make"]
