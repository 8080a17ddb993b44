"""Recipes of ALI and BiGAN. Times are of two CPU cores, compilation and evaluation included."""

from jaxae.data import Options
from jaxae.models.ali import Config
from jaxae.settings import Settings
from jaxae.training import Plan


def digits() -> Settings:
    """BiGAN with its dense networks, four times narrower, on the embedded 8x8 digits; a minute.

    jaxae --model ali. The setting is ours. Expect a reconstruction ratio near
    0.6; --method regressor needs --learning-rate 5e-4 --critic-rate 1e-4
    (experiments/results/earlier/ali_images-digits.md).
    """
    steps = 3000
    config = Config(decay_steps=steps)
    return Settings("digits", config, Plan(steps=steps, log_every=100, eval_every=1000))


def digits_100() -> Settings:
    """Semi-supervised BiGAN with 100 labels on the embedded digits; a minute.

    jaxae --model ali --recipe digits-100. The setting is ours. No number is recorded for this
    recipe; experiments/results/earlier/ali_images-labels-seeds.md has those of similar settings.
    """
    steps = 3000
    config = Config(task="semisupervised", decay_steps=steps)
    plan = Plan(steps=steps, log_every=100, eval_every=1000)
    return Settings("digits", config, plan, Options(labels=100, labels_batch=50))


def mnist() -> Settings:
    """BiGAN with its dense networks, half as wide, on MNIST; within ten minutes.

    jaxae --model ali --recipe mnist. The setting is ours; the published one is paper-bigan-mnist.
    --method regressor needs --together --learning-rate 1e-3 --critic-rate 2e-3, otherwise its GAN
    generates no digits (experiments/results/earlier/ali_images-mnist.md).
    """
    steps = 12_000
    config = Config(latent=50, widths=(512, 512), decay_steps=steps)
    plan = Plan(steps=steps, batch_size=128, log_every=200, eval_every=3000, save_every=3000)
    return Settings("mnist", config, plan)


def _plane(**fields) -> Config:
    """ALI's networks of the 2-D mixture."""
    return Config(
        latent=2, prior="gaussian", posterior="universal", network="plane", output="linear",
        **fields,
    )  # fmt: skip


def grid25() -> Settings:
    """ALI on 25 Gaussians in the plane with narrower networks; within ten minutes.

    jaxae --model ali --recipe grid25. Networks and schedule are ours;
    experiments/studies/ali.py counts modes (experiments/results/earlier/ali_grid25.md).
    """
    steps = 6000
    # At equal rates the generator changes too fast for the discriminator to learn the modes.
    config = _plane(
        widths=(128, 128), gen_widths=(128,) * 3, critic_widths=(64,) * 3, learning_rate=3e-4,
        critic_rate=3e-3, decay_steps=steps,
    )  # fmt: skip
    plan = Plan(steps=steps, batch_size=200, log_every=200, eval_every=2000, save_every=2000)
    return Settings("grid25", config, plan, Options(standardise=True))


def paper_grid25() -> Settings:
    """ALI's networks and schedule for 25 Gaussians, 200,000 steps; for a GPU, not run by us.

    jaxae --model ali --recipe paper-grid25. From the official code; its momentum is written as 0.8,
    but the library of that time expected one minus the decay, so it is 0.2 here. The paper uses a
    random search over learning rate, momentum and initial deviation, and reports 13.4 modes +- 5.8
    (8 to 25 in ten runs). Departure: points are standardised; in the official code they have a
    deviation of 2.83.
    """
    config = _plane(
        widths=(400, 400), gen_widths=(400,) * 4, critic_widths=(200,) * 3, learning_rate=1e-4,
        critic_rate=1e-4, beta1=0.2,
    )  # fmt: skip
    plan = Plan(steps=200_000, batch_size=100, log_every=1000, eval_every=20_000,
                save_every=20_000)  # fmt: skip
    return Settings("grid25", config, plan, Options(standardise=True))


def paper_bigan_mnist() -> Settings:
    """BiGAN on MNIST as published: 400 epochs, the rate decays in the second half; not run by us.

    jaxae --model ali --recipe paper-bigan-mnist; for a GPU or TPU, 187,200 steps. Networks and
    schedule are those of the official code. It prints, for the 50-dimensional code and a validation
    set of its own, a reconstruction ratio of 0.62 and a nearest-neighbour accuracy of 92.10 %; the
    published 97.39 % is of the 1024 hidden units. Departure: batch statistics at test time are
    running averages; in the official code they are the mean over 1,000 batches after training.
    """
    steps = 400 * (60_000 // 128)
    config = Config(
        latent=50, widths=(1024, 1024), zero_start=True, halved=True, optimiser="bigan",
        decay_steps=steps,
    )  # fmt: skip
    plan = Plan(steps=steps, batch_size=128, log_every=468, eval_every=11_700, save_every=11_700)
    return Settings("mnist", config, plan)


RECIPES = {
    "digits": digits,
    "digits-100": digits_100,
    "mnist": mnist,
    "grid25": grid25,
    "paper-grid25": paper_grid25,
    "paper-bigan-mnist": paper_bigan_mnist,
}
