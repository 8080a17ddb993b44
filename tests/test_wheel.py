"""The wheel in an empty environment: the command and `jaxae.load` without the repository.

The dependencies are those of the environment that runs the tests, read from where they are.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig

import pytest
import setuptools

ROOT = pathlib.Path(__file__).parents[1]
TINY = ["--devices", "1", "--steps", "4", "--batch-size", "8", "--log-every", "2", "--widths", "8",
        "--latent", "2", "--prior-widths", "8", "--test-examples", "20", "--probe-examples", "60",
        "--report-batch", "20", "--images", "0", "--workdir", "run"]  # fmt: skip
# One process for the rest, since each takes seconds to start.
REST = """
import pathlib
import jaxae
from jaxae.command.main import main

print("from", jaxae.__file__)
run = ["--workdir", "run"]
assert main(["evaluate", *run, "--images", "0"]) == 0
assert main(["sample", *run, "--out", "samples", "--n", "3"]) == 0
assert main(["encode", *run, "--out", "codes.npz"]) == 0
assert main(["decode", *run, "--codes-from", "codes.npz", "--out", "decoded", "--n", "3"]) == 0
assert main(["reconstruct", *run, "--out", "back", "--n", "3"]) == 0
assert main(["interpolate", *run, "--out", "between.png", "--n", "2"]) == 0
assert main(["list"]) == 0

model = jaxae.load("run")
codes = model.encode(model.data.test.arrays["image"][:5])
print(codes.shape, model.decode(codes).shape, model.sample(2).shape)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the source: a build leaves files behind."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "jaxae", source / "jaxae", ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", out, source]
    # What pyproject.toml asks for; pip downloads it where it is not installed.
    here = int(setuptools.__version__.split(".")[0]) >= 77
    done = subprocess.run(
        [*build, *(["--no-build-isolation"] if here else [])], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("jaxae-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The programs of an environment that has the wheel, and sees what the wheel depends on."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = [sys.executable, "-m", "pip", "--python", programs / "python", "install"]
    subprocess.run([*pip, "--quiet", "--no-deps", "--no-index", wheel], check=True)
    (site,) = folder.rglob("site-packages")
    paths = sysconfig.get_paths()
    (site / "dependencies.pth").write_text(f"{paths['purelib']}\n{paths['platlib']}\n")
    return programs


@pytest.fixture(scope="module")
def call(installed, tmp_path_factory):
    """Runs a program of it in a folder of its own: what it printed."""
    folder = tmp_path_factory.mktemp("elsewhere")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHONPATH", "JAXAE_"))}

    def run(program, *words):
        done = subprocess.run(
            [installed / program, *words], cwd=folder, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return folder, done.stdout

    return run


def test_the_wheel_has_the_command_and_what_python_needs(call, installed):
    folder, out = call("jaxae", "--model", "acn", *TINY)
    assert "run/report.html" in out
    usage = call("python", "-m", "jaxae")[1]
    assert usage == call("jaxae", "--help")[1]
    assert "jaxae reconstruct" in usage
    out = call("python", "-c", REST)[1]
    (where,) = re.findall("^from (.*)$", out, re.M)
    assert pathlib.Path(where).is_relative_to(installed.parent)
    assert out.splitlines()[-1] == "(5, 2) (5, 8, 8, 1) (2, 8, 8, 1)"
    assert "--recipe digits-grey: " in out
    count = lambda name: len(list((folder / name).glob("*.png")))
    assert [count(name) for name in ("samples", "decoded", "back")] == [3, 3, 7]
    assert (folder / "codes.npz").exists()
    assert (folder / "between.png").exists()


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    import zipfile

    with zipfile.ZipFile(wheel) as held:
        names = held.namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"jaxae"}
    there = {f.relative_to(ROOT).as_posix() for f in (ROOT / "jaxae").rglob("*.py")}
    assert there <= set(names)
    assert "jaxae/py.typed" in names
    assert any(name.endswith(".npz") for name in names)
