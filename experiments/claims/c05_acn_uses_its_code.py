"""A decoder that can do without the code: who uses it all the same?"""

from claims_common import Claim, Measure, assessed, coded, gather, learned, on_test, opened, rows_of

from jaxae import evaluation
from jaxae.models import acn, vqvae

# steps of the decoder alone, then with the code; the decoder; the convolutions that halve an image
# to 2x2 codes
SETTINGS = {
    "mnist": (240, 320, {"pixelcnn_width": 8, "pixelcnn_layers": 4}, 4),
    "digits": (600, 900, {"pixelcnn_width": 8, "pixelcnn_layers": 3}, 2),
}
BATCH_SIZE = 32
IDLE = 1.0  # nats in a code that counts as idle, by our proposal


def test(data, seeds, picture, data_dir):
    source, grey = opened(data, data_dir, binarise="dynamic"), opened(data, data_dir)
    alone, together, decoder, halvings = SETTINGS[data]
    decoder = decoder | {"decoder": "pixelcnn"}
    first = {"decoder_first": alone}
    discrete = {"halvings": halvings, "codes": 32, "conv_width": 16, "conv_blocks": 1,
                "restart": 0.1, "prior_width": 16, "prior_layers": 2}  # fmt: skip
    found, probe = {}, {}
    for name, module, fields in (
        ("decoder alone", acn, {"variant": "decoder"}),
        ("VAE", acn, {"variant": "vae"} | first),
        ("ACN", acn, first | {"only_written": True}),
        ("VQ-VAE", vqvae, discrete | first),
    ):
        model, states = learned(module, source, seeds, alone + together, BATCH_SIZE,
                                **decoder | fields)  # fmt: skip
        if name == "ACN":  # its own rate is no bound: charged by one prior for all images
            seen = assessed(model, states, source)
            rate, distortion = seen["rate_unordered"], seen["distortion"]
        else:
            seen = on_test(model, states, source)
            rate, distortion = seen["rate"], seen["loss"] - seen["rate"]
        found[name] = {"rate": rate, "distortion": distortion, "total": rate + distortion}
        if name in ("VAE", "ACN"):  # VQ-VAE's `encode` is what the code was before it was quantised
            probe[name] = gather(states, lambda state, model=model: {
                "": evaluation.linear_probe(*coded(model, state, grey))})[""]  # fmt: skip
    draw_costs(found, picture)
    told = {name: found["decoder alone"]["distortion"] - seen["distortion"]
            for name, seen in found.items()}  # fmt: skip
    return (
        [Measure(f"{IDLE:.0f} nat minus those in the VAE's code", IDLE - found["VAE"]["rate"],
                 "nats"),
         *(Measure(f"nats of an image that {name}'s code tells, minus the VAE's",
                   told[name] - told["VAE"], "nats") for name in ("ACN", "VQ-VAE")),
         Measure("linear probe on the code, ACN's minus VAE's", probe["ACN"] - probe["VAE"])],
        rows_of(["in the code, nats", "left to the pixels", "total", "told by the code",
                 "linear probe"], {
            name: [*seen.values(), told[name], probe.get(name, "")]
            for name, seen in found.items()}),
    )  # fmt: skip


def draw_costs(found, path):
    from jaxae.evaluation.canvas import PALETTE, heading, write_png

    def compose(figure):
        axes = figure.add_axes((0.12, 0.14, 0.84, 0.66))
        for colour, (name, seen) in zip(PALETTE, found.items(), strict=False):
            axes.scatter(seen["rate"], seen["distortion"], s=40, color=colour, label=name)
        axes.set_xlabel("rate, nats in the code")
        axes.set_ylabel("distortion, nats left to the pixels")
        axes.legend(frameon=False)
        heading(figure, "What a code costs, and what it saves", "a point for each seed")

    write_png(path, (6.5, 4.6), compose)


CLAIM = Claim(
    "Beside a decoder that can do without, a VAE's code stays idle; those of ACN and VQ-VAE do not",
    "Graves, Menick & van den Oord 2018; van den Oord et al. 2017 (VQ-VAE)",
    "A gated PixelCNN (8 channels, 4 layers) learns alone, then encoder and code join, by kernels "
    "that begin at zero: with the same networks under a VAE's prior and under ACN's (its "
    "neighbours are codes that a step has written), and with a VQ-VAE's convolutions and 2x2 "
    "codes of 32 kinds; the first row goes on alone. ACN is charged by the unordered prior, which "
    "compares with a VAE's, and VQ-VAE by the prior of codes that learns beside it. What a code "
    "tells is what it takes off the nats of the decoder alone; that one nat counts as idle is our "
    "proposal.",
    test,
    published="no figure could be read",
    seeds=3,
)
