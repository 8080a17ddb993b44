"""Presets by model: `PRESETS[model][preset]()` gives the settings. Its docstring is its account."""

from presets import (
    aae,
    acai,
    acn,
    ae,
    alae,
    ali,
    dae,
    gan,
    hashing,
    iae,
    nvae,
    vae,
    vaegan,
    vqvae,
    vqvae_audio,
)

PRESETS = {
    "aae": aae.PRESETS,
    "acai": acai.PRESETS,
    "acn": acn.PRESETS,
    "ae": ae.PRESETS,
    "alae": alae.PRESETS,
    "ali": ali.PRESETS,
    "dae": dae.PRESETS,
    "gan": gan.PRESETS,
    "hashing": hashing.PRESETS,
    "iae": iae.PRESETS,
    "nvae": nvae.PRESETS,
    "vae": vae.PRESETS,
    "vaegan": vaegan.PRESETS,
    "vqvae": vqvae.PRESETS,
    "vqvae_audio": vqvae_audio.PRESETS,
}
