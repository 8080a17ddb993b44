"""Recipes of NVAE. Times are of two CPU cores, compilation and evaluation included."""

import dataclasses

from jaxae.data import Options
from jaxae.models.nvae import Config
from jaxae.settings import Report, Settings
from jaxae.training import Plan

BINARY = Options(binarise="dynamic")


def digits() -> Settings:
    """Two scales of two groups on the embedded 8x8 digits; a minute and a half.

    jaxae --model nvae. The setting is ours; Adam learns faster here than the
    published Adamax (experiments/results/earlier/nvae_digits.md).
    """
    steps = 1500
    config = Config(width=8, block_cells=1, optimiser="adam", learning_rate=8e-3, decay_steps=steps)
    return Settings("digits", config, Plan(steps=steps, log_every=100, eval_every=500), BINARY)


def digits_long() -> Settings:
    """As digits, 1.5 times as wide and with more steps; about ten minutes.

    jaxae --model nvae --recipe digits-long. The setting is ours; for a comparison with mixtures of
    Bernoullis see experiments/results/earlier/nvae_digits.md.
    """
    short, steps = digits(), 10_000
    config = dataclasses.replace(short.model, width=12, decay_steps=steps)
    return dataclasses.replace(
        short, model=config, plan=dataclasses.replace(short.plan, steps=steps)
    )


def mnist() -> Settings:
    """Two scales of two groups on MNIST, sides padded to 32; within ten minutes.

    jaxae --model nvae --recipe mnist. The setting is ours, with about a hundredth of the
    computation of the published one. Expect what experiments/results/earlier/nvae_mnist.md shows.
    """
    steps = 2000
    config = Config(groups=(2, 2), latent=8, width=8, blocks=2, block_cells=1, decay_steps=steps)
    plan = Plan(steps=steps, batch_size=32, log_every=100, eval_every=1000, save_every=1000)
    return Settings(
        "mnist", config, plan, BINARY, Report(test_examples=2000, iwae_samples=20, images=500)
    )


def paper_mnist() -> Settings:
    """MNIST as in the official README: 15 groups, 400 epochs, batches of 400; not run by us.

    jaxae --model nvae --recipe paper-mnist; for a GPU or TPU, 60,000 steps. It reports 78.01 nats
    (as quoted by others) for the importance-weighted bound with 1,000 samples: jaxae evaluate
    --iwae-samples 1000. There are two cells per group as in the README; the paper's table
    (recalled) has one. Another implementation reports 80.33 +- 2.01 with one cell.
    """
    steps = 400 * 150
    config = Config(
        groups=(5, 10), latent=20, width=32, blocks=2, block_cells=3, cells=2, decay_steps=steps,
        rate_warmup=5 * 150,
    )  # fmt: skip
    plan = Plan(steps=steps, batch_size=400, log_every=150, eval_every=6000, save_every=3000)
    return Settings("mnist", config, plan, BINARY)


def paper_cifar10() -> Settings:
    """CIFAR-10 as in the official README: 30 groups on one scale, a flow; not run by us.

    jaxae --model nvae --recipe paper-cifar10; for eight GPUs or TPUs. It reports 2.91 bits/dim. The
    official training flips images at random, which is not done here.
    """
    steps = 400 * (50_000 // 256)
    config = Config(
        groups=(30,), latent=20, width=128, blocks=1, block_cells=2, cells=2, flows=1,
        likelihood="logistic_mixture", decay_steps=steps, rate_warmup=5 * (50_000 // 256),
    )  # fmt: skip
    plan = Plan(steps=steps, batch_size=256, log_every=195, eval_every=9750, save_every=1950)
    return Settings("cifar10", config, plan)


def paper_celeba64() -> Settings:
    """CelebA at 64x64 as in the official README: three scales, 35 groups, a flow; not run by us.

    jaxae --model nvae --recipe paper-celeba64 --data folder:DIR --image-size 64 --colour rgb; for
    eight GPUs. It reports 2.03 bits/dim (recalled). The official crop (15, 40, 163, 188) and the
    random flips are not done here: crop the files beforehand.
    """
    steps = 90 * (162_770 // 128)
    config = Config(
        groups=(5, 10, 20), latent=20, width=64, blocks=1, block_cells=2, cells=2, flows=1,
        likelihood="logistic_mixture", spectral=1e-1, decay_steps=steps,
        rate_warmup=5 * (162_770 // 128),
    )  # fmt: skip
    plan = Plan(steps=steps, batch_size=128, log_every=200, eval_every=12_700, save_every=2540)
    return Settings("folder:celeba", config, plan, Options(image_size=64, colour="rgb"))


RECIPES = {
    "digits": digits,
    "digits-long": digits_long,
    "mnist": mnist,
    "paper-mnist": paper_mnist,
    "paper-cifar10": paper_cifar10,
    "paper-celeba64": paper_celeba64,
}
