"""The IAE on MNIST: the size of the global code against that of the local one, and labels as codes.

Class content shall stay longest in a code that shrinks, and detail move into the decoder's noise.
The sizes (20 without noise, 10 and 5 with 100) are those recalled of the paper; networks and
schedule are ours: the decoder is without noise for half of the steps, and the pair critic sees a
tenth of z (kaiu85's reimplementation does), because otherwise the codes come to say nothing in so
few steps; the last row shows the first of the two. A classifier trained on the training images says
which class a picture shows. In the pictures by the table a row is a code, a column a noise.

    python experiments/tables/iae_mnist.py --data-dir <folder that holds mnist/>
"""

import functools
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from common import (
    KEY,
    assessed,
    first_of_each_class,
    gather,
    holds,
    make,
    many_digits,
    parser,
    publish,
    shown,
    table,
    train,
)

from jaxae import evaluation
from jaxae.data import Data, Options, load
from jaxae.models import iae

SIZES = {"z 20, no n": (20, 0), "z 10, n 100": (10, 100), "z 5, n 100": (5, 100)}
NOISE_AT_ONCE = "z 10, n 100, noise grows at once"
BATCH = 500
FIELDS = {"widths": (256, 256), "learning_rate": 1e-3, "critic_rate": 2e-3, "r1": 1.0}
PLAN = {"batch_size": 128, "log_every": 100, "eval_every": 0, "save_every": 10**6}


class Bench:
    """The data, its classifier, and the pictures."""

    def __init__(self, name: str, folder: str | None):
        self.name, self.folder = name, folder

    @functools.cached_property
    def data(self) -> Data:
        # Noise between the grey levels, which a critic would tell from a decoder's otherwise.
        return load(self.name, Options(dequantise=True), self.folder)

    @functools.cached_property
    def classifier(self) -> evaluation.Classifier:
        return evaluation.train_classifier(self.data)

    @functools.cached_property
    def real(self) -> np.ndarray:
        return evaluation.images_of(self.data.train, BATCH, 10_000)

    def measured(self, model, states, given: bool = False) -> dict[str, np.ndarray]:
        """`assess`, the classifier's opinion of reconstructions and samples."""
        code = _label_as_code(self.data) if given else jax.jit(model.encode)
        decode, sample = jax.jit(model.decode), jax.jit(model.sample, static_argnums=2)
        shows = lambda images: self.classifier.logits(np.asarray(images)).argmax(1)

        def of(state):
            same, named = [], []
            for i, (batch, mask) in enumerate(self.data.test.examples(BATCH)):
                of_code, of_image = jax.random.split(jax.random.fold_in(jax.random.key(KEY), i))
                image = batch["label"] if given else batch["image"]
                back = shows(decode(state, code(state, image, of_code), of_image))
                same.append((back == shows(batch["image"]))[np.asarray(mask)])
                named.append((back == np.asarray(batch["label"]))[np.asarray(mask)])
            drawn = np.asarray(sample(state, jax.random.key(KEY), len(self.real)))
            features = self.classifier.features
            return {
                "same": float(np.concatenate(same).mean()),
                "named": float(np.concatenate(named).mean()),
                "distance": evaluation.frechet_distance(features(drawn), features(self.real)),
            }

        return gather(states, of) | {
            name: np.float64(value) for name, value in assessed(model, states, self.data).items()
        }

    def draw(self, model, state, name: str, given: bool = False) -> str:
        """Codes of ten test images, one of each class, with eleven noises; a link to the PNG."""
        chosen = first_of_each_class(self.data.test.labels)
        images = evaluation.images_of(self.data.test, BATCH)[chosen]
        if given:
            z = jnp.eye(self.data.spec.classes)
        else:
            z = jax.jit(model.encode)(state, jnp.asarray(images), jax.random.key(KEY))
        note = "a row: a test image, and its code with eleven noises; a column: one noise"
        return many_digits(model, state, z, [images], f"iae_{self.name}_{name}", name, note)


def _label_as_code(data: Data):
    return lambda state, labels, rng: jax.nn.one_hot(labels, data.spec.classes)


