"""Codes of bits: retrieval on MNIST and on generated documents, and what a look-up costs.

Sections 5 and 6 of the acceptance list. MNIST: 784-500-500-b, ReLU, 2,500 steps of batch 128, Adam
1e-3 with a cosine; 1,000 test images query the 60,000; relevant is the same digit; an empty ball
counts 0. Expected numbers were measured by an independent program in the same setting (one seed).
Documents: 2,000 test documents of known topics query 8,000; relevant is the same topic; Bayes is
the exact posterior's ranking, which nothing can beat. Look-up times are ratios, measured side by
side. MNIST is read from `--data-dir` or $JAXAE_DATA_DIR.

    python experiments/tables/hashing_mnist.py --data-dir <folder that holds mnist/>
"""

import time

import jax
import numpy as np
from common import (
    KEY,
    RESULTS,
    against,
    assessed,
    holds,
    make,
    on_test,
    parser,
    publish,
    shown,
    table,
    train,
)
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.metrics import average_precision_score

from jaxae import evaluation
from jaxae.data import load
from jaxae.data.topics import topic_posterior
from jaxae.evaluation import retrieval
from jaxae.models import hashing

QUERIES = 1000
SIZES = (10_000, 100_000, 1_000_000)  # of the look-up's random collections
NAMES = {"mean_average_precision": 3, "precision_at_100": 3, "precision_in_ball": 3,
         "empty_balls": 2, "items_in_ball": 0}  # fmt: skip
HEAD = ("codes", "mAP", "P@100", "P, radius 2", "empty balls", "items in ball")
# bits, noise -> saturated, error of rounded codes, P at radius 2, mAP, P@100
MNIST = {
    (16, 0.0): (0.12, 53.2, 0.620, 0.357, 0.690), (16, 4.0): (0.97, 26.2, 0.558, 0.404, 0.746),
    (32, 0.0): (0.20, 43.9, 0.788, 0.348, 0.751), (32, 4.0): (0.95, 19.2, 0.831, 0.401, 0.780),
}  # fmt: skip
PLANES = {16: (0.382, 0.202, 0.410), 32: (0.399, 0.279, 0.582)}


def encoded(model, state, data):
    """Bits and labels of the queries and of the collection."""
    queries = evaluation.encode_split(model, state, data.test, 500, jax.random.key(KEY), QUERIES)
    codes = evaluation.encode_split(model, state, data.train, 500, jax.random.key(KEY))
    return *queries, *codes


def searched(queries, wanted, codes, labels):
    """The counts by distance."""
    return retrieval.counts_by_distance(queries, codes, wanted, labels)


def row_of(name, scores) -> tuple[str, ...]:
    """A row under `HEAD`."""
    return name, *(f"{scores[key]:.{digits}f}" for key, digits in NAMES.items())


def mnist(seeds: int, steps: int, data_dir) -> str:
    """AE codes with and without noise beside random hyperplanes of as many bits."""
    data, rows, compared, curves = load("mnist", data_dir=data_dir), [], [], {}
    pixels = [evaluation.pixels_of(data.train, 1000), evaluation.pixels_of(data.test, 500, QUERIES)]
    wanted = np.asarray(data.test.labels)[np.arange(QUERIES) * 10]
    found, musts = {}, []
    for bits in (16, 32):
        train_bits, test_bits = evaluation.random_hyperplanes(*pixels, bits=bits)
        counts = searched(test_bits, wanted, train_bits, data.train.labels)
        found[bits] = scores = retrieval.scores(*counts)
        name = f"random hyperplanes, {bits} bits"
        rows.append(row_of(name, scores))
        curves[name] = retrieval.curve(*counts)
        for key, expected in zip(
            ("precision_in_ball", "mean_average_precision", "precision_at_100"), PLANES[bits],
            strict=True,
        ):  # fmt: skip
            compared.append((name, key, *against(scores[key], expected, 0.05, 3)))
        for noise in (0.0, 4.0):
            fields = {"bits": bits, "widths": (500, 500), "noise": noise, "decay_steps": steps}
            model = make(hashing, data, **fields)
            states, _ = train(model, data, 1, steps, batch_size=128, eval_every=0)
            test, whole = on_test(model, states, data), assessed(model, states, data)
            halves = encoded(model, states[0], data)
            counts = searched(*halves)
            scores = retrieval.scores(*counts)
            name = f"AE, noise {noise:g}, {bits} bits"
            rows.append(row_of(name, scores))
            if noise:
                curves[name] = retrieval.curve(*counts)
                balanced = make(hashing, data, **fields, balanced=True)
                even = retrieval.scores(*searched(*encoded(balanced, states[0], data)))
                rows.append(row_of(f"{name}, read at the medians", even))
            scores |= {"saturated": test["saturated"][0], "rounded": test["squared_error"][0]}
            found[bits, noise] = scores
            for key, expected, tolerance in zip(
                ("saturated", "rounded", "precision_in_ball", "mean_average_precision",
                 "precision_at_100"), MNIST[bits, noise], (0.1, 5.0, 0.08, 0.06, 0.06), strict=True,
            ):  # fmt: skip
                compared.append((name, key, *against(scores[key], expected, tolerance, 3)))
            compared.append((name, "error from unrounded codes",
                             shown(test["squared_error_soft"]), "", ""))  # fmt: skip
            for key in ("bit_entropy_train", "constant_bits_train"):
                compared.append((name, key, shown(whole[key]), "", ""))
        plain, noisy, planes = found[bits, 0.0], found[bits, 4.0], found[bits]
        gain = noisy["mean_average_precision"] - planes["mean_average_precision"]
        musts += [
            holds(f"{bits} bits: 0.9 ≤ units saturated by noise", 0.9, noisy["saturated"]),
            holds(f"{bits} bits: error of rounded codes, noise / none ≤ 0.5",
                  noisy["rounded"] / plain["rounded"], 0.5),
            holds(f"{bits} bits: 0.1 ≤ mAP over hyperplanes", 0.1, gain, 3),
            holds(f"{bits} bits: P at radius 2, hyperplanes ≤ noise", planes["precision_in_ball"],
                  noisy["precision_in_ball"], 3),
        ]  # fmt: skip
    file = retrieval.draw_precision_recall(
        curves, RESULTS / "hashing_mnist.png", "MNIST: lists of 1, 2, 4, ... images; 1,000 queries"
    )
    head = ("codes", "number", "ours", "expected", "")
    return "\n".join([
        table(f"5. MNIST, 1,000 queries in 60,000, {steps} steps", HEAD, rows),
        f"![precision over recall]({file.name})\n",
        table("5. Against the independent program", head, compared),
        table("5. What must hold", ("", "", ""), musts),
    ])  # fmt: skip


