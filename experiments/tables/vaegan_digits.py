"""VAE/GAN on digits: small training, attribute arithmetic, and the comparison with the VAE.

The thresholds of sections 2 and 3 are ours: no number on this data is published. In sections 1 and
4 all rows share data, encoder, decoder, optimiser and steps; a classifier trained on the digits
gives the features of the Frechet distances and judges pictures. Some stand beside the table.

    python experiments/tables/vaegan_digits.py
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
from common import BATCH, KEY, RESULTS, holds, make, on_test, parser, publish, shown, table, train

from jaxae import evaluation
from jaxae.data import Data, Options, load
from jaxae.evaluation.attributes import attribute_vector, draw_edits, edit_images
from jaxae.models import vaegan
from jaxae.recipes import RECIPES
from jaxae.training import Model, State

OURS, BOTH = "vaegan", "vaegan, x~ and x_p as fakes"
ROWS = {  # fields beside those of the preset
    "vae, σ = 0.1": {"variant": "vae", "scale": 0.1},
    "vae, σ = 0.2": {"variant": "vae", "scale": 0.2},
    "vae, σ = 0.3": {"variant": "vae", "scale": 0.3},
    "vae_dis_l": {"variant": "vae_dis_l"},
    "gan": {"variant": "gan"},
    OURS: {},
    BOTH: {"fakes": "both"},
}
VAES = [name for name in ROWS if name.startswith("vae,")]
DRAWN = {VAES[1]: "vae", "vae_dis_l": "vae_dis_l", "gan": "gan", OURS: "vaegan"}


@functools.cache
def data() -> Data:
    """Digits with the noise of dequantisation: a discriminator must not see 17 grey levels."""
    return load("digits", Options(dequantise=True))


@functools.cache
def classifier() -> evaluation.Classifier:
    return evaluation.train_classifier(data())


def images(split) -> np.ndarray:
    return evaluation.images_of(split, BATCH)


@functools.cache
def trained(row: str, seeds: int, steps: int, until: int, told: bool = False):
    """The model of a row, and its states after `until` of `steps` steps."""
    preset = vars(RECIPES["vaegan"]["digits"]().model)
    fields = {"decay_steps": steps, "conditional": told} | ROWS[row]
    model = make(vaegan, data(), **preset | fields)
    print(f"{row}:", file=sys.stderr)
    states, _ = train(model, data(), seeds, until, log_every=50)
    return model, tuple(states)


def each(states, measure) -> np.ndarray:
    return np.array([measure(state) for state in states])


def codes_of(model: Model, state: State):
    """Training codes and labels, test codes and labels."""
    found = []
    for split in (data().train, data().test):
        found += evaluation.encode_split(model, state, split, BATCH, jax.random.key(KEY))
    return found


def decoded(model: Model, state: State, codes: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(model.decode)(state, jnp.asarray(codes), jax.random.key(KEY)))


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Frechet distance of the classifier's features."""
    features = classifier().features
    return evaluation.frechet_distance(features(one), features(other))


