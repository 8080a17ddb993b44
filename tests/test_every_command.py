"""Every model through the command that a user types, in a process of its own, and every recipe.

A model once could not be started by it while every test of the model was green. Recipes beside a
model's first, of data that needs no download, run in this process, by the function that the process
would call: each process costs seconds to start.
"""

import json
import pathlib
import subprocess
import sys

import pytest

from jaxae.command import main as command
from jaxae.models import MODELS
from jaxae.recipes import RECIPES

RUN = pathlib.Path(__file__).parents[1] / "experiments" / "run.py"
SHORT = ["--devices", "1", "--steps", "2", "--batch-size", "16", "--log-every", "2",
         "--eval-every", "2", "--eval-examples", "16", "--eval-batch", "16", "--save-every", "2",
         "--images", "0", "--iwae-samples", "1", "--test-examples", "16", "--probe-examples", "100",
         "--report-batch", "16"]  # fmt: skip


HERE = ("digits", "lines", "topics", "grid25", "ones_twos", "speech")
"""data sets that need no download"""
OTHERS = [
    (model, recipe)
    for model, recipes in RECIPES.items()
    for recipe, make in list(recipes.items())[1:]
    if make().data in HERE
]


def typed(*words):
    """What the command leaves: its exit code and what it printed."""
    return subprocess.run([sys.executable, RUN, *words], capture_output=True, text=True)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_runs_as_the_command_says(name, tmp_path):
    done = typed("--model", name, *SHORT, "--workdir", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "result.json").read_text())["step"] == 2


def test_the_first_recipes_need_no_download():
    assert all(next(iter(recipes.values()))().data in HERE for recipes in RECIPES.values())


NARROW = {("acai", "lines"): ["--depth", "2"], ("acai", "paper-lines"): ["--depth", "2"]}
"""channels at the full side of 32x32: convolutions as wide as the recipe's take most of a minute"""


@pytest.mark.parametrize(("model", "recipe"), OTHERS)
def test_every_other_recipe_runs_as_the_command_says(model, recipe, tmp_path, capsys):
    narrow = NARROW.get((model, recipe), [])
    words = ["--model", model, "--recipe", recipe, *SHORT, *narrow, "--workdir", str(tmp_path)]
    assert command.main(words) == 0, capsys.readouterr().err
    assert json.loads((tmp_path / "result.json").read_text())["step"] == 2


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_help(name):
    done = typed("--model", name, "--help")
    assert done.returncode == 0, done.stderr
    assert "--steps" in done.stdout
    assert "--binarise" in done.stdout


def test_flags_of_hashing_and_of_its_data():
    """Both once had a field of one name, and no flag could be read."""
    done = typed("--model", "hashing", "--print-config", "--binarise", "fixed")
    held = json.loads(done.stdout)
    assert (held["config"]["discretise"], held["options"]["binarise"]) == ("noise", "fixed")
