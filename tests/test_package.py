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
# All may import these: they import nothing of ours.
BASE = ("fields", "memory")


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
            elif parts[1] not in ("__version__", *BASE):
                assert parts[1] in allowed, f"{file} imports {name}"


@pytest.mark.parametrize("module", BASE)
def test_base_modules_import_nothing_of_ours(module):
    assert not [n for n in imported(ROOT / "jaxae" / f"{module}.py") if n.startswith("jaxae")]


def source(module: str) -> pathlib.Path | None:
    """The file of a module of ours."""
    path = ROOT.joinpath(*module.split("."))
    found = [f for f in (path.with_suffix(".py"), path / "__init__.py") if f.exists()]
    return found[0] if module.split(".")[0] == "jaxae" and found else None


def modules_of(name: str) -> set[str]:
    """The modules of ours that `name` imports, at its top or anywhere below.

    A package that is only named on the way to one of its modules is not among them.
    """
    found = set()
    for node in ast.walk(ast.parse(source(name).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {part if source(part) else node.module for part in inside}
    return {part for part in found if source(part)} - {name}


@pytest.fixture(scope="module")
def imports_of():
    """What each module of the package imports of ours; a package and its parts are apart."""
    files = sorted((ROOT / "jaxae").rglob("*.py"))
    names = [".".join(f.relative_to(ROOT).with_suffix("").parts) for f in files]
    return {n.removesuffix(".__init__"): modules_of(n.removesuffix(".__init__")) for n in names}


def test_no_two_modules_import_each_other(imports_of):
    """Neither directly nor by way of others, nor for the sake of a type."""
    done, path = set(), []

    def visit(name):
        assert name not in path, f"a circle: {' -> '.join([*path[path.index(name) :], name])}"
        if name in done:
            return
        path.append(name)
        for part in sorted(imports_of.get(name, ())):
            visit(part)
        done.add(path.pop())

    for name in imports_of:
        visit(name)


def test_papers_share_through_shared(imports_of):
    """A paper imports no other one's files, but for VQ-VAE's audio, which is the same paper."""
    paper = lambda name: name.split(".")[2]
    for name, parts in imports_of.items():
        if name.startswith("jaxae.models."):
            others = {paper(p) for p in parts if p.startswith("jaxae.models.")}
            allowed = {paper(name), "shared"} | (
                {"vqvae"} if paper(name) == "vqvae_audio" else set()
            )
            assert others <= allowed, f"{name} imports {sorted(others - allowed)}"


def test_models_mention_no_device():
    for file in (ROOT / "jaxae" / "models").rglob("*.py"):
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
