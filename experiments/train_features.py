"""Trains the frozen feature network of a data set and writes it into the package.

    python experiments/train_features.py --data mnist --data-dir DIR
    python experiments/train_features.py --data digits
    python experiments/train_features.py --data digits --bits

The same command on the same machine and versions writes the same bytes. A file that is there is
overwritten with --replace only: what was measured by it could not be compared any more.
"""

import argparse
import json
import pathlib
import sys

import numpy as np

from jaxae import evaluation
from jaxae.data import DataError, Options, load
from jaxae.evaluation import features
from jaxae.evaluation.classifier import Network, accuracy, fit_classifier, network_functions

FOLDER = pathlib.Path(features.__file__).parent / "weights"
SEED = 0
STEPS = 6000
SHIFTS = {"mnist": 2, "digits": 1}  # pixels, up to which training images are moved


def made(
    name: str, data_dir: str | None, steps: int = STEPS, bits: bool = False
) -> dict[str, np.ndarray]:
    """What the file of a data set holds: the weights in float16, and `about`, a JSON text.

    Args:
        name: of the data set.
        data_dir: as `jaxae.data.load` has it.
        steps: of training.
        bits: train on pixels that are drawn as 0 or 1 anew at every visit, in place of grey levels.
    """
    data = load(name, Options(binarise="dynamic" if bits else "none"), data_dir)
    network = Network(data.spec.classes, features.WIDTH)
    held = features.flatten_params(fit_classifier(network, data, SEED, steps, SHIFTS[name]))
    _, logits = network_functions(
        network, features.unflatten_params(held)
    )  # as they are after rounding
    versions = evaluation.environment()
    about = {
        "name": named(bits)[name],
        "command": f"python experiments/train_features.py --data {name}"
        + (" --bits" if bits else "")
        + (" --data-dir DIR" if data_dir else ""),
        "data": name,
        "train_images": data.train.size,
        "test_images": data.test.size,
        "test_accuracy": accuracy(logits, data.test),
        "image_shape": data.spec.image_shape,
        "classes": data.spec.classes,
        "width": features.WIDTH,
        "seed": SEED,
        "steps": steps,
        "shift": SHIFTS[name],
        "versions": {key: versions[key] for key in ("python", "jax", "flax", "optax", "numpy")},
        "backend": versions["backend"],
    }
    if bits:
        about["test_accuracy_grey"] = accuracy(logits, data.unbinarised.test)
    return held | {"about": np.array(json.dumps(about))}


def named(bits: bool) -> dict[str, str]:
    """The networks' names by data set."""
    return features.BIT_FEATURES if bits else features.FEATURES


def main() -> int:
    """Trains and writes; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, choices=list(features.FEATURES))
    parser.add_argument("--bits", action="store_true", help="a network for binarised images")
    parser.add_argument("--data-dir", help="folder that holds mnist/")
    parser.add_argument("--out", type=pathlib.Path, help="default: into the package")
    parser.add_argument("--replace", action="store_true", help="overwrite the file")
    args = parser.parse_args()
    file = args.out or FOLDER / f"{named(args.bits)[args.data]}.npz"
    if file.exists() and not args.replace:
        print(f"error: {file} is there; --replace overwrites it", file=sys.stderr)
        return 1
    try:
        held = made(args.data, args.data_dir, bits=args.bits)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, **held)
    print(json.dumps(json.loads(held["about"].item()), indent=2))
    print(f"{file}: {file.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