def comparison(seeds: int, steps: int) -> str:
    """Samples and reconstructions of all variants."""
    real, unseen = images(data().train), images(data().test)
    labels = data().test.labels
    baseline = np.mean(np.square(unseen - np.asarray(data().spec.mean)[None]))
    rows, samples, back, rates, links = [], {}, {}, {}, []
    for row in ROWS:
        model, states = trained(row, seeds, steps, steps)
        draw = jax.jit(model.sample, static_argnums=2)
        samples[row] = each(
            states, lambda s, draw=draw: distance(draw(s, jax.random.key(KEY), len(real)), real)
        )
        if row in DRAWN:
            links += drawn(model, states[0], unseen[:40], DRAWN[row])
        if model.encode is None:
            rows.append((row, shown(samples[row]), "", "", "", "", ""))
            continue
        recon = [decoded(model, s, codes_of(model, s)[2]) for s in states]
        back[row] = each(recon, lambda x: distance(x, unseen))
        error = each(recon, lambda x: np.mean(np.square(x - unseen)) / baseline)
        kept = each(recon, lambda x: np.mean(classifier().logits(x).argmax(1) == labels))
        near = each(states, lambda s, m=model: evaluation.knn_probe(*codes_of(m, s), k=1))
        rate = on_test(model, states, data())["rate"]
        rates[row] = rate.mean()
        rows.append((row, shown(samples[row]), shown(back[row]), shown(error, 3), shown(rate, 1),
                     shown(kept, 3), shown(near, 3)))  # fmt: skip
    few = len(unseen)
    reference = distance(real[:few], unseen)
    rows.append((f"{few} training images", f"{distance(real[few:2 * few], real[:few]):.2f}",
                 f"{reference:.2f}", "", "", f"{classifier().test_accuracy:.3f}", ""))  # fmt: skip
    head = ("row", "FD of samples", "FD of reconstructions", "pixel error / mean image's",
            "KL, nats", "reconstructions keep their class", "1-NN on codes")  # fmt: skip
    best = min(VAES, key=lambda row: samples[row].mean())
    alike = min(VAES, key=lambda row: abs(rates[row] - rates[BOTH]))
    musts = [
        holds(f"FD of samples: {OURS} ≤ the best VAE's ({best}), every seed",
              samples[OURS].max(), samples[best].min()),
        holds(f"FD of samples: {OURS} ≤ vae_dis_l, in the mean", samples[OURS].mean(),
              samples["vae_dis_l"].mean()),
        holds("FD of samples: vae_dis_l ≤ that VAE's, in the mean", samples["vae_dis_l"].mean(),
              samples[best].mean()),
        *(holds(f"FD of reconstructions: {ours} ≤ that of {theirs}", back[ours].mean(),
                back[theirs].mean()) for theirs in (best, alike) for ours in (OURS, BOTH)),
    ]  # fmt: skip
    title = f"1. The same encoder and decoder, {steps} steps, mean ± deviation of {seeds} seeds"
    note = f"""
FD: Fréchet distance of a classifier's features, of {len(real)} samples from the training images and
of the test images' reconstructions from them. The last row is what sampling error alone gives,
two sets of {few} at a time. {alike} spends about as many nats on its code as the VAE/GANs do.
"""
    hopes = table("1. What was hoped for", ("", "", ""), musts)
    return "\n".join([table(title, head, rows) + note, hopes, *links])


def drawn(model: Model, state: State, unseen: np.ndarray, name: str) -> list[str]:
    """Samples, and reconstructions where there is an encoder; links to results/vaegan_digits_*."""
    RESULTS.mkdir(exist_ok=True)
    files = {kind: f"vaegan_digits_{name}-{kind}.png" for kind in ("samples", "reconstructions")}
    evaluation.draw_samples(model, state, RESULTS / files["samples"], jax.random.key(KEY))
    if model.encode is None:
        del files["reconstructions"]
    else:
        file = RESULTS / files["reconstructions"]
        evaluation.draw_reconstructions(model, state, unseen, file, jax.random.key(KEY))
    return [f"![{name}, {kind}]({file})\n" for kind, file in files.items()]


def small(seeds: int, steps: int) -> str:
    """What a small training must reach."""
    model, states = trained(OURS, seeds, steps, steps)
    _, early = trained(OURS, seeds, steps, 100)
    real, unseen = images(data().train), images(data().test)
    config = vaegan.Config(**vars(RECIPES["vaegan"]["digits"]().model))
    networks = vaegan.model.build_networks(config, data().spec)

    def spread(state):
        look = lambda x: networks(state.params, state.extra["stats"], "dis", x, None)
        features = np.asarray(look(jnp.asarray(unseen))[1][config.measured_in - 1])
        return np.mean(np.var(features, axis=0))

    seen = on_test(model, states, data())
    baseline = 0.5 * np.sum(np.mean(np.square(unseen - np.asarray(data().spec.mean)[None]), axis=0))
    share = np.max(seen["loss"]) / baseline
    variance = np.min(each(states, spread) / each(early, spread))
    near = np.min(each(states, lambda s: evaluation.knn_probe(*codes_of(model, s), k=1)))
    flat = lambda x: x.reshape(len(x), -1)
    raw = evaluation.knn_probe(
        flat(real), data().train.labels, flat(unseen), data().test.labels, k=1
    )
    rows = [
        holds("squared error / the mean image's ≤ 0.6", share, 0.6, 3),
        holds("2 nats ≤ KL", 2, seen["rate"].min()),
        holds("KL ≤ 40 nats", seen["rate"].max(), 40),
        holds("10% ≤ variance of Dis_l over images / after 100 steps", 0.1, variance),
        holds(f"80% ≤ 1-NN on codes (on pixels {raw:.3f})", 0.8, near, 3),
    ]
    return table(f"2. Small training, the worst of {seeds} seeds", ("", "", ""), rows)


