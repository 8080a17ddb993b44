"""Recipes of ACAI. Times are of two CPU cores, compilation and evaluation included."""

from jaxae.models.acai import Config
from jaxae.settings import Settings
from jaxae.training import Plan

PAPER_STEPS = 2**24 // 64


def digits() -> Settings:
    """ACAI on scikit-learn's 8x8 digits, codes of 2x2x4 numbers; under a minute.

    jaxae --model acai; --method baseline, dropout, denoising, vae, aae or vqvae for the methods
    that it is compared with (with vqvae use --codes 256 --hidden 128). The setting is ours. No
    number is recorded for this recipe; experiments/results/earlier/acai_codes.md has those of
    similar settings.
    """
    config = Config(gain=2.0, learning_rate=1e-3, critic_rate=1e-3)
    return Settings("digits", config, Plan(steps=1500))


def lines() -> Settings:
    """ACAI on lines of 32x32, with half the published width and fewer steps; several minutes.

    jaxae --model acai --recipe lines. The setting is ours; experiments/studies/acai.py uses it to
    compare all methods by distance and smoothness.
    """
    steps = 3000
    config = Config(
        scales=4, depth=8, channels=16, gain=2.0, learning_rate=1e-3, critic_rate=1e-3,
        decay_steps=steps,
    )  # fmt: skip
    plan = Plan(steps=steps, batch_size=16, log_every=100, eval_every=1000, save_every=1000)
    return Settings("lines", config, plan)


def mnist() -> Settings:
    """ACAI on MNIST padded to 32x32, codes of 4x4x2 numbers, half as wide as published.

    jaxae --model acai --recipe mnist; several minutes. The setting is ours. No number is recorded
    for this recipe.
    """
    steps = 4000
    config = Config(
        scales=3, depth=8, channels=2, gain=2.0, learning_rate=1e-3, critic_rate=1e-3,
        decay_steps=steps,
    )  # fmt: skip
    plan = Plan(steps=steps, batch_size=32, log_every=200, eval_every=2000, save_every=2000)
    return Settings("mnist", config, plan)


def _published(data: str, scales: int, depth: int, channels: int, **fields) -> Settings:
    """2^24 images in batches of 64 at a constant rate of 1e-4, evaluated every 2^16 images."""
    config = Config(scales=scales, depth=depth, channels=channels, **fields)
    plan = Plan(steps=PAPER_STEPS, log_every=256, eval_every=1024, save_every=4096)
    return Settings(data, config, plan)


def paper_lines() -> Settings:
    """The published lines: 2^24 images, codes of 2x2x16 numbers; for a GPU or TPU, not run by us.

    jaxae --model acai --recipe paper-lines. The setting is that of the official code, except for a
    fixed set of 20,000 training lines; the official code generates new lines all the time.
    Published (recalled; the first pair is confirmed by another source): mean distance 0.24e-3 and
    smoothness 0.10, baseline 6.88e-3 and 0.44. In the official code, --method vqvae has a code map
    of 4x4: use --scales 3.
    """
    return _published("lines", scales=4, depth=16, channels=16)


def paper_mnist_32() -> Settings:
    """The published MNIST with codes of 4x4x2 numbers; for a GPU or TPU, not run by us.

    jaxae --model acai --recipe paper-mnist-32. The setting is that of the
    official code. Published, recalled: single-layer classifier 98.25 %, k-means 94.38 %.
    """
    return _published("mnist", scales=3, depth=16, channels=2)


def paper_mnist_256() -> Settings:
    """As paper-mnist-32 with codes of 4x4x16 numbers; published, recalled: 99.00 % and 96.17 %.

    jaxae --model acai --recipe paper-mnist-256. For a GPU or TPU, not run by us.
    """
    return _published("mnist", scales=3, depth=16, channels=16)


def paper_svhn_256() -> Settings:
    """The published SVHN with codes of 4x4x16 numbers; for a GPU or TPU, not run by us.

    jaxae --model acai --recipe paper-svhn-256. The setting is that of the
    official code, which trains on the extra images as well. Published, recalled: 85.14 %.
    """
    return _published("svhn_cropped", scales=3, depth=64, channels=16)


def paper_cifar10_1024() -> Settings:
    """The published CIFAR-10 with codes of 4x4x64 numbers; for a GPU or TPU, not run by us.

    jaxae --model acai --recipe paper-cifar10-1024. The setting is that of the
    official code. Published, recalled: 63.99 %.
    """
    return _published("cifar10", scales=3, depth=64, channels=64)


RECIPES = {
    "digits": digits,
    "lines": lines,
    "mnist": mnist,
    "paper-lines": paper_lines,
    "paper-mnist-32": paper_mnist_32,
    "paper-mnist-256": paper_mnist_256,
    "paper-svhn-256": paper_svhn_256,
    "paper-cifar10-1024": paper_cifar10_1024,
}
