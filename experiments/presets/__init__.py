"""Presets by model: `PRESETS[model][preset]()` gives the settings. Its docstring is its account."""

from presets import acn, vae

PRESETS = {"acn": acn.PRESETS, "vae": vae.PRESETS}
