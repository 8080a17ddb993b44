"""Presets of the VAE."""

from settings import Settings

from jaxae.data import Options
from jaxae.models.vae import Config
from jaxae.training import Plan


def digits() -> Settings:
    """Dense VAE on scikit-learn's 8x8 digits, binarised anew at each visit.

    The setting is ours.
    """
    return Settings("digits", Config(), Plan(steps=2000), Options(binarise="dynamic"))


PRESETS = {"digits": digits}
