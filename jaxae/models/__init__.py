"""One module per paper: a `Config`, and `make(config, spec) -> Model`."""

from jaxae.models import aae, acn, ae, ali, dae, gan, hashing, iae, nvae, vae, vaegan, vqvae

MODELS = {
    "aae": aae,
    "acn": acn,
    "ae": ae,
    "ali": ali,
    "dae": dae,
    "gan": gan,
    "hashing": hashing,
    "iae": iae,
    "nvae": nvae,
    "vae": vae,
    "vaegan": vaegan,
    "vqvae": vqvae,
}

__all__ = [
    "MODELS",
    "aae",
    "acn",
    "ae",
    "ali",
    "dae",
    "gan",
    "hashing",
    "iae",
    "nvae",
    "vae",
    "vaegan",
    "vqvae",
]
