"""Recipes of the DAE. Times are of two CPU cores, compilation and evaluation included."""

from jaxae.models.dae import Config
from jaxae.settings import Settings
from jaxae.training import Plan

MNIST_EPOCH = 60_000 // 128
PAPER_EPOCH = 50_000 // 20


def _digits(**fields) -> Settings:
    steps = 3000
    config = Config(learning_rate=3e-3, decay_steps=steps, **fields)
    return Settings("digits", config, Plan(steps=steps, log_every=100, eval_every=1000))


def digits() -> Settings:
    """64-256-64-256-64 on scikit-learn's 8x8 digits, a quarter of the pixels masked.

    jaxae --model dae; under a minute. The setting is ours. No number is recorded for this recipe;
    experiments/results/earlier/dae_digits.md has those of similar settings.
    """
    return _digits()


def digits_salt() -> Settings:
    """As digits with a quarter of the pixels black or white.

    jaxae --model dae --recipe digits-salt. Under a minute. No number is recorded for this recipe;
    experiments/results/earlier/dae_digits.md has those of similar settings.
    """
    return _digits(corruption="salt_and_pepper")


def digits_gaussian() -> Settings:
    """As digits with Gaussian noise of deviation 0.3.

    jaxae --model dae --recipe digits-gaussian. Under a minute. No number is recorded for this
    recipe; experiments/results/earlier/dae_digits.md has those of similar settings.
    """
    return _digits(corruption="gaussian", levels=(0.3,))


def digits_inpainting() -> Settings:
    """As digits with a missing block of 4x4 pixels; the network receives a mask of the block.

    jaxae --model dae --recipe digits-inpainting. Under a minute. No number is recorded for this
    recipe; experiments/results/earlier/dae_digits.md has those of similar settings.
    """
    return _digits(corruption="block", levels=(0.5,), kept_weight=0.0)


def digits_stacked() -> Settings:
    """Two sigmoid layers, each trained alone for 1,000 steps, then both together.

    jaxae --model dae --recipe digits-stacked; under a minute. The setting is ours. No number is
    recorded for this recipe; experiments/results/earlier/dae_digits.md has those of similar
    settings.
    """
    per_layer, steps = 1000, 3000
    config = Config(
        latent=128, widths=(256,), activation="sigmoid", code="activation", tied=True,
        init="glorot", levels=(0.25, 0.1), stack_steps=per_layer, decay_steps=steps,
    )  # fmt: skip
    plan = Plan(steps=2 * per_layer + steps, log_every=100, eval_every=1000, save_every=1000)
    return Settings("digits", config, plan)


def _mnist(**fields) -> Settings:
    steps = 20 * MNIST_EPOCH
    config = Config(latent=64, widths=(512,), decay_steps=steps, **fields)
    plan = Plan(steps=steps, batch_size=128, log_every=117, eval_every=5 * MNIST_EPOCH,
                save_every=5 * MNIST_EPOCH)  # fmt: skip
    return Settings("mnist", config, plan)


def mnist() -> Settings:
    """784-512-64-512-784 on MNIST, half of the pixels masked; within ten minutes.

    jaxae --model dae --recipe mnist. The setting is ours. No number is recorded for this recipe.
    """
    return _mnist(levels=(0.5,))


def mnist_inpainting() -> Settings:
    """As mnist with missing free-form strokes; the network receives a mask of the strokes.

    jaxae --model dae --recipe mnist-inpainting. The setting is ours. Within ten minutes. No number
    is recorded for this recipe.
    """
    return _mnist(corruption="strokes", levels=(0.2,), kept_weight=0.0)


def paper_stack() -> Settings:
    """Three layers of 1,000 sigmoid units, tied, masking 0.1, 0.2, 0.3, 15 epochs each.

    jaxae --model dae --recipe paper-stack; for a GPU or TPU, 112,500 steps for the layers. Sizes,
    levels and epochs are those of the authors' tutorial on stacked denoising autoencoders for
    MNIST. Not run by us. Departures: Adam and batches of 20 (the tutorial: plain SGD, batches of
    one); 60,000 training images (the tutorial: 50,000); fine-tuned for denoising for one epoch (the
    tutorial trains a classifier, so its published error of 1.3 % is not comparable: use the linear
    probe on the codes).
    """
    per_layer = 15 * PAPER_EPOCH
    config = Config(
        latent=1000, widths=(1000, 1000), activation="sigmoid", code="activation", tied=True,
        init="glorot", levels=(0.1, 0.2, 0.3), stack_steps=per_layer,
    )  # fmt: skip
    plan = Plan(steps=3 * per_layer + PAPER_EPOCH, batch_size=20, log_every=PAPER_EPOCH,
                eval_every=PAPER_EPOCH, save_every=5 * PAPER_EPOCH)  # fmt: skip
    return Settings("mnist", config, plan)


RECIPES = {
    "digits": digits,
    "digits-salt": digits_salt,
    "digits-gaussian": digits_gaussian,
    "digits-inpainting": digits_inpainting,
    "digits-stacked": digits_stacked,
    "mnist": mnist,
    "mnist-inpainting": mnist_inpainting,
    "paper-stack": paper_stack,
}
