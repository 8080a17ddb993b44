"""Claims and benchmark: verdicts, cells that are found again, and one claim from end to end."""

import importlib.util
import json
import pathlib
import sys

import numpy as np
import pytest
from scipy import stats

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "experiments"))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "experiments" / "claims"))

import cells
import claims_common
import readme
from claims_common import HERE as CLAIMS
from claims_common import Measure, verdict


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


def test_a_claim_holds_if_all_of_it_does():
    yes, no, open_ = (Measure("x", v) for v in ([1.0, 1.1], [-1.0, -1.01], [1.0, -1.0]))
    assert verdict([yes, yes]) == "reproduced"
    assert verdict([yes, open_]) == "inconclusive"
    assert verdict([open_, no, yes]) == "not reproduced"


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A repository of three modules, of which `one` imports `two`."""
    for name, text in {"one": "from two import x\nimport math\n", "two": "x = 1\n",
                       "three": "y = 2\n"}.items():  # fmt: skip
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(cells, "ROOT", tmp_path)
    cells._file.cache_clear()
    yield tmp_path
    cells._file.cache_clear()


def test_a_cell_is_computed_once_until_its_code_or_settings_change(code):
    calls = []

    def compute():
        calls.append(len(calls))
        return {"number": 0.1 + len(calls)}

    folder = code / "cells"
    get = lambda settings=1, **how: cells.cell(
        "c", settings, ["one"], compute, folder=folder, **how
    )
    first, second = get(), get()
    assert (first.found, second.found, len(calls)) == (False, True, 1)
    assert first.result == second.result
    assert not get(settings=2).found
    (code / "three.py").write_text("y = 3\n")
    assert get().found
    (code / "two.py").write_text("x = 2\n")  # imported
    assert not get().found
    assert not get(again=True).found
    assert not list(folder.glob("*.part"))


def test_a_docstring_is_no_code(code):
    def hashes(text):
        (code / "two.py").write_text(text)
        return cells.sources(["one"])["two.py"]

    first = hashes('"""A line."""\n\n\ndef f(x):\n    """Says."""\n    return x + 1\n')
    more = '"""A line.\n\nAnother."""\n\n\ndef f(x):\n    """Says more\n    of it.\n    """\n'
    assert hashes(more + "    return x + 1\n") == first
    assert hashes(more + "    return x + 2\n") != first
    named = 'NAME = "A line."\n'
    assert hashes(named) != hashes(named.replace("line", "word"))
    short = 'def f(x): "Says."\n'
    assert hashes(short) != hashes(short.replace("x", "y"))


def test_sources_are_what_is_imported_and_nothing_else(code):
    assert list(cells.sources(["one"])) == ["one.py", "two.py"]
    assert list(cells.sources(["three", "numpy"])) == ["three.py"]


def test_a_models_cell_does_not_depend_on_another_model():
    found = cells.sources(["jaxae.models.vae"])
    assert "jaxae/models/vae.py" in found
    assert "jaxae/losses/likelihood.py" in found
    assert "jaxae/training/state.py" in found
    assert not {"jaxae/models/acn.py", "jaxae/models/__init__.py"} & set(found)


def test_a_claims_cell_depends_on_the_tables_that_it_borrows_from():
    found = cells.sources(["c11_lines_vqvae_and_acai"])
    tables = {f"experiments/tables/{name}.py" for name in ("common", "acai_lines")}
    assert tables <= set(found)


def test_a_claims_cell_depends_on_its_own_models_alone():
    found = cells.sources(["c13_hierarchy_beats_one_level"])
    assert "jaxae/models/nvae_cells.py" in found
    assert not {f"jaxae/models/{name}.py" for name in ("__init__", "acn", "gan")} & set(found)


def test_a_claim_is_tested_written_and_found_again(tmp_path, monkeypatch, capsys):
    # Not `import run`, which is the command's module of the same name.
    spec = importlib.util.spec_from_file_location("run_claims", CLAIMS / "run.py")
    run_claims = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run_claims)
    monkeypatch.setattr(run_claims, "FOUND", tmp_path / "found")
    monkeypatch.setattr(run_claims, "TEXT", tmp_path / "CLAIMS.md")
    for module in (claims_common, run_claims):
        monkeypatch.setattr(module, "FIGURES", tmp_path)
    name = "c01_ae_beats_pca"
    monkeypatch.setattr(sys.modules.get(name) or __import__(name), "STEPS", 30)
    words = [name, "--data", "digits", "--seeds", "2"]
    assert run_claims.main(words) == 0
    first = (tmp_path / "found" / f"{name}.json").read_text()
    assert (tmp_path / f"{name}.png").stat().st_size > 0
    text = (tmp_path / "CLAIMS.md").read_text()
    said = json.loads(first)
    assert [len(m["values"]) for m in said["measures"]] == [2]
    assert verdict([Measure(**m) for m in said["measures"]]) in text
    assert f"| {verdict([Measure(**m) for m in said['measures']])} |" in readme.claims(
        tmp_path / "found"
    )
    assert run_claims.main(words) == 0
    assert (tmp_path / "found" / f"{name}.json").read_text() == first
    assert run_claims.main(["nothing"]) == 1
    assert "no claim nothing" in capsys.readouterr().err


def test_the_readme_shows_what_the_commands_wrote():
    assert readme.main(["--check"]) == 0
