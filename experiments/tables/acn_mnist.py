"""VAE and ACN on MNIST with an independent and with an autoregressive decoder.

Table (a') of the acceptance list: encoder and decoders 512-512, d=64, M=5, K=5, prior 3x512,
dynamic binarisation, Adam 1e-3, batch 128, 3,000 steps, one seed. Reads the four idx files from
`--data-dir` or $JAXAE_DATA_DIR.

    python experiments/tables/acn_mnist.py --data-dir <folder that holds mnist/>
"""

from common import against, assessed, coded, make, on_test, parser, publish, table, train

from jaxae import evaluation
from jaxae.data import Options, load
from jaxae.models import acn

# decoder -> VAE's R, D; ACN's leave-one-out R, D; its ordered total; the probes.
REFERENCE = {
    "mlp": ((22.2, 81.0), (18.2, 75.0), 93.2, (0.909, 0.932)),
    "made": ((28.6, 74.2), (23.9, 70.2), 94.2, (0.884, 0.919)),
}
SIZES = {"latent": 64, "widths": (512, 512), "prior_widths": (512,) * 3, "components": 5}
NATS, ACCURACY, PROBED = 1.5, 0.03, 20_000


def both(decoder: str, data, grey, seeds: int, steps: int) -> str:
    """The VAE and the ACN with one decoder."""
    rows = []
    (rate, distortion), (near, nearer), ordered, accuracies = REFERENCE[decoder]

    def report(row, number, values, reference, tolerance=NATS):
        rows.append(
            (row, number, *against(values, reference, tolerance, 2 if tolerance > 0.1 else 3))
        )

    def probed(row, model, state, reference):
        arrays = coded(model, state, grey, 1000, PROBED)
        report(row, "logistic probe", evaluation.linear_probe(*arrays), reference, ACCURACY)

    model = make(acn, data, variant="vae", decoder=decoder, **SIZES)
    states, _ = train(model, data, seeds, steps, batch_size=128)
    test = on_test(model, states, data)
    report("VAE", "R", test["rate"], rate)
    report("VAE", "D", test["distortion"], distortion)
    report("VAE", "total", test["loss"], rate + distortion)
    probed("VAE", model, states[0], accuracies[0])

    model = make(acn, data, decoder=decoder, neighbours=5, **SIZES)
    states, last = train(model, data, seeds, steps, batch_size=128)
    report("ACN, training batches", "total", last["loss"], None)
    test = assessed(model, states, data)
    row = "ACN, leave-one-out test neighbours, K = 5"
    report(row, "R", test["rate_neighbour"], near)
    report(row, "D", test["distortion"], nearer)
    report(row, "total", test["total_neighbour"], near + nearer)
    report("ACN, greedy path (ordered)", "total", test["total_ordered"], ordered)
    report("ACN, greedy path (ordered)", "total with order credit",
           test["total_ordered_with_credit"], ordered + 8.21)  # fmt: skip
    report("ACN, unordered (mixture of conditionals)", "R", test["rate_unordered"], None)
    report("ACN, unordered (mixture of conditionals)", "total", test["total_unordered"], None)
    probed("ACN", model, states[0], accuracies[1])
    title = {"mlp": "MLP decoder 512-512", "made": "masked MLP decoder 512-512"}[decoder]
    return table(f"{title}, {steps} steps", ("row", "number", "ours", "reference", ""), rows)


def main() -> None:
    flags = parser(__doc__, tuple(REFERENCE), seeds=1, steps=3000)
    flags.add_argument("--data-dir", help="folder that holds mnist/ (default: $JAXAE_DATA_DIR)")
    args = flags.parse_args()
    data = load("mnist", Options(binarise="dynamic"), args.data_dir)
    grey = load("mnist", Options(), args.data_dir)
    publish("acn_mnist", "VAE and ACN on MNIST", {
        name: lambda name=name: both(name, data, grey, args.seeds, args.steps)
        for name in args.only
    }, len(args.only) == len(REFERENCE))  # fmt: skip


if __name__ == "__main__":
    main()
