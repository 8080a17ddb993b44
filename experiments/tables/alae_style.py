"""StyleALAE at 32x32: what it draws, what comes back through its code, whose styles can be mixed.

Trains the preset `style` (MNIST padded to 32x32, or any folder: of images) and writes pictures of
samples, reconstructions and style mixing beside the numbers. The class kept: share of
reconstructions that a classifier takes for the class of their original. Path lengths are of the
squared distance in that classifier's last hidden layer, and cannot be compared with published ones.

    python experiments/tables/alae_style.py
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from common import BATCH, KEY, RESULTS, make, on_test, parser, publish, shown, table, train

from jaxae import evaluation
from jaxae.data import load
from jaxae.models import alae
from jaxae.recipes import alae as recipes
from jaxae.training import Model, State

SAMPLES, PAIRS, PICTURES = 1000, 500, 30
SURE = 0.9  # probability from which a classifier is taken at its word


def main_table(seeds: int, steps: int) -> str:
    """Trains, draws, and measures."""
    settings = recipes.style()
    data = load(settings.data, settings.options)
    fields = vars(settings.model) | {"decay_steps": steps}
    model = make(alae, data, **fields)
    states, last = train(
        model, data, seeds, steps, batch_size=settings.plan.batch_size, eval_every=0,
        save_every=10**6, log_every=50,
    )  # fmt: skip
    drawn = pictures(model, states[0], data)
    classifier = evaluation.train_classifier(data)
    found = [measured(model, state, data, classifier) for state in states]
    start = jax.jit(model.init)(jax.random.key(0))
    untrained = measured(model, start, data, classifier)
    rows = [
        (name, shown([each[name] for each in found], 3), f"{untrained[name]:.3f}")
        for name in untrained
    ]
    test = on_test(model, states, data)
    rows.append(("squared error per pixel, test", shown(test["mse"], 4), ""))
    for name in ("critic", "generator", "reciprocity", "squared_gradient_norm", "w_variance"):
        rows.append((f"{name}, last 200 steps", shown(last[name], 4), ""))
    title = f"{data.name}, {steps} steps of {settings.plan.batch_size}, {seeds} seeds"
    text = table(title, ("", "trained", "untrained"), rows)
    text += (
        f"\nSamples: {SAMPLES}, with psi = {settings.model.truncation}; sure: probability of at "
        f"least {SURE}. The classifier is right on {100 * classifier.test_accuracy:.1f} % of the "
        "test images. Reciprocity share: mean (w - E(G(w)))^2 over mean Var(w).\n\n"
    )
    return text + "\n".join(f"![{path.stem}]({path.name})" for path in drawn) + "\n"


def pictures(model: Model, state: State, data) -> list[pathlib.Path]:
    """Three PNG files beside the table."""
    keys = jax.random.split(jax.random.key(KEY), 3)
    images = evaluation.images_of(data.test, 500, PICTURES)
    file = lambda name: RESULTS / f"alae_style_{name}.png"
    RESULTS.mkdir(exist_ok=True)
    return [
        evaluation.draw_samples(model, state, file("samples"), keys[0]),
        evaluation.draw_reconstructions(
            model, state, images[:20], file("reconstructions"), keys[1]
        ),
        evaluation.draw_mixtures(
            model, state, images[20:23], images[:10], file("mixtures"), keys[2]
        ),
    ]


def measured(model: Model, state: State, data, classifier) -> dict[str, float]:
    """What the table shows of a state."""
    keys = jax.random.split(jax.random.key(KEY), 4)
    assessed = model.assess(state, data, keys[0])
    drawn = np.concatenate([
        np.asarray(jax.jit(model.sample, static_argnums=2)(state, key, SAMPLES // 10))
        for key in jax.random.split(keys[1], 10)
    ])  # fmt: skip
    chance = softmax(classifier.logits(drawn))
    sure = np.bincount(chance.argmax(1)[chance.max(1) >= SURE], minlength=data.spec.classes)
    kept = []
    back = jax.jit(lambda state, x, rng: model.decode(state, model.encode(state, x, rng), rng))
    for i, (batch, mask) in enumerate(data.test.examples(BATCH)):
        again = back(state, batch["image"], jax.random.fold_in(keys[2], i))
        right = classifier.logits(again).argmax(1) == np.asarray(batch["label"])
        kept.append(right[np.asarray(mask)])
    return {
        "reciprocity share": assessed["reciprocity_share"],
        "reconstruction ratio": assessed["reconstruction_ratio"],
        "class kept by reconstructions": float(np.concatenate(kept).mean()),
        "samples the classifier is sure of": float(sure.sum() / SAMPLES),
        "classes among them (at least 1 %)": int((sure >= SAMPLES / 100).sum()),
        "path length between test codes": path_length(model, state, data, classifier, keys[3]),
    }


def path_length(model: Model, state: State, data, classifier, rng) -> float:
    """Along lines between the codes of test images."""
    codes = evaluation.encode_split(model, state, data.test, BATCH, jax.random.key(KEY), 2000)[0]
    codes = jnp.asarray(codes)

    def distance(x, y):
        apart = classifier.features(x) - classifier.features(y)
        return np.sum(np.square(apart), axis=-1)

    return evaluation.perceptual_path_length(
        lambda rng, n: codes[jax.random.randint(rng, (n,), 0, len(codes))],
        lambda w, rng: model.decode(state, w, rng),
        distance, rng, pairs=PAIRS, step=1e-2,
    )  # fmt: skip


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities `[N, K]`."""
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


if __name__ == "__main__":
    args = parser(__doc__, ["style"], seeds=1, steps=recipes.style().plan.steps).parse_args()
    publish("alae_style", "StyleALAE at 32x32",
            {"style": lambda: main_table(args.seeds, args.steps)}, whole=True)  # fmt: skip
