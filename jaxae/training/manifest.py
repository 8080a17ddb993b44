"""The manifest of a checkpoint: sizes and SHA-256 of its files, written and verified."""

import hashlib
import json
import os
import pathlib

MANIFEST = "MANIFEST.json"


def make_manifest(folder: pathlib.Path) -> bytes:
    """JSON text with path, size and SHA-256 of each file of a step, and a checksum of itself."""
    files = {}
    for file in sorted(path for path in folder.rglob("*") if not path.is_dir()):
        name = file.relative_to(folder).as_posix()
        if name != MANIFEST:
            with open(file, "rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            files[name] = {"size": file.stat().st_size, "sha256": digest}
    about = {"format": 1, "step": folder.name, "files": files}
    return json.dumps(about | {"sha256": _digest(about)}, indent=1).encode()


def find_damage(folder: pathlib.Path) -> str | None:
    """A description of the damage of a step, naming the file; None if its files are unchanged."""
    if not folder.is_dir():
        return "there is no such folder"
    try:
        stored = (folder / MANIFEST).read_bytes()
        current = make_manifest(folder)
    except FileNotFoundError as error:
        return f"{os.path.relpath(error.filename, folder)} is missing"
    except OSError as error:
        return f"it cannot be read ({error})"
    if stored == current:
        return None
    changed = f"{MANIFEST} has changed"
    try:
        about = json.loads(stored)
        if about.pop("sha256") != _digest(about):
            return changed
    except (ValueError, KeyError, TypeError, AttributeError):
        return changed
    then, now = about["files"], json.loads(current)["files"]
    for name in then | now:
        if name not in now:
            return f"{name} is missing"
        if name not in then:
            return f"{name} was not there when it was saved"
        if then[name]["size"] != now[name]["size"]:
            return f"{name} has {now[name]['size']} bytes, not {then[name]['size']}"
        if then[name] != now[name]:
            return f"{name} has changed"
    return changed


def _digest(about: dict) -> str:
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()


def move_aside(folder: pathlib.Path) -> pathlib.Path:
    """Moves a step to `damaged/` beside the checkpoints and returns its new path."""
    target = _unused(folder.parent.parent / "damaged" / folder.name)
    target.parent.mkdir(exist_ok=True)
    folder.rename(target)
    return target


def _unused(path: pathlib.Path) -> pathlib.Path:
    """`path`, or the first of `path-1`, `path-2`, ... that does not exist."""
    number, unused = 0, path
    while os.path.lexists(unused):
        number += 1
        unused = path.with_name(f"{path.name}-{number}")
    return unused
