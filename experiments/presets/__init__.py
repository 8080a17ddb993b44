"""Presets by model: `PRESETS[model][preset]()` gives the settings. Its docstring is its account."""

from presets import acn, gan, vae

PRESETS = {"acn": acn.PRESETS, "gan": gan.PRESETS, "vae": vae.PRESETS}
