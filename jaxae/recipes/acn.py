"""Recipes of ACN. Times are of two CPU cores, compilation and evaluation included.

No recipe is called `paper`: the paper's section on the architecture was not available.
"""

from jaxae.data import Options
from jaxae.models.acn import Config
from jaxae.settings import Report, Settings
from jaxae.training import Plan

BITS = Options(binarise="dynamic")


def digits() -> Settings:
    """ACN with a masked MLP decoder on scikit-learn's 8x8 digits, binarised again in every batch.

    jaxae --model acn; about a minute. The setting is ours. Expect a rate of 5.1 nats to held-out
    neighbours, a distortion of 15.4 and an unordered total of 23.0, all +- 0.4
    (experiments/results/earlier/acn_digits.md).
    """
    return Settings("digits", Config(), Plan(steps=2000), BITS)


def digits_grey() -> Settings:
    """ACN on the 17 grey levels of scikit-learn's digits, with a logistic-mixture likelihood.

    jaxae --model acn --recipe digits-grey; about a minute. The setting is ours. No number is
    recorded for this recipe.
    """
    config = Config(likelihood="logistic_mixture")
    return Settings("digits", config, Plan(steps=3000))


def mnist() -> Settings:
    """ACN with a small gated PixelCNN on MNIST, binarised again in every batch.

    jaxae --model acn --recipe mnist; within ten minutes. The setting is ours. With --variant vae
    the same networks are a VAE. Expect what experiments/results/earlier/mnist_presets.md shows.
    """
    steps = 1500
    config = Config(
        latent=64,
        encoder="mlp",
        widths=(512, 512),
        decoder="pixelcnn",
        pixelcnn_width=16,
        pixelcnn_layers=5,
        pixelcnn_map=4,
        prior_widths=(512, 512, 512),
        components=5,
        decay_steps=steps,
    )
    plan = Plan(
        steps=steps, batch_size=64, log_every=25, eval_every=500, save_every=250, eval_examples=500
    )
    return Settings("mnist", config, plan, BITS, Report(test_examples=2000, images=500))


def mnist_large() -> Settings:
    """ACN with a PixelCNN of 128 channels and 16 layers on MNIST, binarised once.

    jaxae --model acn --recipe mnist-large; for a GPU or TPU, not run by us. The prior network and K
    are the paper's as other publications report them; everything else is ours. The images are
    binarised with a fixed seed of ours and are not Larochelle's file, so published numbers are not
    comparable. No number is recorded for this recipe.
    """
    config = Config(
        latent=64,
        encoder="conv",
        conv_width=128,
        conv_blocks=4,
        decoder="pixelcnn",
        pixelcnn_width=128,
        pixelcnn_layers=16,
        pixelcnn_map=16,
        prior_widths=(512, 512, 512),
        components=5,
        learning_rate=3e-4,
    )
    plan = Plan(steps=100_000, batch_size=128, log_every=100, eval_every=2000, save_every=2000)
    return Settings("mnist", config, plan, Options(binarise="fixed"))


def cifar10() -> Settings:
    """ACN with a PixelCNN of 256 channels and 20 layers on CIFAR-10, ten logistics per pixel.

    jaxae --model acn --recipe cifar10; for a GPU or TPU, not run by us. The setting is ours. No
    number is recorded for this recipe.
    """
    config = Config(
        latent=128,
        neighbours=10,
        components=5,
        encoder="conv",
        conv_width=128,
        conv_blocks=4,
        decoder="pixelcnn",
        pixelcnn_width=256,
        pixelcnn_layers=20,
        pixelcnn_map=16,
        likelihood="logistic_mixture",
        mixtures=10,
        prior_widths=(512, 512, 512),
        learning_rate=2e-4,
    )
    plan = Plan(steps=200_000, batch_size=64, log_every=100, eval_every=5000, save_every=5000)
    return Settings("cifar10", config, plan)


RECIPES = {
    "digits": digits,
    "digits-grey": digits_grey,
    "mnist": mnist,
    "mnist-large": mnist_large,
    "cifar10": cifar10,
}
