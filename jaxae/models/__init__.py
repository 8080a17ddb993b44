"""One module per paper: a `Config`, and `make(config, spec) -> Model`."""

from jaxae.models import aae, acn, gan, vae

MODELS = {"aae": aae, "acn": acn, "gan": gan, "vae": vae}

__all__ = ["MODELS", "aae", "acn", "gan", "vae"]
