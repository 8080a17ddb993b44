"""One module per paper: a `Config`, and `make(config, spec) -> Model`."""

from jaxae.models import aae, acn, ali, gan, vae, vaegan

MODELS = {"aae": aae, "acn": acn, "ali": ali, "gan": gan, "vae": vae, "vaegan": vaegan}

__all__ = ["MODELS", "aae", "acn", "ali", "gan", "vae", "vaegan"]
