"""Recipes of the VQ-VAE. Times are of two CPU cores, compilation and evaluation included."""

from jaxae.data import Options
from jaxae.models.vqvae import Config
from jaxae.settings import Report, Settings
from jaxae.training import Plan

BITS = Options(binarise="dynamic")
REPORT = Report(iwae_samples=1)  # the posterior is a point mass: more samples change nothing


def digits() -> Settings:
    """VQ-VAE with 2x2 codes of 64 on scikit-learn's 8x8 digits, binarised again in every batch.

    jaxae --model vqvae; about a minute. The setting is ours. No number is recorded for this recipe.
    """
    config = Config(
        codes=64,
        conv_width=32,
        conv_blocks=1,
        restart=0.1,
        stage_one=1200,
        decay_steps=1200,
        prior_width=24,
        prior_layers=2,
        prior_decay_steps=800,
    )
    return Settings("digits", config, Plan(steps=2000), BITS, REPORT)


def mnist() -> Settings:
    """VQ-VAE with 7x7 codes of 64 on MNIST, binarised in every batch, then a prior of the codes.

    jaxae --model vqvae --recipe mnist; within ten minutes. The setting is ours. Expect what
    experiments/results/earlier/vqvae_mnist.md shows.
    """
    first, second = 2000, 2500
    config = Config(
        codes=64,
        conv_width=32,
        conv_blocks=2,
        restart=0.1,
        stage_one=first,
        decay_steps=first,
        prior_width=32,
        prior_layers=6,
        prior_head=64,
        prior_learning_rate=2e-3,
        prior_decay_steps=second,
    )
    plan = Plan(steps=first + second, batch_size=64, log_every=50, eval_every=1000, save_every=500)
    return Settings("mnist", config, plan, BITS, REPORT)


def paper_cifar10() -> Settings:
    """CIFAR-10 for bits/dim: 8x8 positions of ten codes of 512 rows, a softmax over 256 levels.

    jaxae --model vqvae --recipe paper-cifar10; for a GPU or TPU, not run by us. Published: 256
    hidden units, two convolutions of stride 2 and two residual blocks, 8x8x10 codes, gradient
    codebook, commitment 0.25, Adam 2e-4, batch 128, 250,000 steps, 4.67 bits/dim (the prior is not
    stated; with a uniform one the codes take 1.875 of them). The softmax over pixel values and the
    separate codebooks of the ten codes are from the authors, as quoted by others. Unknown, so ours:
    code vectors of width 64, squared distances as in the public code, half as many channels next to
    the image, and the prior with its 100,000 steps. Codebooks are initialised with vectors of the
    first batch.
    """
    first, second = 250_000, 100_000
    config = Config(
        codes=512,
        groups=10,
        code_width=64,
        codebook="gradient",
        restart=0.0,
        conv_width=256,
        likelihood="categorical",
        learning_rate=2e-4,
        stage_one=first,
        prior_width=128,
        prior_layers=15,
        prior_head=512,
        prior_learning_rate=3e-4,
    )
    plan = Plan(
        steps=first + second, batch_size=128, log_every=100, eval_every=10_000, save_every=5000
    )
    return Settings("cifar10", config, plan, report=REPORT)


def sonnet_cifar10() -> Settings:
    """CIFAR-10 as in the public example: 8x8 codes of 512, moving averages, squared error.

    jaxae --model vqvae --recipe sonnet-cifar10; for a GPU or TPU, not run by us. Networks, rates
    and sizes are those of deepmind/sonnet: examples/vqvae_example.ipynb, which logs after 10,000
    steps, on training images, a squared error of 0.056 of the pixels' variance and a perplexity of
    326. With the Gaussian's scale of 0.1779 the distortion per pixel is that error plus a constant:
    0.1779^2 is half of the variance 0.06327. Codebooks are initialised with vectors of the first
    batch (in the example: with zeros). The prior is ours.
    """
    first, second = 10_000, 20_000
    config = Config(
        codes=512,
        code_width=64,
        restart=0.0,
        conv_width=128,
        block_width=32,
        extra_conv=True,
        likelihood="gaussian",
        scale=0.1779,
        learning_rate=3e-4,
        stage_one=first,
        prior_width=64,
        prior_layers=12,
        prior_head=512,
        prior_learning_rate=3e-4,
    )
    plan = Plan(steps=first + second, batch_size=32, log_every=100, eval_every=5000)
    return Settings("cifar10", config, plan, report=REPORT)


RECIPES = {
    "digits": digits,
    "mnist": mnist,
    "paper-cifar10": paper_cifar10,
    "sonnet-cifar10": sonnet_cifar10,
}
