"""One module per paper: a `Config`, and `make(config, spec) -> Model`."""

from jaxae.models import acn, gan, vae

MODELS = {"acn": acn, "gan": gan, "vae": vae}

__all__ = ["MODELS", "acn", "gan", "vae"]
