"""Do the codes fill the prior? AAE and VAE, for a Gaussian and for a swiss roll."""

import jax
import numpy as np
from claims_common import KEY, Claim, Measure, at_random, gather, learned, opened, rows_of

from jaxae import evaluation
from jaxae.models import aae, vae

LATENT, STEPS, POINTS = 2, 6000, 2000
RATES = {"learning_rate": 5e-4, "critic_rate": 1e-3, "fool_rate": 1e-3}


def test(data, seeds, picture, data_dir):
    source, found, clouds = opened(data, data_dir), {}, {}

    def compare(name, model, states, codes_of):
        def measure(state):
            of_codes, of_prior, of_test = jax.random.split(jax.random.key(KEY), 3)
            codes = at_random(codes_of(state, of_codes), POINTS)
            prior = np.asarray(model.prior(of_prior, len(codes)))
            clouds.setdefault(name, (codes, prior))
            return evaluation.two_sample_test(codes, prior, of_test)

        found[name] = gather(states, measure)

    for name, fields in {
        "AAE, Gaussian": {"prior": "gaussian", "critic_noise": 0.5},
        "AAE, swiss roll": {"prior": "swiss_roll", "critic_noise": 0.3},
    }.items():
        model, states = learned(aae, source, seeds, STEPS, latent=LATENT, decay_steps=STEPS,
                                **RATES | fields)  # fmt: skip
        compare(name, model, states, lambda state, key, model=model: evaluation.encode_split(
            model, state, source.test, 500, key)[0])  # fmt: skip
    # What a VAE's prior can do for the roll: the Gaussian of its mean and covariance.
    roll = clouds["AAE, swiss roll"][1]
    compare("the Gaussian nearest to it, swiss roll", model, states, lambda state, key:
            np.asarray(jax.random.multivariate_normal(key, roll.mean(0), np.cov(roll.T),
                                                      (POINTS,))))  # fmt: skip
    model, states = learned(vae, source, seeds, STEPS, latent=LATENT, decay_steps=STEPS)
    compare("VAE, Gaussian", model, states, lambda state, key: evaluation.over_split(
        lambda state, batch, rng: model.posterior(state, batch["image"], rng), state, source.test,
        500, key))  # fmt: skip

    drawn = [(name, clouds[name]) for name in ("VAE, Gaussian", "AAE, Gaussian", "AAE, swiss roll")]
    draw_clouds(drawn, picture)
    distance = {name: seen["statistic"] for name, seen in found.items()}
    return (
        [Measure("energy distance to N(0, I), VAE's minus AAE's",
                 distance["VAE, Gaussian"] - distance["AAE, Gaussian"]),
         Measure("energy distance to the swiss roll, its Gaussian's minus AAE's",
                 distance["the Gaussian nearest to it, swiss roll"] - distance["AAE, swiss roll"])],
        rows_of(["energy distance to the prior", "p of one distribution"], {
            name: [seen["statistic"], seen["p_value"]] for name, seen in found.items()}),
    )  # fmt: skip


def draw_clouds(clouds, path):
    from jaxae.evaluation.canvas import PALETTE, heading, write_png

    def compose(figure):
        for i, (name, (codes, prior)) in enumerate(clouds):
            axes = figure.add_axes((0.05 + 0.32 * i, 0.1, 0.27, 0.66))
            axes.scatter(*prior.T, s=2, color="#cccccc", linewidths=0)
            axes.scatter(*codes.T, s=2, color=PALETTE[0], linewidths=0)
            axes.set_title(name)
        heading(figure, "Codes and priors", "grey: the prior; dark: codes of test images")

    write_png(path, (10.5, 4.2), compose)


CLAIM = Claim(
    "An AAE fills its prior where a VAE leaves holes, also a prior that a VAE cannot use",
    "Makhzani et al. 2015, figure 2; the roll is among its priors",
    f"Codes of {POINTS} test images against as many draws of the prior, energy distance and "
    "permutation test; for the VAE samples of the posterior. A VAE's prior is Gaussian: for the "
    "roll the AAE's codes are compared with draws of a Gaussian of its mean and covariance. The "
    "AAE's discriminator sees codes and draws through noise, without which it learns single codes "
    f"by heart. Filling is relative: at {POINTS} points a small p still tells codes from draws.",
    test,
    published="pictures only",
)
