"""Presets of ACN."""

from settings import Report, Settings

from jaxae.data import Options
from jaxae.models.acn import Config
from jaxae.training import Plan


def digits() -> Settings:
    """ACN with a masked MLP decoder on scikit-learn's 8x8 digits, binarised anew at each visit.

    The setting is ours.
    """
    return Settings("digits", Config(), Plan(steps=2000), Options(binarise="dynamic"))


def mnist() -> Settings:
    """ACN with a small gated PixelCNN on MNIST, binarised anew at each visit.

    The setting is ours.
    """
    config = Config(
        latent=64,
        encoder="mlp",
        widths=(512, 512),
        decoder="pixelcnn",
        pixelcnn_width=16,
        pixelcnn_layers=5,
        prior_widths=(512, 512, 512),
        components=5,
    )
    plan = Plan(steps=1800, batch_size=64, log_every=25, eval_every=600, save_every=300,
                eval_examples=500)  # fmt: skip
    return Settings("mnist", config, plan, Options(binarise="dynamic"), Report(test_examples=2000))


PRESETS = {"digits": digits, "mnist": mnist}
