"""A decoder that can do without the code: who uses it all the same?"""

from claims_common import Claim, Measure, assessed, coded, gather, learned, on_test, opened, rows_of

from jaxae import evaluation
from jaxae.models import acn, vqvae

# decoder alone, then with the code; the decoder; the convolutions that halve an image to 2x2 codes
SETTINGS = {
    "digits": (600, 900, {"pixelcnn_width": 8, "pixelcnn_layers": 3}, 2),
    "mnist": (400, 600, {"pixelcnn_width": 8, "pixelcnn_layers": 4}, 4),
}
BATCH_SIZE = 50


def test(data, seeds, picture, data_dir):
    source, grey = opened(data, data_dir, binarise="dynamic"), opened(data, data_dir)
    alone, together, decoder, halvings = SETTINGS[data]
    common = decoder | {"decoder": "pixelcnn", "decoder_first": alone}
    discrete = {"halvings": halvings, "codes": 32, "conv_width": 16, "conv_blocks": 1,
                "restart": 0.1, "prior_width": 16, "prior_layers": 2}  # fmt: skip
    found, probe = {}, {}
    for name, module, fields in (
        ("VAE", acn, {"variant": "vae"}),
        ("ACN", acn, {}),
        ("VQ-VAE", vqvae, discrete),
    ):
        model, states = learned(module, source, seeds, alone + together, BATCH_SIZE,
                                **common | fields)  # fmt: skip
        test = on_test(model, states, source)
        if name == "ACN":  # its own rate is no bound: charged by one prior for all images
            whole = assessed(model, states, source)
            test = {"rate": whole["rate_unordered"], "loss": whole["total_unordered"]}
        found[name] = {"rate": test["rate"], "left": test["loss"] - test["rate"],
                       "total": test["loss"]}  # fmt: skip
        if module is acn:  # a VQ-VAE's `encode` is what the code was before it was quantised
            probe[name] = gather(states, lambda state, model=model: {
                "": evaluation.linear_probe(*coded(model, state, grey))})[""]  # fmt: skip
    draw_costs(found, picture)
    gain = lambda name, number: found[name][number] - found["VAE"][number]
    return (
        [measure for name in ("ACN", "VQ-VAE") for measure in (
            Measure(f"nats in the code, {name}'s minus VAE's", gain(name, "rate"), "nats"),
            Measure(f"nats saved by an image, {name}'s total against VAE's", -gain(name, "total"),
                    "nats"))]
        + [Measure("linear probe on the code, ACN's minus VAE's", probe["ACN"] - probe["VAE"])],
        rows_of(["rate, nats", "distortion, nats", "total, nats", "linear probe"], {
            name: [*seen.values(), probe.get(name, "")] for name, seen in found.items()}),
    )  # fmt: skip


def draw_costs(found, path):
    from jaxae.evaluation.canvas import PALETTE, heading, write_png

    def compose(figure):
        axes = figure.add_axes((0.12, 0.14, 0.84, 0.66))
        for colour, (name, seen) in zip(PALETTE, found.items(), strict=False):
            axes.scatter(seen["rate"], seen["left"], s=40, color=colour, label=name)
        axes.set_xlabel("rate, nats in the code")
        axes.set_ylabel("distortion, nats left to the pixels")
        axes.legend(frameon=False)
        heading(figure, "What a code costs, and what it saves", "a point for each seed")

    write_png(path, (6.5, 4.6), compose)


CLAIM = Claim(
    "Beside a decoder that can do without, a VAE's code stays idle; those of ACN and VQ-VAE do not",
    "Graves, Menick & van den Oord 2018; van den Oord et al. 2017, section 4.2 (VQ-VAE)",
    "A gated PixelCNN learns alone, then encoder and code join: with the same networks under a "
    "VAE's prior and under ACN's, and with a VQ-VAE's convolutions and 2x2 codes of 32 kinds. "
    "ACN is charged by the unordered prior, which compares with a VAE's, and VQ-VAE by the prior "
    "of codes that learns beside it.",
    test,
    published="no figure could be read",
)
