"""Recipes of VAE/GAN."""

from jaxae.data import Options
from jaxae.models.vaegan import Config
from jaxae.settings import Settings
from jaxae.training import Plan


def digits() -> Settings:
    """Dense VAE/GAN on the embedded 8x8 digits; a minute on two CPU cores.

    jaxae --model vaegan. The setting is ours; as in the official scripts, only prior samples are
    fake images, and the gate skips updates of the network that is ahead. Expect what
    experiments/results/earlier/vaegan_digits.md shows.
    """
    steps = 4000
    config = Config(
        gamma=0.1, fakes="prior", gate=True, learning_rate=5e-4, dis_rate=1e-4, decay_steps=steps
    )
    plan = Plan(steps=steps, log_every=100, eval_every=1000, save_every=2000)
    return Settings("digits", config, plan, Options(dequantise=True))


def mnist() -> Settings:
    """Dense VAE/GAN on MNIST; within ten minutes on two CPU cores.

    jaxae --model vaegan --recipe mnist. The setting is ours; the layers have half the width of
    those of the official MNIST baselines. No number is recorded for this recipe.
    """
    steps = 8000
    config = Config(
        latent=32,
        widths=(512, 512),
        gamma=0.1,
        fakes="prior",
        gate=True,
        learning_rate=5e-4,
        dis_rate=1e-4,
        decay_steps=steps,
    )
    plan = Plan(steps=steps, log_every=100, eval_every=2000, save_every=2000)
    return Settings("mnist", config, plan, Options(dequantise=True))


def _published(data: str, epochs: int, gamma: float, **fields) -> Settings:
    """Common to the official scripts: 250 updates an epoch of 64 images, RMSProp, the gate."""
    steps = 250 * epochs
    config = Config(
        network="conv", gamma=gamma, fakes="prior", gate=True, log_floor=1e-3, optimiser="rmsprop",
        learning_rate=0.025 / 64, dis_rate=0.025 / 64, decay_steps=steps, **fields,
    )  # fmt: skip
    plan = Plan(steps=steps, log_every=250, eval_every=2500, save_every=2500)
    return Settings(data, config, plan, Options(dequantise=False))


def paper_cifar() -> Settings:
    """The official CIFAR-10 script: 32x32 networks, Z = 256, 50,000 updates; not run by us.

    jaxae --model vaegan --recipe paper-cifar; for a GPU or TPU. Networks and schedule are those of
    the authors' code, which compares the features of the second convolution of stride 2 (8x8x192 =
    12,288 features); the paper has no numbers on this data. Departures: no augmentation; pixels in
    [0, 1] instead of [-1, 1].
    """
    return _published("cifar10", 200, 1e-5, latent=256, dec_channels=(192, 128, 32),
                      dis_channels=(32, 128, 192, 256), layer=3)  # fmt: skip


def paper_celeba() -> Settings:
    """The official CelebA script, 64x64, Z = 128, 62,500 updates, on a folder; not run by us.

    jaxae --model vaegan --recipe paper-celeba --data folder:PATH with images of 64x64 pixels; for a
    GPU or TPU. Networks and schedule are from the code; in the paper (recalled) the learning rate
    is 3e-4 and the encoder's dense layer has width 2048 (here 1024). No augmentation.
    """
    return _published("folder:images", 250, 1e-6, latent=128)


RECIPES = {
    "digits": digits,
    "mnist": mnist,
    "paper-cifar": paper_cifar,
    "paper-celeba": paper_celeba,
}
