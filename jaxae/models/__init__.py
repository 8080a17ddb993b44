"""One module per paper: a `Config`, and `make(config, spec) -> Model`."""

from jaxae.models import acn, vae

MODELS = {"acn": acn, "vae": vae}

__all__ = ["MODELS", "acn", "vae"]
