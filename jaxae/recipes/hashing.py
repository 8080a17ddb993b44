"""Recipes of semantic hashing. Times are of two CPU cores, compilation and evaluation included."""

from jaxae.models.hashing import Config
from jaxae.settings import Settings
from jaxae.training import Plan

MNIST_EPOCH, NEWS_EPOCH = 60_000 // 128, 11_314 // 100


def digits() -> Settings:
    """64-256-128-16 bits on scikit-learn's 8x8 digits, noise of deviation 4; under a minute.

    jaxae --model hashing. The setting is ours; the deviation of the noise is that of the paper
    (recalled). No number is recorded for this recipe.
    """
    steps = 3000
    return Settings("digits", Config(decay_steps=steps), Plan(steps=steps, log_every=100))


def topics() -> Settings:
    """400-128-16 bits on generated documents, layers pretrained as RBMs; under a minute.

    jaxae --model hashing --recipe topics. The setting is ours. Without the RBMs (--init he
    --pretrain-steps 0 --activation relu --count-input log), with noise of deviation 4 the code
    carries no information from the start. No number is recorded for this recipe.
    """
    per_layer, steps = 800, 3000
    config = Config(
        widths=(128,), likelihood="counts", count_input="counts", activation="sigmoid",
        init="rbm", pretrain_steps=per_layer, decay_steps=steps,
    )  # fmt: skip
    plan = Plan(steps=2 * per_layer + steps, log_every=100, eval_every=1000, save_every=1000)
    return Settings("topics", config, plan)


def mnist() -> Settings:
    """784-500-500-32 bits on MNIST, noise of deviation 4; within ten minutes.

    jaxae --model hashing --recipe mnist. The setting is ours. Expect what
    experiments/results/earlier/hashing_mnist.md shows after fewer steps.
    """
    steps = 10 * MNIST_EPOCH
    config = Config(bits=32, widths=(500, 500), decay_steps=steps)
    plan = Plan(steps=steps, batch_size=128, log_every=117, eval_every=5 * MNIST_EPOCH,
                save_every=5 * MNIST_EPOCH)  # fmt: skip
    return Settings("mnist", config, plan)


def _paper(bits: int) -> Settings:
    per_layer, steps = 50 * NEWS_EPOCH, 50 * NEWS_EPOCH
    config = Config(
        bits=bits, widths=(500, 500), likelihood="counts", count_input="counts", per_word=True,
        activation="sigmoid", init="rbm", pretrain_steps=per_layer, rbm_slow_steps=5 * NEWS_EPOCH,
        threshold=0.1, decay_steps=steps,
    )  # fmt: skip
    plan = Plan(steps=3 * per_layer + steps, batch_size=100, log_every=NEWS_EPOCH,
                eval_every=10 * NEWS_EPOCH, save_every=25 * NEWS_EPOCH)  # fmt: skip
    return Settings("newsgroups", config, plan)


def paper_128() -> Settings:
    """2000-500-500-128 bits on 20 Newsgroups, RBMs of 50 epochs per layer, then 50 epochs.

    jaxae --model hashing --recipe paper-128; downloads the documents (14 MB). Sizes, the noise's
    variance of 16, the threshold of 0.1, counts divided by the length and the number of pretraining
    epochs are recalled; the epochs of fine-tuning, Adam and the learning rate of the RBM on counts
    are ours. The paper's results are figures with curves; no number of them is recalled. Not run by
    us. For a GPU or TPU.
    """
    return _paper(128)


def paper_20() -> Settings:
    """As paper-128 with 20 bits; the codes serve as memory addresses.

    jaxae --model hashing --recipe paper-20. Not run by us. For a GPU or TPU. No number is recorded
    for this recipe.
    """
    return _paper(20)


RECIPES = {
    "digits": digits,
    "topics": topics,
    "mnist": mnist,
    "paper-128": paper_128,
    "paper-20": paper_20,
}
