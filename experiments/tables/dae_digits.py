"""Denoising and inpainting of digits, against the best projection onto principal components.

Section 7 of the acceptance list: 64-256-64-256-64, 3,000 steps of batch 64. Expected numbers were
measured by an independent program with the same sizes (one seed), whose rate is not known; ours is
Adam 3e-3 with a cosine. PSNR in dB, mean over the test images; the corrupted image is clipped to
[0, 1], and so is what PCA makes of it. Squared errors are over the pixels that the corruption
changed. For missing pixels both are over these alone. The other program has the block's ratios over
all pixels, of the bare output of a network trained on all: of these the corrupted image's can be
had in ours (a quarter of the pixels is missing: 6.0 dB less), and is expected.

    python experiments/tables/dae_digits.py
"""

import math

from common import (
    against,
    assessed,
    digits,
    holds,
    make,
    parser,
    probes,
    publish,
    shown,
    table,
    train,
)

from jaxae.models import dae

# corruption -> fields, then expected: corrupted, restored, PCA, probe on the code.
ROWS = {
    "none": ({"corruption": "none"}, None, 26.6, None, 0.975),
    "masking 0.25": ({"levels": (0.25,)}, 12.8, 19.4, 14.6, 0.964),
    "masking 0.5": ({"levels": (0.5,)}, 9.5, 16.8, 12.9, 0.967),
    "salt and pepper 0.25": ({"corruption": "salt_and_pepper"}, 9.8, 17.0, 14.6, 0.967),
    "Gaussian 0.3": ({"corruption": "gaussian", "levels": (0.3,)}, 13.1, 18.4, 16.0, 0.969),
    "block of 4x4 missing": (
        {"corruption": "block", "levels": (0.5,), "kept_weight": 0.0},
        round(11.6 - 10 * math.log10(4), 1), None, None, 0.969,
    ),
}  # fmt: skip
OTHERS = {
    "masking 0.25, weights 1 and 0.5": {"kept_weight": 0.5},
    "masking 0.25, weights 1 and 0": {"kept_weight": 0.0},
    "block, no mask channel": {"corruption": "block", "levels": (0.5,), "kept_weight": 0.0,
                               "mask_channel": False},
    "strokes missing": {"corruption": "strokes", "levels": (0.3,), "kept_weight": 0.0},
    "half missing": {"corruption": "half", "kept_weight": 0.0},
}  # fmt: skip


def measured(seeds: int, steps: int, before: int = 0, **fields):
    """`assess` and the probes of runs with these fields, `before` steps of layers first."""
    data = digits("none")
    model = make(dae, data, learning_rate=3e-3, decay_steps=steps, **fields)
    states, _ = train(model, data, seeds, before + steps, eval_every=0)
    return assessed(model, states, data), probes(model, states, data)


def denoising(seeds: int, steps: int) -> str:
    """Every corruption of the list."""
    rows, musts = [], []
    for name, (fields, before, after, projected, accuracy) in ROWS.items():
        found, probed = measured(seeds, steps, **fields)
        if before is not None:
            rows.append((name, "corrupted", *against(found["psnr_corrupted"], before, 0.3, 1)))
            rows.append((name, "best PCA", *against(found["psnr_pca"], projected, 0.3, 1)))
        rows.append((name, "DAE", *against(found["psnr_restored"], after, 1.5, 1)))
        if before is not None:
            errors = [found[f"changed_squared_error_{part}"].mean()
                      for part in ("corrupted", "restored", "mean_image")]  # fmt: skip
            text = f"{errors[0]:.3f} → {errors[1]:.3f} (mean image {errors[2]:.3f})"
            rows.append((name, "squared error on changed pixels", text, "", ""))
            gain = found["psnr_restored"].mean() - found["psnr_pca"].mean()
            musts.append(holds(f"{name}: 2 dB ≤ DAE over PCA", 2.0, gain, 1))
            musts.append(
                holds(f"{name}: changed pixels, DAE ≤ mean image", errors[1], errors[2], 3)
            )
        rows.append((name, "logistic probe", *against(probed["logistic"], accuracy, 0.02, 3)))
    head = ("corruption", "number", "ours", "expected", "")
    return table(f"7. Denoising, {steps} steps, {seeds} seeds", head, rows) + "\n" + table(
        "7. What must hold", ("", "", ""), musts)  # fmt: skip


def options(seeds: int, steps: int) -> str:
    """Emphasis, other holes, and a stack beside the same network trained at once."""
    rows = []
    sigmoid = {"activation": "sigmoid", "code": "activation", "init": "glorot", "tied": True,
               "latent": 128}  # fmt: skip
    stack = {
        "sigmoid 64-256-128, stacked (1,000 steps a layer)":
            sigmoid | {"stack_steps": 1000, "levels": (0.25, 0.1)},
        "sigmoid 64-256-128, at once": sigmoid,
    }  # fmt: skip
    for name, fields in {**OTHERS, **stack}.items():
        before = 2 * fields.get("stack_steps", 0)
        longer = 2000 if name.endswith("at once") else 0  # as many steps as the stack in all
        found, probed = measured(seeds, steps + longer, before, **fields)
        numbers = [shown(found[f"psnr_{part}"], 1) for part in ("corrupted", "restored", "pca")]
        changed = shown(found["changed_squared_error_restored"], 3)
        rows.append((name, *numbers, changed, shown(probed["logistic"], 3)))
    head = ("row", "corrupted", "DAE", "best PCA", "error on changed pixels", "logistic probe")
    title = f"Options, {steps} steps ({steps + 2000} for the last two rows), {seeds} seeds"
    return table(title, head, rows)


def main() -> None:
    parts = {"denoising": denoising, "options": options}
    args = parser(__doc__, tuple(parts), seeds=1, steps=3000).parse_args()
    publish("dae_digits", "Denoising autoencoders on digits", {
        name: lambda name=name: parts[name](args.seeds, args.steps) for name in args.only
    }, len(args.only) == len(parts))  # fmt: skip


if __name__ == "__main__":
    main()
