"""Recipes of the AE. Times are of two CPU cores, compilation and evaluation included."""

from jaxae.models.ae import Config
from jaxae.settings import Settings
from jaxae.training import Plan

MNIST_EPOCH, PAPER_EPOCH = 60_000 // 128, 60_000 // 100


def digits() -> Settings:
    """64-256-128-64-8 with rectifiers on scikit-learn's 8x8 digits; under a minute.

    jaxae --model ae. The setting is ours. No number is recorded for this recipe;
    experiments/results/earlier/ae_mnist.md has those of similar settings.
    """
    steps = 4000
    plan = Plan(steps=steps, log_every=100, eval_every=1000, save_every=2000)
    return Settings("digits", Config(decay_steps=steps), plan)


def digits_rbm() -> Settings:
    """The method of 2006 on digits: sigmoid units, RBMs for each layer, then fine-tuning.

    jaxae --model ae --recipe digits-rbm; under a minute. 600 steps (27 epochs) per layer, then
    4,000. The setting is ours. With `--init glorot --pretrain-steps 0` the same network ends with a
    larger error than PCA. No number is recorded for this recipe;
    experiments/results/earlier/ae_mnist.md has those of similar settings.
    """
    per_layer, steps = 600, 4000
    config = Config(
        activation="sigmoid", init="rbm", pretrain_steps=per_layer, rbm_slow_steps=100,
        decay_steps=steps,
    )  # fmt: skip
    plan = Plan(steps=4 * per_layer + steps, log_every=100, eval_every=1600, save_every=3200)
    return Settings("digits", config, plan)


def mnist() -> Settings:
    """784-1000-500-250-30 with rectifiers on MNIST; within ten minutes.

    jaxae --model ae --recipe mnist. Layer sizes as published, units and optimiser ours. The squared
    error of PCA with 30 components is 13.87 per image. No number is recorded for this recipe;
    experiments/results/earlier/ae_mnist.md has those of similar settings.
    """
    steps = 20 * MNIST_EPOCH
    config = Config(latent=30, widths=(1000, 500, 250), decay_steps=steps)
    plan = Plan(steps=steps, batch_size=128, log_every=117, eval_every=5 * MNIST_EPOCH,
                save_every=5 * MNIST_EPOCH)  # fmt: skip
    return Settings("mnist", config, plan)


def _paper(latent: int) -> Settings:
    per_layer, steps = 50 * PAPER_EPOCH, 200 * PAPER_EPOCH
    config = Config(
        latent=latent,
        widths=(1000, 500, 250),
        activation="sigmoid",
        init="rbm",
        pretrain_steps=per_layer,
        rbm_slow_steps=5 * PAPER_EPOCH,
        decay_steps=steps,
    )
    plan = Plan(steps=4 * per_layer + steps, batch_size=100, log_every=PAPER_EPOCH,
                eval_every=10 * PAPER_EPOCH, save_every=10 * PAPER_EPOCH)  # fmt: skip
    return Settings("mnist", config, plan)


def paper() -> Settings:
    """784-1000-500-250-30, sigmoid, RBMs of 50 epochs per layer, 200 epochs of fine-tuning.

    jaxae --model ae --recipe paper; for a GPU or TPU, 240,000 steps. Sizes, units, loss and the
    settings of the RBMs are from the MATLAB release, except for the learning rate of the code
    layer, which is recalled. Published test error 3.00 and PCA 13.87 per image (both recalled;
    13.87 is what we compute). Not run by us. Departures: Adam at 1e-3 with a cosine schedule
    instead of conjugate gradients.
    """
    return _paper(30)


def paper_2d() -> Settings:
    """As paper with two code units, for the published picture of the plane (size recalled).

    jaxae --model ae --recipe paper-2d. Not run by us. For a GPU or TPU.
    """
    return _paper(2)


RECIPES = {
    "digits": digits,
    "digits-rbm": digits_rbm,
    "mnist": mnist,
    "paper": paper,
    "paper-2d": paper_2d,
}
