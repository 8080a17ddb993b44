"""The studies: what they declare, the store of runs, the cache of measures, verdicts and pages."""

import dataclasses
import importlib
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "experiments"))

import study as command
from studylib import code, declare, pages, store, summaries
from studylib.declare import Claim, Measure, Run, Study, verdict

from jaxae import recipes
from jaxae.models import MODELS
from jaxae.settings import UsageError, with_changes
from jaxae.training.loop import Stopped

EXPERIMENTS = command.HERE
NAMES = command.NAMES
RUNS = [(name, label) for name in NAMES for label in command.study_of(name).runs]


# -- what studies declare --------------------------------------------------------------------------


def fields(settings) -> dict:
    """Every setting of a run by its name."""
    groups = (settings.model, settings.plan, settings.options, settings.report)
    return {"data": settings.data} | {k: v for group in groups for k, v in vars(group).items()}


@pytest.mark.parametrize(("name", "label"), RUNS)
def test_a_run_differs_from_its_recipe_in_what_it_names(name, label):
    run = command.study_of(name).runs[label]
    ours, recipe = fields(run.settings()), fields(recipes.get(run.model, run.recipe))
    differing = {key for key in recipe if ours[key] != recipe[key]} - {"seed", "seeds"}
    assert differing == set(run.changes), "a change repeats the recipe, or is not named"


@pytest.mark.parametrize("name", NAMES)
def test_a_study_is_whole(name):
    study = command.study_of(name)
    assert set(study.measures) <= {"*", *study.runs}
    for part in (*study.claims, *study.pictures.values()):
        assert set(part.runs) <= set(study.runs)
    for claim in study.claims:
        assert claim.picture is None or claim.picture in study.pictures
        seeds = {(study.runs[r].first_seed, study.runs[r].seeds) for r in claim.runs}
        assert len(seeds) == 1, "a claim compares the same seeds"
        first, count = seeds.pop()
        assert first == declare.FIRST_SEED
        assert count >= 3
    keys = [command.Store().key(run)[0] for run in study.runs.values()]
    assert len(set(keys)) == len(keys), "two runs of one name each are the same run"
    for label in study.runs:
        names = [measure.__name__ for measure in study.measures_of(label)]
        assert len(set(names)) == len(names)


def test_no_claim_is_named_twice():
    claims = [claim.name for name in NAMES for claim in command.study_of(name).claims]
    assert len(claims) == len(set(claims)) == 13


def test_an_unknown_change_is_named():
    with pytest.raises(UsageError, match="unknown field 'gama'; did you mean gamma"):
        Run("vaegan", "digits", {"gama": 1.0}).settings()
    settings = with_changes(recipes.get("vae"), {"data": "mnist", "latent": 3, "steps": 7})
    assert (settings.data, settings.model.latent, settings.plan.steps) == ("mnist", 3, 7)


# -- verdicts --------------------------------------------------------------------------------------


def test_the_interval_is_students():
    values = [0.3, 0.5, 0.1, 0.45]
    mean, low, high = Measure("x", values).interval
    wanted = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    np.testing.assert_allclose((low, high), wanted)
    assert mean == pytest.approx(0.3375)
    with pytest.raises(ValueError, match="one seed has no error"):
        _ = Measure("x", [1.0]).interval


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1.0, 1.1, 0.9], "reproduced"),
        ([-1.0, -1.1, -0.9], "not reproduced"),
        ([1.0, -1.0, 0.5], "inconclusive"),
        ([1.0, float("nan"), 1.0], "inconclusive"),
    ],
)
def test_a_measure_is_judged_by_its_interval(values, said):
    assert Measure("x", values).verdict == said


@pytest.mark.parametrize(
    ("sign", "margin", "said"),
    [
        (1, 0.74, "reproduced"), (1, 0.76, "inconclusive"),
        (-1, 0.74, "not reproduced"), (-1, 0.76, "inconclusive"),
    ],
)  # fmt: skip
def test_a_margin_between_machines_must_be_cleared(sign, margin, said):
    """1 ± t(0.975, 2) 0.1 / sqrt(3) = 1 ± 4.303 x 0.0577 ends at 0.752."""
    assert Measure("x", [sign * v for v in (1.0, 1.1, 0.9)], margin=margin).verdict == said


