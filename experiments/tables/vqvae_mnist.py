"""VQ-VAE on MNIST: reconstruction against k-means, use of the codes, what the prior saves.

    python experiments/tables/vqvae_mnist.py --data-dir <folder that holds mnist/>

Trains and evaluates the preset `mnist` in runs/vqvae-mnist-table (a run that is there is continued
or, where it is finished, only evaluated), then fits k-means with as many centres as the codebook
has rows to the same images.
"""

import argparse
import json
import math
import pathlib
import shutil
import sys
import time

import numpy as np
from common import RESULTS, holds, shown, table

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from jaxae.command import main as command
from jaxae.recipes.vqvae import BITS, mnist

FOLDER = pathlib.Path("runs") / "vqvae-mnist-table"


def k_means(codes: int, data_dir: str | None) -> tuple[float, float]:
    """Squared error per pixel of k-means and of the mean image, on binarised test images."""
    from sklearn.cluster import KMeans

    from jaxae import evaluation
    from jaxae.data import load

    data = load("mnist", BITS, data_dir)
    train, test = (evaluation.pixels_of(split, 1000) for split in (data.train, data.test))
    found = KMeans(codes, n_init=1, max_iter=50, random_state=0).fit(train)
    nearest = found.cluster_centers_[found.predict(test)]
    return float(np.square(test - nearest).mean()), float(np.square(test - train.mean(0)).mean())


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--data-dir")
    words.add_argument("--steps", type=int, help="fewer steps, to see that it works")
    asked = words.parse_args()
    start, config = time.monotonic(), mnist().model
    data = ["--data-dir", asked.data_dir] if asked.data_dir else []
    folder = FOLDER if asked.steps is None else FOLDER.with_name(f"{FOLDER.name}-{asked.steps}")
    fewer = []
    if asked.steps is not None:
        fewer = ["--steps", str(asked.steps), "--stage-one", str(asked.steps // 2)]
    if command.main(["--model", "vqvae", "--recipe", "mnist", "--workdir", str(folder),
                     *fewer, *data]):  # fmt: skip
        sys.exit("the run failed")
    result = json.loads((folder / "result.json").read_text())
    value = lambda part, name: result["results"][part][name]["mean"]
    test, whole = (lambda name: value("test", name)), (lambda name: value("whole_set", name))
    probe = result["results"]["probes"]["codes"]["linear_accuracy"]
    clustered, mean = k_means(config.codes, asked.data_dir)
    places = test("rate_uniform") / math.log(config.codes)
    rates = {name: whole(f"rate_{name}") for name in ("uniform", "unigram", "prior")}
    numbers = [
        ("squared error per pixel, VQ-VAE", shown(test("squared_error"), 4)),
        (f"squared error per pixel, k-means of {config.codes}", shown(clustered, 4)),
        ("squared error per pixel, mean image", shown(mean, 4)),
        ("distortion", shown(test("distortion"))),
        *((f"rate, {name}", f"{rate:.2f} ({rate / places:.3f} a code)")
          for name, rate in rates.items()),
        *((f"bits/dim, {name}", shown(whole(f"bits_per_dim_{name}"), 4)) for name in rates),
        ("share of codes used, training set", shown(whole("codes_used_train"))),
        ("share of codes used, test set", shown(whole("codes_used_test"))),
        ("perplexity, training set", shown(whole("perplexity_train"))),
        ("linear probe on z_e", shown(probe["mean"], 4)),
    ]  # fmt: skip
    musts = [
        holds("squared error: VQ-VAE below k-means", test("squared_error"), clustered, 4),
        holds("more than half of the codes used", 0.5, whole("codes_used_test")),
        holds("with restarts no code of the training set is dead", 1.0, whole("codes_used_train")),
        holds("rate: prior below unigram", rates["prior"], rates["unigram"]),
        holds("rate: unigram below uniform", rates["unigram"], rates["uniform"]),
    ]
    text = f"""# VQ-VAE on MNIST

`python experiments/tables/vqvae_mnist.py`: preset `mnist` of `experiments/presets/vqvae.py`,
dynamic binarisation, one seed, {result["step"]} steps, {places:.0f} codes of {config.codes} for an
image; test set, nats per image. {time.monotonic() - start:.0f} s of wall time.

{table("Numbers", ("", "ours"), numbers)}
{table("What must hold", ("", "", ""), musts)}
Distortion and a rate together bound -log p(x). The unigram charges each code by its frequency on
the training set. k-means: scikit-learn, one start, on the 60,000 binarised training images.

![samples](vqvae_mnist_samples.png)

Environment: {json.dumps(result["environment"])}
"""
    print(text)
    if asked.steps is None:
        shutil.copy(folder / "figures" / "samples.png", RESULTS / "vqvae_mnist_samples.png")
        (RESULTS / "vqvae_mnist.md").write_text(text)


if __name__ == "__main__":
    main()
