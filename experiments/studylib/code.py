"""Digests of the code that a result depends on: of modules and of single functions.

A digest is of the syntax tree without docstrings, so comments and formatting do not change it.
"""

import ast
import functools
import hashlib
import inspect
import json
import pathlib
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "experiments"


def digest(value: Any) -> str:
    """Hash of a JSON value, twelve hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def module_digests(modules: Iterable[str], without: Iterable[str] = ()) -> dict[str, str]:
    """Digests of modules of this repository and of the modules of it that they import, by name.

    Args:
        modules: names of modules.
        without: modules to leave out, together with what only they import.
    """
    pending, digests, skipped = list(modules), {}, set(without)
    while pending:
        name = pending.pop()
        if name in digests or name in skipped or source_of(name) is None:
            continue
        digests[name], imported = _module(name)
        pending += imported
    return dict(sorted(digests.items()))


def function_digest(function: Callable) -> str:
    """Digest of a function: its own code, the top-level names of its module that it refers to, and
    the modules whose names it uses."""
    trees, modules = {}, set()
    _collect(function.__name__, sys.modules[function.__module__], trees, modules)
    return digest([dict(sorted(trees.items())), module_digests(modules)])


def source_of(module: str) -> pathlib.Path | None:
    """The file of a module of this repository; None for other modules."""
    for base in (ROOT, EXPERIMENTS):
        path = base.joinpath(*module.split("."))
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.exists():
                return file
    return None


@functools.cache
def _module(name: str) -> tuple[str, list[str]]:
    """A module's digest and the modules of this repository that it imports."""
    tree = ast.parse(source_of(name).read_text())
    return digest(_without_docstrings(tree)), _imports(tree)


def _imports(tree: ast.AST) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            full_names = [f"{node.module}.{alias.name}" for alias in node.names]
            names += [full if source_of(full) else node.module for full in full_names]
    return names


def _without_docstrings(tree: ast.AST) -> str:
    """The tree as text, without statements that consist of a string."""

    class Strip(ast.NodeTransformer):
        def visit_Expr(self, node):
            constant = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
            return ast.Pass() if constant else self.generic_visit(node)

    return ast.dump(Strip().visit(ast.parse(ast.unparse(tree))))


def _collect(name: str, module: types.ModuleType, trees: dict, modules: set[str]) -> None:
    """Adds to `trees` the tree of `module.name` and of the names of its module that it refers to,
    and to `modules` the modules whose names it uses."""
    nodes = _top(module.__name__)
    if name in trees or name not in nodes:
        return
    trees[name] = _without_docstrings(ast.Module([nodes[name]], []))
    for node in ast.walk(nodes[name]):
        if isinstance(node, ast.Name):
            _collect_reference(vars(module).get(node.id), node.id, module, trees, modules)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = vars(module).get(node.value.id)
            if isinstance(owner, types.ModuleType):
                _collect_reference(
                    getattr(owner, node.attr, owner), node.attr, module, trees, modules
                )
        elif isinstance(node, ast.ImportFrom | ast.Import):
            modules.update(_imports(node))


def _collect_reference(
    value: Any, name: str, module: types.ModuleType, trees: dict, modules: set[str]
) -> None:
    """As `_collect`, for a name that code in `module` refers to, and its value."""
    home = value.__name__ if isinstance(value, types.ModuleType) else None
    home = home or getattr(value, "__module__", None) or _origins(module.__name__).get(name)
    if name in _top(module.__name__):
        _collect(name, module, trees, modules)
    elif isinstance(value, types.ModuleType) and hasattr(value, "__path__"):
        return  # a package: its modules are added where their attributes are used
    elif home and source_of(home):
        modules.add(home)


@functools.cache
def _origins(module: str) -> dict[str, str]:
    """The module of each name that a module imports with `from ... import`."""
    return {
        alias.asname or alias.name: node.module
        for node in ast.parse(_text(module)).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@functools.cache
def _top(module: str) -> dict[str, ast.AST]:
    """Syntax trees of the top-level definitions of a module, by name."""
    nodes = {}
    for node in ast.parse(_text(module)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            nodes[node.name] = node
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                for part in ast.walk(target):
                    if isinstance(part, ast.Name):
                        nodes[part.id] = node
    return nodes


def _text(module: str) -> str:
    file = source_of(module)
    return file.read_text() if file else inspect.getsource(sys.modules[module])
