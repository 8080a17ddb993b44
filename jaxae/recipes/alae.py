"""Recipes of ALAE and StyleALAE. Times are of two CPU cores, compilation and evaluation included.

The published settings are those of podgorskiy/ALAE's configuration files at its newest commit or,
where the recipe says so, at older ones. The text of the paper was not available; numbers from it
are recalled where marked so.
"""

from jaxae.data import Options
from jaxae.models.alae import Config
from jaxae.settings import Settings
from jaxae.training import Plan

# Noise between the grey levels: otherwise E could tell discrete real pixels from generated ones.
GREY = Options(dequantise=True)


def digits() -> Settings:
    """Dense ALAE on the embedded 8x8 digits; a minute.

    jaxae --model alae. The setting is ours; the published penalty, ten times as strong, prevents
    the discriminator from learning anything in so few steps. Expect samples of all ten digits, and
    reconstructions that show the same digit with different pixels.
    """
    steps = 5000
    config = Config(latent=32, r1=1.0, decay_steps=steps)
    return Settings("digits", config, Plan(steps=steps, log_every=100, eval_every=1000), GREY)


def mnist() -> Settings:
    """Dense ALAE on permutation-invariant MNIST, with half the published width; within ten minutes.

    jaxae --model alae --recipe mnist. The setting is ours; the published one is paper-mnist. No
    number is recorded for this recipe; experiments/results/earlier/alae_mnist-mnist.md has those of
    similar settings.
    """
    steps = 6000
    config = Config(latent=50, widths=(512, 512), r1=1.0, decay_steps=steps)
    plan = Plan(steps=steps, batch_size=128, log_every=200, eval_every=2000, save_every=2000)
    return Settings("mnist", config, plan, GREY)


def style() -> Settings:
    """StyleALAE on MNIST padded to 32x32, with few channels; about ten minutes.

    jaxae --model alae --recipe style. For your own pictures add --data folder:<path> --image-size
    32. Penalty and style mixing are as published; the published setting has 64 to 256 channels and
    batches of 64 to 128, for 60 epochs. No number is recorded for this recipe;
    experiments/results/earlier/alae_style.md has those of similar settings.
    """
    steps = 4000
    config = Config(
        network="style", latent=32, conv_width=4, conv_most=32, map_layers=4, centred=True,
        truncation=0.7, decay_steps=steps,
    )  # fmt: skip
    plan = Plan(steps=steps, batch_size=32, log_every=50, eval_every=1000, save_every=1000)
    return Settings("mnist32", config, plan)


def paper_mnist() -> Settings:
    """Permutation-invariant MNIST as published, 600 epochs; for a GPU or TPU, not run by us.

    jaxae --model alae --recipe paper-mnist. Networks and schedule are those of the commits of
    November 2019, the last whose dense configuration runs (rectifiers of slope 0.01 in G and at E's
    end, pixels in [0, 1]); it is not known which run the published table is of. Recalled: a linear
    SVM on w has 94.2 %, on the last hidden layer 98.6 %; the nearest neighbour 94.6 and 97.5 %.
    """
    steps = 600 * 60_000 // 128
    config = Config(latent=50, widths=(1024, 1024), slope=0.01, output="linear")
    plan = Plan(steps=steps, batch_size=128, log_every=500, eval_every=10_000, save_every=10_000)
    return Settings("mnist", config, plan)


def _faces(data: str, side: int, conv_width: int, steps: int, batch_size: int, rate: float):
    """StyleALAE as published, but for growing."""
    config = Config(
        network="style", latent=512, map_layers=8, conv_width=conv_width, conv_most=512,
        last_gain=0.03, output="linear", centred=True, truncation=0.7, learning_rate=rate,
        critic_rate=rate, reciprocity_rate=rate,
    )  # fmt: skip
    plan = Plan(steps=steps, batch_size=batch_size, log_every=500, eval_every=25_000,
                save_every=10_000)  # fmt: skip
    return Settings(data, config, plan, Options(image_size=side))


def paper_celebahq256() -> Settings:
    """StyleALAE on CelebA-HQ 256; for GPUs or TPUs, not run by us.

    jaxae --model alae --recipe paper-celebahq256 --data folder:<path>, with train/ (29,000 images)
    and test/ (1,000). Sizes and rates as published. Departures: no progressive growing, so one
    batch size (the last level's) and our own number of steps (280 epochs); no horizontal flips.
    Published: FID 19.21 and a path length of 33.29.
    """
    return _faces("folder:celebahq256", 256, 64, 280 * 29_000 // 32, 32, 0.0015)


def paper_ffhq() -> Settings:
    """StyleALAE on FFHQ 1024; for GPUs or TPUs, not run by us.

    jaxae --model alae --recipe paper-ffhq --data folder:<path>, with train/ (60,000 images) and
    test/ (10,000). As paper-celebahq256, with the learning rate of the last level and 112 epochs
    (those of the published configuration file). Published: FID 13.09 and a path length (end) of
    103.4.
    """
    return _faces("folder:ffhq", 1024, 16, 112 * 60_000 // 32, 32, 0.003)


RECIPES = {
    "digits": digits,
    "mnist": mnist,
    "style": style,
    "paper-mnist": paper_mnist,
    "paper-celebahq256": paper_celebahq256,
    "paper-ffhq": paper_ffhq,
}
