"""The benchmark's table from what its cells hold; that each row is a model that can be made."""

import argparse
import json
import pathlib
import sys

import jax
import numpy as np
import pytest
import tiny

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "experiments"))

import benchmark
import cells
from cells import Cell

from jaxae.models import MODELS


def result(mse: float, elbo: float) -> dict:
    return {
        "reconstruction": {"mse": mse},
        "likelihood": {"elbo_nats": elbo, "iwae_nats": elbo + 1},
        "fidelity": {"samples": {"recall (digits-features-v1)": 0.25}},
    }


@pytest.fixture
def found():
    kept = {
        "results": [result(0.1, -90.0), result(0.3, -92.0)],
        "seeds_by": "vmap", "steps": 10, "parameters": 1234, "seconds_training": 6.0,
        "samples": np.full((12, 8, 8, 1), 255).tolist(),
    }  # fmt: skip
    return {"vae": Cell(kept, 60.0, cells.made_with(), found=False)}


def test_a_line_holds_mean_and_standard_error_over_seeds(found):
    head, _, line = benchmark.table(found, "digits").splitlines()
    cells = dict(zip(head.strip("| ").split(" | "), line.strip("| ").split(" | "), strict=False))
    assert cells["model"] == "vae"
    assert cells["MSE"] == "0.2000 ± 0.1000"  # deviation 0.1414 over the root of 2
    assert cells["-ELBO"] == "91.0 ± 1.0"
    assert cells["-IWAE"] == "90.0 ± 1.0"
    assert cells["recall"] == "0.250 ± 0.000"
    assert cells["linear probe"] == "–"
    assert (cells["parameters"], cells["s per seed"], cells["seeds"]) == ("1,234", "3", "at once")


def test_a_row_comes_again_bit_for_bit(tmp_path, monkeypatch):
    def quicker(*_):
        raise AssertionError("asked to measure what --seeds-by has settled")

    monkeypatch.setattr(benchmark, "FOLDER", tmp_path)
    monkeypatch.setattr(benchmark, "quicker", quicker)
    words = ["--only", "ae", "--steps", "2", "--seeds", "2", "--seeds-by", "sequence", "--again"]
    seen = []
    for _ in range(2):
        assert benchmark.main(words) == 0
        (file,) = tmp_path.glob("benchmark-ae-digits-*.json")
        seen.append(json.loads(file.read_text())["result"])
    assert seen[0]["seeds_by"] == "sequence"
    assert seen[0]["results"] == seen[1]["results"]


def test_files_hold_every_seed(found, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path)
    benchmark.write(argparse.Namespace(data="digits", steps=10, seeds=2, seeds_by="vmap"), found)
    lines = (tmp_path / "benchmark_digits.csv").read_text().splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("vae,0,0.1,90,89,")
    assert (tmp_path / "benchmark_digits.png").stat().st_size > 0
    text = (tmp_path / "benchmark_digits.md").read_text()
    assert "0.2000 ± 0.1000" in text
    assert "--data digits --seeds-by vmap`" in text


def test_there_is_a_row_for_every_model_of_images():
    assert set(benchmark.ROWS) == set(MODELS) - {"vqvae_audio"}


@pytest.mark.parametrize("name", benchmark.ROWS)
def test_every_row_is_a_model(name):
    config = MODELS[name].Config(**benchmark.fields_of(name, 1000))
    model = MODELS[name].make(config, tiny.images().spec)
    assert jax.eval_shape(model.init, jax.random.key(0)).step.shape == ()


def test_one_seed_is_refused(capsys):
    assert benchmark.main(["--seeds", "1"]) == 1
    assert "at least 2" in capsys.readouterr().err
