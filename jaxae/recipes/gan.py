"""Recipes of the GAN baseline."""

from jaxae.data import Options
from jaxae.models.gan import Config
from jaxae.settings import Settings
from jaxae.training import Plan


def digits() -> Settings:
    """Dense GAN on the embedded 8x8 digits; a minute on two CPU cores.

    jaxae --model gan. The setting is ours. No number is recorded for this recipe.
    """
    steps = 6000
    config = Config(latent=16, r1=0.1, decay_steps=steps)
    plan = Plan(steps=steps, log_every=100, eval_every=1000)
    return Settings("digits", config, plan, Options(dequantise=True))


def mnist() -> Settings:
    """Dense GAN with an R1 penalty on MNIST; within ten minutes on two CPU cores.

    jaxae --model gan --recipe mnist. The setting is ours. No number is recorded for this recipe.
    """
    steps = 12_000
    config = Config(latent=64, widths=(512, 512), r1=0.3, decay_steps=steps)
    plan = Plan(steps=steps, log_every=100, eval_every=2000)
    return Settings("mnist", config, plan, Options(dequantise=True))


def dcgan() -> Settings:
    """Convolutional GAN with batch normalisation on MNIST; for a GPU or TPU, not run by us.

    jaxae --model gan --recipe dcgan. Rates and momentum are those of Radford, Metz & Chintala 2016
    (recalled); sizes and data are ours. No number is recorded for this recipe.
    """
    config = Config(
        latent=100, network="conv", conv_width=64, generator_norm="batch",
        discriminator_norm="batch", r1=0.0,
    )  # fmt: skip
    plan = Plan(steps=50_000, batch_size=128, log_every=100, eval_every=5000, save_every=5000)
    return Settings("mnist", config, plan, Options(dequantise=True))


RECIPES = {"digits": digits, "mnist": mnist, "dcgan": dcgan}
