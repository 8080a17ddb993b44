"""The benchmark's table from the numbers of its runs; that each row is a model that can be made."""

import pathlib
import sys

import jax
import numpy as np
import pytest
import tiny

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "experiments"))

from studies import benchmark

from jaxae.models import MODELS


def test_a_line_holds_mean_and_standard_error_over_seeds():
    known = {"parameters": [1234, 1234], "steps": [3000, 3000], "s per seed": [3.2, 3.2]}
    of_vae = known | {"MSE": [0.1, 0.3], "-ELBO": [90.0, 92.0], "recall": [0.25, 0.25]}
    numbers = dict.fromkeys(benchmark.ROWS, known) | {"vae": of_vae}
    text, picture = benchmark.page({
        name: {column: np.array(values) for column, values in of.items()}
        for name, of in numbers.items()
    })  # fmt: skip
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    head, line = (next(x for x in lines if x.startswith(f"| {w} ")) for w in ("model", "vae"))
    cells = dict(zip(head.strip("| ").split(" | "), line.strip("| ").split(" | "), strict=False))
    assert cells["MSE"] == "0.2000 ± 0.1000"  # deviation 0.1414 over the root of 2
    assert cells["-ELBO"] == "91.0 ± 1.0"
    assert cells["recall"] == "0.250 ± 0.000"
    assert cells["linear probe"] == "–"
    assert (cells["parameters"], cells["steps"], cells["s per seed"]) == ("1,234", "3,000", "3")
    assert picture == "![samples](benchmark-samples.png)"


def test_a_number_is_read_from_the_report_and_one_that_is_not_there_is_none():
    report = {"reconstruction": {"mse": 0.1}, "whole_set": None}
    assert benchmark.value_at(report, "reconstruction/mse") == 0.1
    assert benchmark.value_at(report, "reconstruction/mae") is None
    assert benchmark.value_at(report, "whole_set/error") is None


def test_there_is_a_row_for_every_model_of_images():
    assert set(benchmark.STUDY.runs) == set(MODELS) - {"vqvae_audio"}


@pytest.mark.parametrize("name", benchmark.STUDY.runs)
def test_every_row_is_a_model_under_the_protocol(name):
    settings = benchmark.STUDY.runs[name].settings()
    assert (settings.data, settings.plan.batch_size, settings.plan.seeds) == ("mnist", 100, 3)
    assert settings.plan.steps == {"nvae": 750, "acai": 1500}.get(name, 3000)
    assert getattr(settings.model, "decay_steps", settings.plan.steps) == settings.plan.steps
    assert getattr(settings.model, "widths", (256, 256)) == (256, 256)
    model = MODELS[name].make(settings.model, tiny.images().spec)
    assert jax.eval_shape(model.init, jax.random.key(0)).step.shape == ()