def attributes(seeds: int, steps: int) -> str:
    """Adding the difference of two digits' mean codes turns the one into the other."""
    model, states = trained(OURS, seeds, steps, steps)
    unseen, labels = images(data().test), data().test.labels
    targets = (labels[:, None] + np.arange(1, 10)[None]) % 10  # all other digits, [N, 9]

    def reached(state, strength):
        codes, of, _, _ = codes_of(model, state)
        means = np.stack([codes[of == k].mean(0) for k in range(10)])
        for a, b in ((3, 8), (8, 3)):
            np.testing.assert_allclose(
                attribute_vector(codes, of, b, against=a), means[b] - means[a], atol=1e-5
            )
        hits = []
        for target in targets.T:
            shift = means[target] - means[labels]
            made = edit_images(model, state, unseen, shift, jax.random.key(KEY), strength)
            hits.append(np.mean(classifier().logits(made).argmax(1) == target))
        return np.mean(hits)

    found = {strength: each(states, lambda s, k=strength: reached(s, k)) for strength in (0.0, 1.0)}
    rows = [
        ("no edit", shown(found[0.0], 3), ""),
        holds("60% ≤ edits that the classifier takes for their target, worst seed", 0.6,
              found[1.0].min(), 3),
        ("the same, all seeds", shown(found[1.0], 3), ""),
    ]  # fmt: skip
    codes, of, _, _ = codes_of(model, states[0])
    vectors = {f"+ {k}": attribute_vector(codes, of, k) for k in range(10)}
    RESULTS.mkdir(exist_ok=True)
    file = "vaegan_digits_edits.png"
    draw_edits(model, states[0], unseen[:8], vectors, RESULTS / file, jax.random.key(KEY))
    title = "3. Attribute vectors: test images, each towards the nine other digits"
    return table(title, ("", "", ""), rows) + f"\n![edits]({file})\n"


def conditional(seeds: int, steps: int) -> str:
    """Samples of networks that are told the label: does the classifier see it in them?"""
    real, rows, kept = images(data().train), [], {}
    for row in (*VAES[1:2], "gan", OURS):
        model, states = trained(row, seeds, steps, steps, told=True)
        codes = np.asarray(model.prior(jax.random.key(KEY), len(real)))
        made = [decoded(model, state, codes) for state in states]
        wanted = codes[:, -10:].argmax(1)
        kept[row] = each(made, lambda x, y=wanted: np.mean(classifier().logits(x).argmax(1) == y))
        rows.append((row, shown(kept[row], 3), shown(each(made, lambda x: distance(x, real)))))
    rows.append(("test images", f"{classifier().test_accuracy:.3f}", ""))
    musts = [
        holds(f"{OURS} at least as often as the VAE, in the mean", kept[VAES[1]].mean(),
              kept[OURS].mean(), 3),
        holds("the VAE at least as often as the GAN, in the mean", kept["gan"].mean(),
              kept[VAES[1]].mean(), 3),
    ]  # fmt: skip
    head = ("row", "samples that the classifier takes for their label", "FD of samples")
    return (
        table(f"4. Conditional networks, mean ± deviation of {seeds} seeds", head, rows)
        + "\n"
        + table("4. The paper's order on faces, as recalled", ("", "", ""), musts)
    )


def main() -> None:
    parts = {"comparison": comparison, "small": small, "attributes": attributes,
             "conditional": conditional}  # fmt: skip
    args = parser(__doc__, tuple(parts), seeds=3, steps=4000).parse_args()
    publish("vaegan_digits", "VAE/GAN on digits", {
        name: lambda name=name: parts[name](args.seeds, args.steps) for name in args.only
    }, len(args.only) == len(parts))  # fmt: skip


if __name__ == "__main__":
    main()
