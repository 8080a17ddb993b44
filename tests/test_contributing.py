"""The worked example of CONTRIBUTING.md: its blocks are a model and a recipe that train."""

import importlib
import pathlib
import re
import sys
import types

import numpy as np
import pytest
import tiny

from jaxae import models, recipes
from jaxae.command import main as command

TEXT = (pathlib.Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()


@pytest.fixture
def added(monkeypatch):
    """The blocks as the modules that their first lines name, with the names of step 3."""
    for path, block in re.findall(r"```python\n# (jaxae/\S+)\.py\n(.*?)```", TEXT, re.S):
        name = path.replace("/", ".")
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(block, path, "exec"), vars(module))
    model = importlib.import_module("jaxae.models.ksparse")
    monkeypatch.setitem(models.MODELS, "ksparse", model)
    recipe = importlib.import_module("jaxae.recipes.ksparse")
    monkeypatch.setitem(recipes.RECIPES, "ksparse", recipe.RECIPES)
    return model


def test_the_example_keeps_the_largest_numbers_and_learns(added):
    data = tiny.images()
    model = added.make(added.Config(latent=9, k=3), data.spec)
    from jaxae.training import fit

    fitted = fit(model, data, tiny.plan(steps=40), quiet=True)
    losses = [record["train/loss"] for record in fitted.records]
    assert losses[-1] < 0.8 * losses[0]
    batch = data.train.batch(0, 0, 16)
    (state,) = fitted.states
    code = np.asarray(model.encode(state, batch["image"], None))
    whole = np.asarray(
        added.make(added.Config(latent=9, k=9), data.spec).encode(state, batch["image"], None)
    )
    for kept, z in zip(code, whole, strict=True):
        np.testing.assert_array_equal(np.flatnonzero(kept), np.sort(np.argsort(z)[-3:]))
    with pytest.raises(ValueError, match="k=4 must be at most latent=3"):
        added.Config(latent=3, k=4)


def test_the_command_knows_the_example(added, tmp_path, capsys):
    words = ["--model", "ksparse", "--steps", "4", "--batch-size", "16", "--log-every", "2",
             "--devices", "1", "--images", "0", "--probe-examples", "60", "--test-examples", "20",
             "--report-batch", "20", "--k", "5", "--workdir", str(tmp_path)]  # fmt: skip
    assert command.main(words) == 0
    assert "ksparse on digits, step 4" in capsys.readouterr().out
