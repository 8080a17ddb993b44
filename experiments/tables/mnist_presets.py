"""The `mnist` presets of VAE and ACN, and ACN's baselines with the same PixelCNN decoder.

    python experiments/tables/mnist_recipes.py --data-dir <folder that holds mnist/> [--only vae]

Each row is a run of `experiments/run.py` in its own folder under runs/, which is continued or,
where it is finished, evaluated again; then one table of all. Up to ten minutes a row on two CPU
cores.
"""

import argparse
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from pipe_table import pipe_table  # noqa: E402

from jaxae.command import main as command  # noqa: E402

ROWS = {
    "vae": ["--model", "vae"],
    "acn-pixelcnn": ["--model", "acn"],
    "acn-pixelcnn-as-vae": ["--model", "acn", "--variant", "vae"],
    "acn-pixelcnn-decoder-alone": ["--model", "acn", "--variant", "decoder"],
    "acn-pixelcnn-bias": ["--model", "acn", "--pixelcnn-map", "0"],
    "acn-pixelcnn-bias-as-vae": ["--model", "acn", "--pixelcnn-map", "0", "--variant", "vae"],
}
RECIPES = ("vae", "acn-pixelcnn")  # whose time is stated: the others are variants


def row(name: str, result: dict) -> list[str]:
    """Command line, rate, distortion, bound, probe, time."""
    seen = result["results"]

    def number(value, digits=2):
        value = value["mean"] if isinstance(value, dict) else value
        return "–" if value is None else f"{value:.{digits}f}"

    test = {key.removesuffix("_given_neighbours"): value for key, value in seen["test"].items()}
    bound, whole = seen.get("likelihood", {}), seen.get("whole_set", {})
    codes, untrained = (seen["probes"][key] or {} for key in ("codes", "untrained_encoder"))
    minutes = (result["seconds_training"] + result["seconds_evaluating"]) / 60
    return [
        f"`{' '.join(ROWS[name])} --preset mnist`",
        number(test["rate"]),
        number(test["distortion"]),
        number(test["loss"]),
        number(whole.get("rate_unordered", test["rate"])),
        number(whole.get("total_unordered", test["loss"])),
        number(bound.get("iwae_nats")),
        number(codes.get("linear_accuracy"), 4),
        number(untrained.get("linear_accuracy"), 4),
        number(codes.get("knn_accuracy"), 4),
        number(minutes if name in RECIPES else None, 1),
    ]


def main() -> None:
    """Runs what is asked, prints the table, writes results/mnist_recipes.md."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--data-dir")
    words.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS))
    words.add_argument("--read", action="store_true", help="only read the finished runs")
    asked = words.parse_args()
    data = ["--data-dir", asked.data_dir] if asked.data_dir else []
    for name in asked.only if not asked.read else ():
        folder = pathlib.Path("runs") / f"mnist-{name}"
        if command.main([*ROWS[name], "--recipe", "mnist", "--workdir", str(folder), *data]):
            sys.exit(f"{name} failed")
    heads = ["run.py", "R", "D", "R + D", "unordered R", "unordered total", "IWAE-100",
             "linear probe", "untrained", "5-NN", "minutes"]  # fmt: skip
    rows = [heads]
    environment = None
    for name in ROWS:
        file = pathlib.Path("runs") / f"mnist-{name}" / "result.json"
        if file.exists():
            result = json.loads(file.read_text())
            environment = result["environment"]
            rows.append(row(name, result))
    text = f"""# The `mnist` presets on MNIST's test set

`python experiments/tables/mnist_recipes.py`, dynamic binarisation, one seed, nats per image.

{pipe_table(rows)}

R is the KL that training charges: to N(0, I) for a VAE, to the priors of the K nearest training
codes for ACN, whose R + D is therefore no bound on -log p(x). Unordered R charges every image by
one prior (for a VAE that is R), so that these and their totals can be compared; of ACN both are
means over 1,000 test images, so that unordered R and D do not add up to the total exactly. Probes
read the codes of grey images; `untrained` is the linear probe on the same encoder before training.
Minutes are training and evaluation, compilation included.

`--pixelcnn-map 0` adds the code to all places of the PixelCNN alike; the preset lays it out as a
map of the image's size.

Environment: {json.dumps(environment)}
"""
    (HERE / "results" / "mnist_recipes.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
