"""Recipes of the VQ-VAE for signals."""

from jaxae.models.vqvae_audio import Config
from jaxae.settings import Report, Settings
from jaxae.training import Plan


def speech() -> Settings:
    """16 codes of 32 for 1,024 mu-law samples of generated speech-like sounds by four speakers.

    jaxae --model vqvae_audio; minutes on two CPU cores. The setting is ours.
    Expect what experiments/results/earlier/vqvae_speech.md shows.
    """
    first, second = 1500, 1000
    config = Config(
        codes=32,
        code_width=16,
        restart=0.1,
        learning_rate=4e-3,
        stage_one=first,
        decay_steps=first,
        prior_decay_steps=second,
    )
    plan = Plan(
        steps=first + second, batch_size=16, log_every=50, eval_every=500, eval_batch=100,
        save_every=500,
    )  # fmt: skip
    return Settings(
        "speech", config, plan, report=Report(iwae_samples=1, report_batch=100, images=200)
    )


RECIPES = {"speech": speech}
