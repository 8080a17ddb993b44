"""Presets by model: `PRESETS[model][preset]()` gives the settings. Its docstring is its account."""

from presets import aae, acn, ae, ali, dae, gan, hashing, iae, nvae, vae, vaegan, vqvae

PRESETS = {
    "aae": aae.PRESETS,
    "acn": acn.PRESETS,
    "ae": ae.PRESETS,
    "ali": ali.PRESETS,
    "dae": dae.PRESETS,
    "gan": gan.PRESETS,
    "hashing": hashing.PRESETS,
    "iae": iae.PRESETS,
    "nvae": nvae.PRESETS,
    "vae": vae.PRESETS,
    "vaegan": vaegan.PRESETS,
    "vqvae": vqvae.PRESETS,
}
