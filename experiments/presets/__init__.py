"""Presets by model: `PRESETS[model][preset]()` gives the settings. Its docstring is its account."""

from presets import aae, acn, ali, gan, vae, vaegan

PRESETS = {
    "aae": aae.PRESETS,
    "acn": acn.PRESETS,
    "ali": ali.PRESETS,
    "gan": gan.PRESETS,
    "vae": vae.PRESETS,
    "vaegan": vaegan.PRESETS,
}
