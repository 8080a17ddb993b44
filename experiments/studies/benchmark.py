"""All models under one protocol.

The same data, batches of 100, as many steps, encoder and decoder of the same widths and codes of
the same size where a paper allows it (exceptions stand in the table), Adam at 1e-3 falling along a
cosine where a paper does not ask for another rate. Measured by `evaluation.assess_run`, which knows
the contract of a model and no model by name.
"""

import jax
import numpy as np
from studylib.declare import Picture, Run, Study, Trained
from studylib.pages import table

from jaxae import evaluation
from studies.common import PROBE_CODES, mean_error, sample_rows, untrained

SEEDS, STEPS, BATCH, WIDTHS, LATENT = 3, 3000, 100, (256, 256), 16
LIMIT, IWAE_SAMPLES = 2000, 50  # test images; k of the importance-weighted bound


def protocol(steps: int = STEPS) -> dict:
    """What all rows share. Rates fall over the whole run."""
    return {"steps": steps, "decay_steps": steps, "batch_size": BATCH}


SAME = {"latent": LATENT, "widths": WIDTHS}
ON_MNIST = {"data": "mnist"}  # of rows whose nearest recipe is that of the 8x8 digits
BIGAN = {"critic_rate": 1e-3, "learning_rate": 5e-4}
# model -> recipe, changes, what differs from the common protocol
ROWS = {
    "ae": ("mnist", protocol() | SAME, ""),
    "hashing": ("mnist", protocol() | {"widths": WIDTHS}, "32 bits"),
    "dae": ("mnist", protocol() | SAME | {"levels": (0.25,)}, "masks a quarter of the pixels"),
    "vae": ("mnist", protocol() | SAME | {"warmup_steps": 0}, ""),
    "gan": ("mnist", protocol() | SAME | BIGAN, "no encoder; R1, its own rates"),
    "vaegan": ("mnist", protocol() | SAME, "rates of its recipe"),
    "aae": ("digits", ON_MNIST | {"latent": LATENT, "batch_size": BATCH}, ""),
    "ali": ("mnist", protocol() | SAME | BIGAN, "BiGAN: batch norm, its own rates"),
    "vqvae": ("digits", ON_MNIST | protocol() | {"conv_width": 16, "stage_one": 0,
              "prior_width": 16, "prior_decay_steps": 0}, "convolutions; a map of codes"),
    "acn": ("digits", ON_MNIST | protocol() | {"decoder": "mlp", "prior_widths": (256,)},
            "independent pixels"),
    "iae": ("mnist", protocol() | {"latent": LATENT, "local": 50, "local_start": STEPS // 2,
            "local_warmup": STEPS // 3}, "50 numbers of noise, from half of the steps on"),
    "nvae": ("mnist", protocol(STEPS // 4) | {"groups": (1, 1), "latent": 4, "blocks": 1},
             "convolutions; two groups; a quarter of the steps"),
    "acai": ("mnist", protocol(STEPS // 2) | {"side": 32, "channels": 1},
             "convolutions at 32x32; half of the steps"),
    "alae": ("mnist", protocol() | SAME, ""),
}  # fmt: skip
SAMPLERS = tuple(name for name in ROWS if name not in ("ae", "hashing", "dae", "acai"))
# column -> where in the result it stands, digits; {F} is the name of the feature network for grey
# images, with which means are compared, and {B} of the one for bits, with which draws are.
COLUMNS = {
    "MSE": ("reconstruction/mse", 4),
    "-ELBO": ("likelihood/elbo_nats", 1),
    "-IWAE": ("likelihood/iwae_nats", 1),
    "linear probe": ("probes/codes/linear_accuracy", 3),
    "kNN probe": ("probes/codes/knn_accuracy", 3),
    "k-means": ("clusters/accuracy", 3),
    "codes vs prior": ("codes_vs_prior/energy/statistic", 3),
    "Fréchet": ("fidelity/samples/Frechet distance ({F})", 1),
    "precision": ("fidelity/samples/precision ({F})", 3),
    "recall": ("fidelity/samples/recall ({F})", 3),
    "Fréchet, bits": ("fidelity/samples/Frechet distance ({B})", 1),
    "precision, bits": ("fidelity/samples/precision ({B})", 3),
    "recall, bits": ("fidelity/samples/recall ({B})", 3),
}
NEGATED = ("-ELBO", "-IWAE")


def columns(run: Trained) -> dict[str, float]:
    """The columns that apply to the model, its size and its training."""
    data, plan = run.data, run.settings.plan
    result = evaluation.assess_run(
        run.model, run.state, untrained(run).state, data, rng=run.rng(), batch_size=250,
        iwae_samples=IWAE_SAMPLES, probe_train_limit=PROBE_CODES, limit=LIMIT, per_example=False,
        probe_data=data.unbinarised,
    )  # fmt: skip
    names = {"F": evaluation.FEATURES[data.name], "B": evaluation.BIT_FEATURES[data.name]}
    found = {name: value_at(result, path.format(**names)) for name, (path, _) in COLUMNS.items()}
    return {
        **{k: -v if k in NEGATED else v for k, v in found.items() if v is not None},
        "parameters": sum(np.size(leaf) for leaf in jax.tree.leaves(run.state.params)),
        "steps": plan.steps,
        "s per seed": run.records[-1]["seconds"] / plan.seeds,
    }


def value_at(result: dict, path: str) -> float | None:
    """The number at a path like `probes/codes/linear_accuracy`, None where there is none."""
    for part in path.split("/"):
        if not isinstance(result, dict) or part not in result:
            return None
        result = result[part]
    return result


def page(numbers):
    """A row per model."""
    rows = []
    for name, (_, _, note) in ROWS.items():
        of = numbers[name]
        shown = [mean_error(of[column], digits) if column in of else "–"
                 for column, (_, digits) in COLUMNS.items()]  # fmt: skip
        rows.append([
            name, *shown, f"{of['parameters'][0]:,}", f"{of['steps'][0]:,}",
            f"{of['s per seed'][0]:.0f}", note,
        ])  # fmt: skip
    yield table(
        f"{STEPS} steps of {BATCH}, widths {WIDTHS}, codes of {LATENT} numbers, {SEEDS} seeds",
        ["model", *COLUMNS, "parameters", "steps", "s per seed", "differs in"],
        rows,
        f"Mean ± standard error over seeds of numbers on {LIMIT:,} test images. MSE: of a pixel "
        "through encode and decode, of mean images against grey ones, and of draws against images "
        f"as training sees them. Bounds in nats, k = {IWAE_SAMPLES}; they compare only among "
        "models of binarised images. Probes: logistic regression and 5 nearest neighbours on codes "
        f"of {PROBE_CODES:,} training images. k-means: accuracy after matching. Codes vs prior: "
        "energy distance. Fréchet, precision, recall: samples against test images, of means and of "
        f"bits apart, in {evaluation.FEATURES['mnist']} and in {evaluation.BIT_FEATURES['mnist']}; "
        'the two do not compare, nor does either with an FID. "–": the model has no such thing. '
        "This is one small budget, and no ranking of papers.",
    )
    yield "![samples](benchmark-samples.png)"


STUDY = Study(
    title="All models under one protocol",
    runs={name: Run(name, recipe, changes, SEEDS) for name, (recipe, changes, _) in ROWS.items()},
    measures={"*": (columns,)},
    page=page,
    pictures={"samples": Picture(SAMPLERS, sample_rows(SAMPLERS, "Samples of all models"))},
)