def test_a_claim_holds_if_all_of_it_does():
    yes, no, open_ = (Measure("x", v) for v in ([1.0, 1.1], [-1.0, -1.01], [1.0, -1.0]))
    assert verdict([yes, yes]) == "reproduced"
    assert verdict([yes, open_]) == "inconclusive"
    assert verdict([open_, no, yes]) == "not reproduced"


# -- what a result depends on ----------------------------------------------------------------------

ONE = '''"""A module."""
import two
from two import CONSTANT, helper
from jaxae import evaluation

LOCAL = 3


def part(x):
    return x + LOCAL


def measure(run):
    """Says."""
    return {"a": helper(part(run)) + CONSTANT}


def other(run):
    return {"b": 1}


def drawn(run):
    return evaluation.knn_probe
'''
TWO = "CONSTANT = 1\n\n\ndef helper(x):\n    return x\n"


@pytest.fixture
def digests(tmp_path, monkeypatch):
    """Texts of the modules `one` and `two` -> digests of functions of `one`."""
    monkeypatch.setattr(code, "EXPERIMENTS", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def find(*functions, one=ONE, two=TWO):
        for name, text in {"one": one, "two": two}.items():
            (tmp_path / f"{name}.py").write_text(text)
            sys.modules.pop(name, None)
        for cache in (code._module, code._top, code._origins):
            cache.cache_clear()
        importlib.invalidate_caches()
        module = importlib.import_module("one")
        return tuple(code.function_digest(getattr(module, f)) for f in functions)

    yield find
    for name in ("one", "two"):
        sys.modules.pop(name, None)
    for cache in (code._module, code._top, code._origins):
        cache.cache_clear()


def test_a_measure_depends_on_what_it_uses_and_on_nothing_else(digests):
    measure, other = digests("measure", "other")
    both = ("measure", "other")
    same = ONE.replace("Says.", "Says more.").replace(
        "    return x + LOCAL", "    return x+LOCAL # so"
    )
    assert digests(*both, one=same) == (measure, other)
    for change in (
        {"one": ONE.replace("LOCAL = 3", "LOCAL = 4")},
        {"one": ONE.replace("x + LOCAL", "x - LOCAL")},
        {"one": ONE.replace("helper(part(run))", "helper(run)")},
        {"two": TWO.replace("return x", "return -x")},
        {"two": TWO.replace("CONSTANT = 1", "CONSTANT = 2")},
    ):
        changed = digests(*both, **change)
        assert changed[0] != measure, change
        assert changed[1] == other, change
    changed = digests(*both, one=ONE.replace('{"b": 1}', '{"b": 2}'))
    assert (changed[0], changed[1] == other) == (measure, False)


def test_a_measure_depends_on_the_module_that_a_package_takes_it_from(digests, monkeypatch):
    (before,) = digests("drawn")
    true = code._module
    touched = lambda name: ("changed", []) if name == "jaxae.evaluation.probes" else true(name)
    touched.cache_clear = true.cache_clear
    monkeypatch.setattr(code, "_module", touched)
    (after,) = digests("drawn")
    assert before != after
    unrelated = lambda name: ("changed", []) if name == "jaxae.evaluation.figures" else true(name)
    unrelated.cache_clear = true.cache_clear
    monkeypatch.setattr(code, "_module", unrelated)
    assert digests("drawn") == (before,)


def test_training_depends_on_its_own_model_and_on_no_plot_or_measure():
    modules = ["jaxae.models.nvae.model", "jaxae.training.loop", "jaxae.data"]
    found = code.module_digests(modules, store.AROUND_TRAINING)
    assert {"jaxae.models.nvae.cells", "jaxae.training.state", "jaxae.training.parallel",
            "jaxae.data.split"} <= set(found)  # fmt: skip
    parts = {name.split(".")[1] for name in found if "." in name}
    assert not {"evaluation", "command", "recipes"} & parts
    models = {name.split(".")[2] for name in found if name.startswith("jaxae.models.")}
    assert models == {"nvae", "shared"}
    assert not set(store.AROUND_TRAINING) & set(found)


# -- the store -------------------------------------------------------------------------------------

TINY = {"steps": 4, "widths": (8,), "latent": 2, "batch_size": 8, "log_every": 2, "save_every": 2,
        "devices": 1}  # fmt: skip
VAE = Run("vae", "digits", TINY, seeds=2, first_seed=5)
CALLS = []


def loss(run: declare.Trained) -> dict:
    """The last training loss of the records, and something with an axis of its own."""
    CALLS.append(run.seed)
    return {"loss": run.records[-1]["train/loss"], "shape": np.arange(3) + run.seed}


@pytest.fixture
def kept(tmp_path):
    CALLS.clear()
    return store.Store(tmp_path)


def test_a_run_is_trained_once_and_measured_once(kept, monkeypatch):
    assert kept.status(VAE) == "missing"
    known = kept.train(VAE, quiet=True)
    assert kept.status(VAE) == "done"
    numbers = kept.measured(VAE, loss)
    assert numbers["loss"].shape == (2,)
    assert numbers["shape"].tolist() == [[5, 6, 7], [6, 7, 8]]
    assert CALLS == [5, 6]
    again = store.Store(kept.folder)  # as a new process finds it
    monkeypatch.setattr(store, "fit", None)  # would raise
    assert again.train(VAE) == known
    np.testing.assert_array_equal(again.measured(VAE, loss)["loss"], numbers["loss"])
    assert CALLS == [5, 6]
    seeds = again.trained(VAE)
    assert [seed.seed for seed in seeds] == [5, 6]
    assert seeds[0].records[-1]["step"] == 4
    (file,) = kept.path(VAE).glob("measures/loss-*.json")
    file.unlink()
    assert not again.is_measured(VAE, loss)


def narrow(config, spec):
    """A VAE whose code has three dimensions, whatever the settings say."""
    return MODELS["vae"].make(dataclasses.replace(config, latent=3), spec)


def test_a_run_trains_the_model_of_its_make(kept):
    run = dataclasses.replace(VAE, seeds=1, make=narrow)
    kept.train(run, quiet=True)
    (seed,) = store.Store(kept.folder).trained(run)
    assert seed.state.params["dec"]["Dense_0"]["kernel"].shape[0] == 3
    assert kept.key(run) != kept.key(dataclasses.replace(run, make=None))


def test_other_code_or_settings_are_another_run(kept, monkeypatch):
    kept.train(VAE, quiet=True)
    longer = dataclasses.replace(VAE, changes=TINY | {"steps": 6})
    assert kept.status(longer) == "missing"
    true = store.module_digests
    monkeypatch.setattr(store, "module_digests", lambda *args: true(*args) | {"changed": "x"})
    assert kept.status(VAE) == "stale"
    kept.train(VAE, quiet=True)
    assert kept.status(VAE) == "done"
    assert len([*kept.folder.iterdir()]) == 2
    kept.remove_stale(VAE)
    assert [*kept.folder.iterdir()] == [kept.path(VAE)]


def test_training_that_was_stopped_goes_on(kept, tmp_path, monkeypatch):
    """Oracle: the run that was not stopped, bit for bit."""
    whole = store.Store(tmp_path / "whole")
    whole.train(VAE, quiet=True)
    true = store.fit

    def stopped(model, data, plan, *args, **how):
        true(model, data, dataclasses.replace(plan, steps=2), *args, **how)
        raise Stopped(15, 2, True)

    monkeypatch.setattr(store, "fit", stopped)
    with pytest.raises(Stopped):
        kept.train(VAE, quiet=True)
    assert kept.status(VAE) == "started"
    monkeypatch.setattr(store, "fit", true)
    kept.train(VAE, quiet=True)
    for ours, wanted in zip(kept.trained(VAE), whole.trained(VAE), strict=True):
        np.testing.assert_array_equal(
            ours.state.params["dec"]["Dense_0"]["kernel"],
            wanted.state.params["dec"]["Dense_0"]["kernel"],
        )


# -- pages -----------------------------------------------------------------------------------------


def small_study() -> Study:
    """Two runs, a claim of the difference of their losses, and a page."""
    other = Run("vae", "digits", TINY | {"latent": 3}, seeds=2, first_seed=5)
    difference = lambda numbers: [Measure("gap", numbers["two"]["loss"] - numbers["one"]["loss"])]
    rows = lambda numbers: pages.rows_of(["loss"], {k: [v["loss"]] for k, v in numbers.items()})
    claim = Claim("gap", "A gap", "nowhere", "Equal.", ("one", "two"), difference, rows)
    return Study(
        title="A small study",
        runs={"one": VAE, "two": other},
        measures={"*": (loss,)},
        page=lambda numbers: [f"sum {numbers['one']['loss'].sum():.4f}"],
        claims=[claim],
    )


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The command with one small study, its results and texts in a folder of their own."""
    study = small_study()
    monkeypatch.setattr(command, "NAMES", ["small"])
    monkeypatch.setattr(command, "study_of", lambda name: study)
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(command, "FOLDER", tmp_path / "runs")
    monkeypatch.setattr(command, "HERE", tmp_path / "experiments")
    monkeypatch.setattr(summaries, "ROOT", tmp_path)
    for name in ("README", "CLAIMS"):
        monkeypatch.setattr(summaries, name, tmp_path / f"{name}.md")
    summaries.README.write_text(f"# Title\n\n{summaries.FIRST}\nold\n{summaries.LAST}\n\nEnd\n")
    CALLS.clear()
    return tmp_path


def test_a_study_from_end_to_end(small, capsys):
    assert command.main(["--list"]) == 0
    assert capsys.readouterr().out.count("missing") == 2
    assert command.main(["small", "--only", "one"]) == 0
    assert "1 of 2 runs are still to be done" in (small / "results" / "small.md").read_text()
    assert command.main(["small"]) == 0
    assert CALLS == [5, 6, 5, 6]
    held = json.loads((small / "results" / "small.json").read_text())
    values = np.array(held["claims"]["gap"]["measures"][0]["values"])
    losses = {run: np.array(held["numbers"][run]["loss"]) for run in ("one", "two")}
    np.testing.assert_allclose(values, losses["two"] - losses["one"], rtol=1e-4)
    said = verdict([Measure("gap", values)])
    page = (small / "results" / "small.md").read_text()
    assert f"sum {losses['one'].sum():.4f}" in page
    assert f"**{said}** · nowhere" in page
    assert f"| `small` | A gap | {said} |" in summaries.CLAIMS.read_text()
    readme = summaries.README.read_text()
    assert readme.startswith("# Title\n")
    assert readme.endswith(f"{summaries.LAST}\n\nEnd\n")
    assert f"| A gap | {said} |" in readme
    capsys.readouterr()
    assert command.main(["--list"]) == 0
    assert capsys.readouterr().out.count("done") == 2
    assert command.main(["--check"]) == 0
    summaries.CLAIMS.write_text("other")
    assert command.main(["--check"]) == 1
    assert "CLAIMS.md is not what" in capsys.readouterr().out
    assert command.main(["--write"]) == 0
    assert command.main(["--check"]) == 0


def test_a_trial_leaves_the_results_alone(small, capsys):
    assert command.main(["small", "--steps", "2", "--seeds", "2"]) == 0
    assert "# A small study" in capsys.readouterr().out
    assert not (small / "results").exists()
    assert {p.name for p in (small / "runs").iterdir()} == {"trials"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], "no study 'nothing'; there are small"),
        (["small", "--only", "three"], "no run matches three"),
        (["small", "--seeds", "0"], "--seeds and --steps must be at least 1"),
    ],
)
def test_a_mistake_is_named(small, words, said, capsys):
    assert command.main(words) == 1
    assert said in capsys.readouterr().err


def test_pages_and_readme_are_what_the_stored_numbers_say():
    done = subprocess.run(
        [sys.executable, EXPERIMENTS / "study.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_command_runs_a_study_in_processes(tmp_path):
    """A real study, two runs of it by four steps, two processes at a time."""
    words = ["vaegan", "--only", "VAE/GAN after *", "GAN, conditional", "--steps", "4", "--seeds",
             "1", "--jobs", "2", "--data", "digits"]  # fmt: skip
    done = subprocess.run([sys.executable, EXPERIMENTS / "study.py", *words], cwd=tmp_path,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[2/2] vaegan: GAN, conditional" in done.stdout
    assert len([*(tmp_path / "runs" / "studies" / "trials").glob("vaegan-*/done.json")]) == 2
