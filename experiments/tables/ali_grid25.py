"""ALI on 25 Gaussians in the plane, beside a GAN and the encoders that a GAN can be given.

10,000 samples: a mode counts where it is the most responsible one for some sample (the paper's
rule), and strictly where at least 20 samples lie within three deviations of it. Share: samples
within 0.15 of a mode. Distances are in the paper's plane, whose modes are 2 apart.

    python experiments/tables/ali_grid25.py
"""

import jax
import jax.numpy as jnp
import numpy as np
from common import KEY, gather, make, parser, publish, shown, table, train

from jaxae import evaluation
from jaxae.data import Options, load
from jaxae.data.grid25 import CENTRES, DEVIATION, PLANE
from jaxae.models import ali
from jaxae.models.ali import POST_HOC
from jaxae.recipes import ali as recipes

SAMPLES = 10_000
METHODS = {
    "ALI": "ali",
    "GAN": "gan",
    "GAN, latent regressor beside it": "regressor",
    "GAN, latent regressor post hoc": "post_hoc_regressor",
    "GAN, inference learned post hoc": "post_hoc_ali",
}


def measured(model, states, data) -> dict[str, np.ndarray]:
    """What the table shows of each state."""
    raw = load("grid25").train.arrays["image"].astype(np.float64)
    plane = lambda x: PLANE.to_points(x, raw.mean(), raw.std())
    images = next(data.test.examples(data.test.size))[0]["image"]
    sample, decode = jax.jit(model.sample, static_argnums=2), jax.jit(model.decode)
    encode = jax.jit(model.encode) if model.encode else None

    def of(state):
        keys = jax.random.split(jax.random.key(KEY), 3)
        samples = plane(sample(state, keys[0], SAMPLES))
        found = evaluation.mode_coverage(samples, CENTRES, DEVIATION)
        if encode is None:
            return found
        z = encode(state, images, keys[1])
        apart = np.linalg.norm(plane(decode(state, z, keys[2])) - plane(images), axis=1)
        covariance = np.cov(np.asarray(z, np.float64).T)
        return found | {
            "median": float(np.median(apart)),
            "error": float(apart.mean()),
            "mean": float(jnp.abs(jnp.mean(z, axis=0)).max()),
            "low": float(np.sqrt(np.diag(covariance)).min()),
            "high": float(np.sqrt(np.diag(covariance)).max()),
            "correlation": float(covariance[0, 1] / np.sqrt(np.prod(np.diag(covariance)))),
        }

    return gather(states, of)


def methods(seeds: int, steps: int) -> str:
    """A row per method, and the verdicts on the best seed."""
    data, rows, seen = load("grid25", Options(standardise=True)), [], {}
    settings = recipes.grid25()
    for name, method in METHODS.items():
        fields = vars(settings.model) | {"method": method, "decay_steps": steps}
        length = steps
        if method in POST_HOC:
            fields, length = fields | {"gan_steps": steps}, 2 * steps
        model = make(ali, data, **fields)
        states, _ = train(
            model, data, seeds, length, batch_size=settings.plan.batch_size, log_every=200,
            eval_every=0, save_every=10**6,
        )  # fmt: skip
        seen[name] = found = measured(model, states, data)
        cell = lambda key, digits=2, found=found: shown(found[key], digits) if key in found else "–"
        rows.append((
            name, cell("modes", 1), cell("strict", 1), shown(100 * found["share"], 1),
            cell("median"), cell("error"), cell("mean"),
            f"{cell('low')} to {cell('high')}" if "low" in found else "–", cell("correlation"),
        ))  # fmt: skip
    head = ("", "modes", "strictly", "share, %", "median \\|x - G(E(x))\\|", "mean",
            "largest \\|mean z\\|", "deviations of z", "correlation of z")  # fmt: skip
    title = f"1. {steps} steps of {settings.plan.batch_size}, mean ± deviation of {seeds} seeds"
    text = table(title, head, rows) + (
        "\nThe post-hoc methods have as many steps again for the encoder. GAN, and the same GAN "
        "with a regressor beside it, differ only in the seeds' initial parameters.\n\n"
    )
    return text + verdicts(seen["ALI"], seen["GAN"])


def verdicts(ours: dict[str, np.ndarray], gan: dict[str, np.ndarray]) -> str:
    """What was proposed for a run of this size, against the best seed."""
    best = int(np.lexsort((ours["share"], ours["modes"]))[-1])
    word = lambda good: "pass" if good else "**off**"
    low, high = ours["low"][best], ours["high"][best]
    rows = [
        ("modes", f"{ours['modes'][best]}", "≥ 20", word(ours["modes"][best] >= 20)),
        ("share within 0.15", f"{100 * ours['share'][best]:.1f} %", "≥ 60 %",
         word(ours["share"][best] >= 0.6)),
        ("median reconstruction error", f"{ours['median'][best]:.2f}", "< 1",
         word(ours["median"][best] < 1)),
        ("deviations of z", f"{low:.2f} to {high:.2f}", "0.7 to 1.3",
         word(low >= 0.7 and high <= 1.3)),
        ("mean modes, ALI against GAN", f"{ours['modes'].mean():.1f}, {gan['modes'].mean():.1f}",
         "ALI ≥ GAN", word(ours["modes"].mean() >= gan["modes"].mean())),
    ]  # fmt: skip
    text = table("2. The best seed of ALI against what was proposed", ("", "ours", "", ""), rows)
    return text + (
        "\nThe thresholds are proposals of ours, not published. Published, for ten runs each of "
        "200,000 steps with random rates: ALI 13.4 ± 5.8 modes, GAN 10.4 ± 9.2, by the first rule. "
        "That rule asks for one sample of 10,000, which blurred samples give too.\n"
    )


if __name__ == "__main__":
    args = parser(__doc__, ["methods"], seeds=3, steps=recipes.grid25().plan.steps).parse_args()
    publish("ali_grid25", "25 Gaussians in the plane",
            {"methods": lambda: methods(args.seeds, args.steps)}, whole=True)  # fmt: skip