def sweep(bench: Bench, seeds: int, steps: int) -> str:
    """The code shrinks."""
    lines, seen, pictures = [], {}, []
    for name, (latent, local) in (SIZES | {NOISE_AT_ONCE: SIZES["z 10, n 100"]}).items():
        start = 0 if name == NOISE_AT_ONCE else steps // 2
        sizes = {"latent": latent, "local": local, "code_scale": 0.1, "decay_steps": steps,
                 "local_start": start, "local_warmup": steps // 3}  # fmt: skip
        model = make(iae, bench.data, **FIELDS | sizes)
        states, _ = train(model, bench.data, seeds, steps, **PLAN)
        if name in SIZES:
            file = name.replace(", ", "-").replace(" ", "")
            pictures.append(bench.draw(model, states[0], file))
        found = seen[name] = bench.measured(model, states)
        lines.append((name, shown(found["squared_error"], 1), shown(found["squared_change"], 1),
                      shown(found["rho"]), shown(found["delta"]),
                      shown(found["change_over_error"]), shown(100 * found["same"], 1),
                      shown(100 * found["named"], 1), shown(found["distance"], 1)))  # fmt: skip
    head = ("", "E\\|x - x^\\|²", "E\\|x^ - x^'\\|²", "rho", "delta", "δ/ρ", "class of x, %",
            "label, %", "FD of samples")  # fmt: skip
    mean = lambda key: [seen[name][key].mean() for name in SIZES]
    smallest = seen[list(SIZES)[-1]]
    musts = []
    for key, text in (("squared_error", "E\\|x - x^\\|²"), ("delta", "delta")):
        for (a, b), (left, right) in zip(pairwise(SIZES), pairwise(mean(key)), strict=True):
            musts.append(holds(f"{text}: {a} ≤ {b}", left, right))
    for (a, b), (left, right) in zip(pairwise(SIZES), pairwise(mean("same")), strict=True):
        musts.append(holds(f"class of x: {b} ≤ {a}", right, left))
    kept = "class of x: 30% (three times chance) ≤ the smallest code's"
    musts.append(holds(kept, 0.3, smallest["same"].min()))
    note = f"""
rho and delta by the variance within the classes of the labels, {smallest["variance"].mean():.1f}
(the code's own is not known); δ/ρ is 1 where the game ends, for any code. The classifier is right
about {100 * bench.classifier.test_accuracy:.1f}% of the test images. FD: Fréchet distance of the
classifier's features of {len(bench.real)} samples and as many training images.
"""
    title = f"1. Sizes of z and n, {steps} steps of {PLAN['batch_size']}, {seeds} seeds"
    verdicts = table("1. Which way it should go", ("", "", ""), musts)
    return "\n".join([table(title, head, lines) + note, verdicts, *pictures])


def shortcut(bench: Bench, seeds: int, steps: int) -> str:
    """The label is the code: decoder and pair critic alone."""
    model = make(iae, bench.data, **FIELDS | {"task": "given", "local": 32, "decay_steps": steps})
    states, _ = train(model, bench.data, seeds, steps, **PLAN)
    picture = bench.draw(model, states[0], "label-n32", given=True)
    found = bench.measured(model, states, given=True)
    pixels = np.prod(bench.data.spec.image_shape)
    variance = found["variance"].mean() / pixels
    near = lambda key: np.abs(found[key] / 2 - 1).max()
    rows = [
        ("variance within a class, per pixel", f"{variance:.4f}", ""),
        ("squared error per pixel, 2 × that", shown(found["squared_error"] / pixels, 4),
         f"{2 * variance:.4f}"),
        ("rho", shown(found["rho"]), "2"),
        ("delta", shown(found["delta"]), "2"),
        holds("rho within a tenth of 2, every seed", near("rho"), 0.1),
        ("FD of samples", shown(found["distance"], 1), ""),
        holds("95% ≤ pictures of their label's class, every seed", 95, 100 * found["named"].min()),
    ]  # fmt: skip
    return table(f"2. The label as code, n 32, {steps} steps", ("", "", ""), rows) + "\n" + picture


def main() -> None:
    parts = {"sweep": sweep, "shortcut": shortcut}
    flags = parser(__doc__, tuple(parts), seeds=1, steps=6000)
    flags.add_argument("--data", default="mnist", help="data set")
    flags.add_argument("--data-dir", default=None, help="folder that holds it")
    args = flags.parse_args()
    bench = Bench(args.data, args.data_dir)
    publish(f"iae_{args.data}", f"The IAE on {args.data}", {
        name: lambda name=name: parts[name](bench, args.seeds, args.steps) for name in args.only
    }, len(args.only) == len(parts))  # fmt: skip


if __name__ == "__main__":
    main()
