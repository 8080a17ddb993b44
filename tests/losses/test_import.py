"""`import jaxae.losses` costs what jax and optax cost, and what it exports is documented."""

import ast
import inspect
import pathlib
import subprocess
import sys

import pytest

from jaxae import losses

HEAVY = ("flax", "orbax", "tensorflow_datasets", "sklearn", "matplotlib")


def test_nothing_heavy_is_loaded():
    probe = f"import sys, jaxae.losses; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_nothing_else_is_imported():
    known = sys.stdlib_module_names | {"jax", "numpy", "optax"}
    for file in pathlib.Path(losses.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            modules += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                ours = module.startswith("jaxae.losses")
                assert ours or module.split(".")[0] in known, f"{file.name} imports {module}"


@pytest.mark.parametrize("name", losses.__all__)
def test_every_public_name_is_documented_and_typed(name):
    public = getattr(losses, name)
    assert inspect.getdoc(public)
    assert inspect.signature(public).return_annotation is not None
    if inspect.isfunction(public):
        kinds = [p.annotation for p in inspect.signature(public).parameters.values()]
        assert inspect.Parameter.empty not in [*kinds, inspect.signature(public).return_annotation]