def documents(seeds: int, steps: int, data_dir) -> str:
    """Word counts of a known topic model: codes, their rivals, and the best possible ranking."""
    data, rows, curves = load("topics"), [], {}
    counts = [np.round(255 * np.asarray(evaluation.pixels_of(split, 500)))
              for split in (data.train, data.test)]  # fmt: skip
    labels, wanted = data.train.labels, data.test.labels[::2]
    counts[1] = counts[1][::2]

    def dense(name, similarity):
        """A row for rankings by numbers without ties."""
        precision = [average_precision_score(labels == w, s)
                     for w, s in zip(wanted, similarity, strict=True)]  # fmt: skip
        first = np.argsort(-similarity, axis=1)[:, :100]
        at = np.mean(labels[first] == wanted[:, None])
        rows.append((name, f"{np.mean(precision):.3f}", f"{at:.3f}", "", "", ""))
        return float(np.mean(precision)), float(at)

    def binary(name, queries, codes):
        found = searched(queries, wanted, codes, labels)
        scores = retrieval.scores(*found)
        rows.append(row_of(name, scores))
        curves[name] = retrieval.curve(*found)
        return scores

    posterior = [topic_posterior(c) for c in counts]
    bayes, _ = dense("Bayes (the exact posterior)", posterior[1] @ posterior[0].T)
    weigh = TfidfTransformer(sublinear_tf=True).fit(counts[0])
    weighed = [weigh.transform(c) for c in counts]
    similar = (weighed[1] @ weighed[0].T).toarray()
    _, plain = dense("TF-IDF, cosine", similar)
    reduce = TruncatedSVD(16, random_state=0).fit(weighed[0])
    low = [reduce.transform(w) for w in weighed]
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in low]
    dense("LSA, 16 dimensions, cosine", unit[1] @ unit[0].T)
    binary("LSA, 16 dimensions, signs", *(x > low[0].mean(0) for x in low[::-1]))
    planes = evaluation.random_hyperplanes(*(w.toarray() for w in weighed), bits=16)
    planes = binary("random hyperplanes on TF-IDF, 16 bits", *planes[::-1])
    words = {"widths": (128,), "likelihood": "counts", "decay_steps": steps}
    pretrained = {"activation": "sigmoid", "init": "rbm", "pretrain_steps": 800,
                  "count_input": "counts"}  # fmt: skip
    found, perplexity = {}, []
    for name, fields, more in (
        ("noise 4, machines first", pretrained, 1600),
        ("noise 4", {}, 0),
        ("noise growing to 4", {"discretise": "noise_ramp", "ramp_steps": 2 * steps // 3}, 0),
        ("straight through", {"discretise": "straight_through"}, 0),
        ("coins", {"discretise": "bernoulli"}, 0),
    ):
        model = make(hashing, data, **words, **fields)
        states, _ = train(model, data, 1, more + steps, eval_every=0)
        codes = [
            evaluation.encode_split(model, states[0], split, 500, jax.random.key(KEY))[0]
            for split in (data.train, data.test)
        ]
        codes[1] = codes[1][::2]
        found[name] = binary(f"hashing, {name}, 16 bits", codes[1], codes[0])
        test = on_test(model, states, data)
        perplexity.append((name, shown(test["nats_per_word"], 3), shown(test["saturated"])))
        if more:
            near = np.asarray(
                evaluation.rank(evaluation.pack(codes[1]), evaluation.pack(codes[0]), 400)[0]
            )
            ranked = np.full_like(similar, -1)
            np.put_along_axis(ranked, near, np.take_along_axis(similar, near, 1), 1)
            _, listed = dense("hashing, list of 400, then TF-IDF", ranked)
    best = found["noise 4, machines first"]
    gain = best["mean_average_precision"] - planes["mean_average_precision"]
    musts = [
        holds("0.1 ≤ mAP with machines over hyperplanes", 0.1, gain, 3),
        holds("mAP with machines ≤ Bayes", best["mean_average_precision"], bayes, 3),
        holds("P@100: TF-IDF alone ≤ short list, then TF-IDF", plain, listed, 3),
    ]
    fits = ("hashing", "nats per word, rounded codes, test", "saturated")
    words_alone = np.log(counts[0].sum(0) / counts[0].sum())
    alone = -(counts[1] @ words_alone).sum() / counts[1].sum()
    perplexity.append(("frequencies of words alone, per word of the set", f"{alone:.3f}", ""))
    return "\n".join([
        table(f"Documents of 20 topics, 1,000 queries in 8,000, {steps} steps", HEAD, rows),
        table("What the codes say of the words", fits, perplexity),
        table("Documents: what must hold", ("", "", ""), musts),
    ])  # fmt: skip


def index(seeds: int, steps: int, data_dir) -> str:
    """Look-up in a hash table against a linear scan of packed words, 20 bits, radius 2."""
    rng, rows, times = np.random.default_rng(0), [], {}
    bits, asking = 20, 200
    data = load("mnist", data_dir=data_dir)
    model = make(hashing, data, bits=bits, widths=(500, 500), noise=4.0, decay_steps=steps)
    states, _ = train(model, data, 1, steps, batch_size=128, eval_every=0)
    queries, _, codes, _ = encoded(model, states[0], data)
    collections = {f"{len(codes):,}, MNIST": (codes, queries[:: len(queries) // asking])}
    for size in SIZES:
        drawn = (rng.integers(0, 2, (size, bits)), rng.integers(0, 2, (asking, bits)))
        collections[f"{size:,} at random"] = drawn
    for name, (codes, queries) in collections.items():
        lookup, packed = evaluation.HashTable(codes), evaluation.pack(codes)[:, 0]
        words = evaluation.pack(queries)[:, 0]

        def scan(word, packed=packed):
            return np.flatnonzero(np.bitwise_count(packed ^ word) <= 2)

        pairs = [(sorted(lookup.lookup(q, 2)), list(scan(w)))
                 for q, w in zip(queries, words, strict=True)]  # fmt: skip
        assert all(ours == brute for ours, brute in pairs)
        taken = {"look-up": [], "scan": []}
        for _ in range(5):  # the fastest of five rounds: other programs disturb the slower ones
            for kind, run in (
                ("look-up", lambda: [lookup.lookup(q, 2) for q in queries]),
                ("scan", lambda: [scan(w) for w in words]),
            ):
                start = time.perf_counter()
                run()
                taken[kind].append(time.perf_counter() - start)
        times[name] = {kind: min(rounds) / len(queries) for kind, rounds in taken.items()}
        found = np.mean([len(ours) for ours, _ in pairs])
        rows.append((name, f"{found:.1f}", *(f"{1e6 * t:.0f}" for t in times[name].values()),
                     f"{times[name]['scan'] / times[name]['look-up']:.1f}"))  # fmt: skip
    few, many = (times[f"{size:,} at random"] for size in (SIZES[0], SIZES[-1]))
    musts = [
        holds("scan, a hundred times the items: 10 ≤ time", 10, many["scan"] / few["scan"], 1),
        holds("look-up, a hundred times the items: time ≤ 5", many["look-up"] / few["look-up"], 5,
              1),
    ]  # fmt: skip
    head = ("items", "found", "look-up, µs", "linear scan, µs", "scan / look-up")
    title = f"6. Look-up within 2 of {bits} bits, {evaluation.ball_size(bits, 2)} addresses a query"
    note = (
        f"\nMNIST: codes learnt in {steps} steps, asked by {asking} test images. Found sets are "
        "those of the scan, for every query. numpy on one thread.\n"
    )
    return table(title, head, rows) + note + "\n" + table(
        "6. What must hold", ("", "", ""), musts)  # fmt: skip


def main() -> None:
    parts = {"mnist": mnist, "documents": documents, "index": index}
    flags = parser(__doc__, tuple(parts), seeds=1, steps=2500)
    flags.add_argument("--data-dir", help="folder that holds mnist/ (default: $JAXAE_DATA_DIR)")
    args = flags.parse_args()
    publish("hashing_mnist", "Semantic hashing", {
        name: lambda name=name: parts[name](args.seeds, args.steps, args.data_dir)
        for name in args.only
    }, len(args.only) == len(parts))  # fmt: skip


if __name__ == "__main__":
    main()
