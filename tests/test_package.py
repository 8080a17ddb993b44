"""What the package promises as a whole: cheap imports that point one way, honest metadata."""

import ast
import pathlib
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
CONTRACT = "jaxae.training.state"
# What each subpackage may import of ours, beside itself and the contract.
MAY_IMPORT = {
    "losses": set(),
    "nets": set(),
    "data": set(),
    "training": set(),
    "models": {"losses", "nets"},
    "evaluation": {"losses", "nets"},
}
# `jaxae.fields` may be imported by all: it imports nothing of ours.


def imported(file: pathlib.Path):
    """Dotted names of everything a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are written in full"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_one_way(package):
    allowed = MAY_IMPORT[package] | {package}
    files = sorted((ROOT / "jaxae" / package).rglob("*.py"))
    assert files
    for file in files:
        for name in imported(file):
            parts = name.split(".")
            if parts[0] != "jaxae" or len(parts) == 1 or name.startswith(CONTRACT):
                continue
            # "from jaxae.training.state import X" also yields "jaxae.training.state.X"
            if parts[1] == "training" and package != "training":
                assert parts[2:3] == ["state"], f"{file} imports {name}"
            elif parts[1] not in ("__version__", "fields"):
                assert parts[1] in allowed, f"{file} imports {name}"


def test_models_mention_no_device():
    for file in (ROOT / "jaxae" / "models").glob("*.py"):
        text = file.read_text()
        assert not [word for word in ("jax.devices", "device_put", "pmap(") if word in text], file


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import jaxae.losses", ["flax", "tensorflow_datasets", "orbax", "sklearn", "matplotlib"]),
        ("import jaxae", ["tensorflow_datasets", "sklearn", "PIL", "pooch", "jax"]),
        ("import jaxae.models", ["tensorflow_datasets", "sklearn", "orbax", "matplotlib"]),
        ("import jaxae.data", ["tensorflow_datasets", "sklearn", "PIL", "pooch"]),
        ("import jaxae.evaluation", ["sklearn", "matplotlib"]),
        ("import jaxae.training", ["orbax", "tensorboardX"]),
    ],
)
def test_imports_are_cheap(statement, absent):
    code = f"{statement}, sys; print(*[m for m in {absent} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_metadata_is_what_the_project_says():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    assert project["requires-python"] == ">=3.11"
    assert {"test", "bench"} <= set(project["optional-dependencies"])
    assert all("<" in d or "importlib_resources" in d or "pillow" in d for d in
               project["dependencies"])  # fmt: skip
    assert (ROOT / "jaxae" / "py.typed").exists()


def test_every_public_name_has_a_docstring():
    for file in sorted((ROOT / "jaxae").rglob("*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
                assert ast.get_docstring(node), f"{file}: {node.name}"
