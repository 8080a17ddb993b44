"""Results that are computed once: a cell is known by its settings and the code it came from.

A cell is a JSON file in runs/cells/. Its key is a hash of the settings and of every source file
that the named modules import, directly or not, so that a change of one model leaves the others'
cells as they are. Computing again what is there reads it; an interrupted table goes on where it
stopped.
"""

import ast
import functools
import hashlib
import json
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from jaxae.command.streams import STOPPED
from jaxae.data import DataError
from jaxae.evaluation import environment
from jaxae.training.loop import NonFiniteLoss, Stopped
from jaxae.training.workdir import write_atomically

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDER = pathlib.Path("runs") / "cells"


class Cell(NamedTuple):
    """A result, and how it came about."""

    result: Any
    seconds: float
    environment: dict[str, Any]
    found: bool  # read, not computed


def cell(
    name: str,
    settings: Any,
    modules: Iterable[str],
    compute: Callable[[], Any],
    folder: pathlib.Path = FOLDER,
    again: bool = False,
) -> Cell:
    """The result of `compute`, from the cell's file where it is there.

    Args:
        name: beginning of the file's name.
        settings: JSON values, all that `compute` depends on besides code.
        modules: names of modules whose code, with all they import of this repository, matters.
        compute: gives JSON values.
        folder: where cells are kept.
        again: compute even if it is there, and replace it.
    """
    code = sources(modules)
    file = folder / f"{name}-{digest({'settings': settings, 'code': code})}.json"
    if file.exists() and not again:
        kept = json.loads(file.read_text())
        return Cell(kept["result"], kept["seconds"], kept["environment"], found=True)
    start = time.monotonic()
    kept = {"settings": settings, "result": compute(), "environment": made_with()}
    kept["seconds"] = time.monotonic() - start
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(kept, indent=1).encode())
    # What was written is what a later run will read: no difference between the two.
    kept = json.loads(file.read_text())
    return Cell(kept["result"], kept["seconds"], kept["environment"], found=False)


def made_with() -> dict[str, Any]:
    """`evaluation.environment`, and the commit: "changed" after it where Python files differ."""
    git = lambda *words: subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    try:
        commit = git("rev-parse", "--short", "HEAD").stdout.strip()
        changed = git("diff", "--quiet", "HEAD", "--", "*.py").returncode != 0
    except FileNotFoundError:  # no git on this machine
        commit = ""
    said = f"{commit}, changed" if commit and changed else commit
    return environment() | {"commit": said or "unknown"}


def hardware(there: dict[str, Any]) -> str:
    """A line from what `made_with` gave: device, versions, commit."""
    cores = "a CPU core" if there["cores"] == 1 else f"{there['cores']} CPU cores"
    place = cores if there["backend"] == "cpu" else there["device"]
    return f"{place}, jax {there['jax']}, Python {there['python']}, commit {there['commit']}"


def spent(found: dict[str, Any]) -> str:
    """How long something took. A machine that others use as well stretches the wall time; the time
    of the CPU, over all cores, says what was computed."""
    minutes = f"{found['seconds'] / 60:.0f} min"
    cpu = found.get("cpu_seconds")  # tables keep it since 2dd46fc
    return minutes if cpu is None else f"{minutes}, {cpu / 60:.0f} of CPU"


def reported(command: Callable[[list[str]], int], argv: list[str]) -> int:
    """`command(argv)`, and an exit status and a line in place of what a user can mend or wanted."""
    try:
        return command(argv)
    except (Stopped, KeyboardInterrupt) as stopped:
        print(STOPPED, file=sys.stderr)
        return 128 + getattr(stopped, "signum", signal.SIGINT)
    except (DataError, NonFiniteLoss) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def digest(value: Any) -> str:
    """Sixteen hexadecimal digits that change with a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def sources(modules: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the repository's files that `modules` consist of and import, by relative path.

    Docstrings are left out: a better sentence makes no result stale.
    """
    todo, seen = list(modules), {}
    while todo:
        file = _file(todo.pop())
        if file is None or str(file.relative_to(ROOT)) in seen:
            continue
        content = file.read_bytes()
        tree = ast.parse(content)
        code = _without_docstrings(content, tree)
        seen[str(file.relative_to(ROOT))] = hashlib.sha256(code).hexdigest()
        todo += _imported(tree)
    return dict(sorted(seen.items()))


def _without_docstrings(content: bytes, tree: ast.AST) -> bytes:
    """A file's lines, but those of strings that stand alone as a statement."""
    lines = content.splitlines()
    words: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            alone = not lines[node.lineno - 1][: node.col_offset].strip()
            if alone and isinstance(node.value.value, str):
                words.update(range(node.lineno - 1, node.end_lineno))
    return b"\n".join(line for i, line in enumerate(lines) if i not in words)


def _imported(tree: ast.AST) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # Either may be a module: the package, or what is imported from it.
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name for name in inside if _file(name)]
            names += found if len(found) == len(inside) else [node.module, *found]
    return names


@functools.cache
def _file(module: str) -> pathlib.Path | None:
    """The source of a module of this repository, None for any other's."""
    here = ROOT / "experiments"
    for base in (ROOT, here, here / "claims", here / "tables"):
        path = base.joinpath(*module.split("."))
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.exists():
                return file
    return None
