"""Presets by model: `PRESETS[model][preset]()` gives the settings. Its docstring is its account."""

from presets import aae, acn, gan, vae

PRESETS = {"aae": aae.PRESETS, "acn": acn.PRESETS, "gan": gan.PRESETS, "vae": vae.PRESETS}
