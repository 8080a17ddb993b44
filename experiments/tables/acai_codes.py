"""What the codes of ACAI and of its comparison models know about labels they never saw.

A single-layer classifier and k-means with the paper's whitening and matching, on what the paper's
classifier reads of each method. The classifier is fitted afterwards, to convergence (the paper's
learns beside the autoencoder); k-means has 100 restarts (the paper's 1000).

    python experiments/tables/acai_codes.py
    python experiments/tables/acai_codes.py --only mnist --steps 6000 --seeds 1
"""

import jax
from common import BATCH, KEY, digits, gather, make, on_test, parser, publish, shown, table, train

from jaxae import evaluation
from jaxae.data import Data, load
from jaxae.models import acai

METHODS = ("baseline", "dropout", "denoising", "vae", "aae", "vqvae", "acai")
RATES = {"gain": 2.0, "learning_rate": 1e-3, "critic_rate": 1e-3}
OF_VQ = {"codes": 256, "slot_width": 16, "hidden": 128}
SETTINGS = {
    "digits": {"scales": 2, "depth": 8, "channels": 4},
    "mnist": {"scales": 3, "depth": 8, "channels": 2},  # half as wide as published
}
CODES = {"digits": "8x8 digits, codes of 2x2x4", "mnist": "MNIST, codes of 4x4x2"}
PUBLISHED = {  # recalled, MNIST with 32 dimensions: classifier, k-means
    "baseline": ("94.90", "77.56"), "dropout": ("96.45", "82.67"), "denoising": ("96.00", "82.59"),
    "vae": ("96.56", "75.74"), "aae": ("70.74", "79.19"), "vqvae": ("97.50", "82.39"),
    "acai": ("98.25", "94.38"),
}  # fmt: skip
RESTARTS = 100
CLUSTERED = 10_000  # training codes that k-means is fitted to


def known(read, model, states, data: Data) -> tuple[str, str]:
    """Per cent right of a linear classifier and of named clusters, on what `read` says."""

    def measure(state):
        halves = []
        for split in (data.train, data.test):
            halves += evaluation.encode_split(
                model._replace(encode=read), state, split, BATCH, jax.random.key(KEY)
            )
        train, train_labels, test, labels = halves
        return {
            "linear": 100 * evaluation.linear_probe(train, train_labels, test, labels),
            "clusters": 100
            * evaluation.kmeans_accuracy(train[:CLUSTERED], test, labels, restarts=RESTARTS),
        }

    found = gather(states, measure)
    return shown(found["linear"], 1), shown(found["clusters"], 1)


def compare(name: str, seeds: int, steps: int) -> str:
    """A row per method, and what pixels and an untrained encoder know."""
    data, rows = digits("none") if name == "digits" else load(name), []
    paper = (lambda method: PUBLISHED[method]) if name == "mnist" else (lambda method: ())
    for method in METHODS:
        fields = SETTINGS[name] | RATES | {"method": method, "decay_steps": steps}
        fields |= OF_VQ if method == "vqvae" else {}
        model = make(acai, data, **fields)
        read = acai.model.features(acai.Config(**fields), data.spec)
        if not rows:
            start = [jax.jit(model.init)(jax.random.key(seed)) for seed in range(seeds)]
            pixels = lambda state, x, rng: x.reshape(x.shape[0], -1)
            rows.append(("pixels", "", *known(pixels, model, start[:1], data)))
            rows.append(("untrained encoder", "", *known(read, model, start, data)))
        states, _ = train(model, data, seeds, steps, eval_every=0, save_every=10**6)
        error = shown(on_test(model, states, data)["mse"], 4)
        rows.append((method, error, *known(read, model, states, data), *paper(method)))
    blank = max(map(len, rows))
    rows = [(*row, *[""] * (blank - len(row))) for row in rows]
    head = ["", "squared error", "single-layer classifier, %", "k-means, %"]
    head += ["published", "published"] if name == "mnist" else []
    title = f"{CODES[name]}, {steps} steps of 64, mean ± deviation of {seeds} seeds"
    return table(title, head, rows)


if __name__ == "__main__":
    flags = parser(__doc__, list(SETTINGS), seeds=3, steps=2000)
    flags.set_defaults(only=["digits"])
    args = flags.parse_args()
    sections = {name: lambda name=name: compare(name, args.seeds, args.steps) for name in args.only}
    publish("acai_codes", "What codes know: ACAI and what it is compared with", sections,
            whole=args.only == ["digits"])  # fmt: skip
