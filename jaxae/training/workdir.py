"""The folder of a run: its lock, its configuration, and atomic writes.

Every file is replaced atomically (temporary file, fsync, rename) or extended by whole lines, so
that the next process can read what a killed one left.
"""

import contextlib
import functools
import hashlib
import json
import math
import os
import pathlib
import warnings
from collections.abc import Collection, Iterator
from typing import Any

from jaxae.training.lock import NAME as LOCK
from jaxae.training.lock import Lock, Taken

FORMAT = 2  # of config.json: with a checksum
WITHOUT_CHECKSUM = 1  # what earlier versions wrote
MARKER = ".jaxae"  # marks the folder of a run
FOLDERS = ("checkpoints", "figures")


class WorkdirError(ValueError):
    """The folder of the run cannot be used; the message names the file and the remedy."""


class OlderConfig(UserWarning):
    """config.json was written by an earlier version: changes of it are not detected."""


class Workdir:
    """The folder of one run, owned by one process while it is open (a context manager).

    It has `checkpoints/`, `figures/`, `config.json`, `metrics.jsonl`, a file `.lock` and the marker
    `.jaxae`, by which later commands recognise the folder.
    """

    def __init__(self, path: pathlib.Path, lock: Lock):
        self.path = path
        self._lock = lock

    @classmethod
    def open(cls, path: str | os.PathLike) -> "Workdir":
        """Creates the folder if it is missing, and locks it without waiting.

        An existing folder must be empty or that of a run; others are not changed.

        Raises:
            WorkdirError: the folder is not that of a run, another process owns it, or it cannot be
                created, written or locked.
        """
        if not os.fspath(path):
            raise WorkdirError("workdir: the name is empty; name a folder ('.' for this one)")
        folder = pathlib.Path(path).expanduser().absolute()
        try:
            str(folder).encode()
        except UnicodeEncodeError:
            raise WorkdirError(
                f"workdir {ascii(str(folder))[1:-1]} cannot be used: this locale cannot read the "
                "name; set PYTHONUTF8=1, or choose a name of ASCII letters"
            ) from None
        try:
            if folder.exists() and not folder.is_dir():
                raise WorkdirError(f"workdir {folder} cannot be created: it is a file")
            if folder.is_symlink() and not folder.exists():
                raise WorkdirError(f"workdir {folder} cannot be created: it links to nothing")
            if not _is_free(folder) and not _is_ours(folder):
                raise WorkdirError(
                    f"workdir {folder} holds files and is not a run's folder (it has neither "
                    f"{MARKER} nor a run's config.json); nothing in it was touched: choose a new "
                    "or an empty --workdir"
                )
            folder.mkdir(parents=True, exist_ok=True)
            lock = Lock(folder)
        except Taken as taken:
            raise WorkdirError(
                f"workdir {folder} is in use by {taken}; stop it or choose another --workdir"
            ) from None
        except OSError as error:
            raise WorkdirError(
                f"workdir {folder} cannot be created or written: {error}; choose another --workdir"
            ) from error
        try:
            if not (folder / MARKER).exists():
                (folder / MARKER).write_text("The folder of a run: its files are jaxae's.\n")
            for name in FOLDERS:
                (folder / name).mkdir(exist_ok=True)
        except OSError as error:
            lock.close()
            raise WorkdirError(f"workdir {folder} cannot be written: {error}") from error
        return cls(folder, lock)

    def check(self) -> None:
        """Raises WorkdirError if the folder or its lock was removed or replaced."""
        try:
            self._lock.check()
        except Taken as taken:
            raise WorkdirError(
                f"workdir {self.path}: {taken}; stopped, so that nothing of another run is "
                "overwritten"
            ) from None

    def close(self) -> None:
        """Releases the folder; a second call does nothing."""
        self._lock.close()

    def __enter__(self) -> "Workdir":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def write_json(self, name: str, value: Any) -> None:
        """Writes `value` to `<path>/<name>`, atomically.

        NaN and infinities become the strings "nan", "inf" and "-inf".

        Raises:
            WorkdirError: the file cannot be written.
        """
        text = json.dumps(strict(value), indent=2, allow_nan=False) + "\n"
        try:
            write_atomically(self.path / name, text.encode())
        except OSError as error:
            raise WorkdirError(f"{self.path / name} cannot be written: {error}") from error

    def read_json(self, name: str) -> Any:
        """The content of `<path>/<name>`.

        Raises:
            WorkdirError: there is no such file, or it is not JSON.
        """
        try:
            return json.loads((self.path / name).read_bytes())
        except (OSError, ValueError) as error:
            raise WorkdirError(f"{self.path / name} cannot be read: {error}") from error

    def claim_config(
        self,
        config: dict,
        beside: dict | None = None,
        late: Collection[str] = (),
        free: Collection[str] = (),
    ) -> None:
        """Writes `config.json` at the first use of the folder, and compares it at later ones.

        Args:
            config: the settings that determine the run, as nested dicts of JSON values.
            beside: fields that are written too, and never compared.
            late: dotted names that folders of earlier versions lack; not compared if missing.
            free: dotted names that are not compared (see `change_config`).
        Raises:
            WorkdirError: the folder has another configuration (every differing field is named, with
                its dotted name), or its config.json is damaged or was changed.
        """
        file = self.path / "config.json"
        beside = beside or {}
        config = json.loads(json.dumps(strict(config)))
        if not file.exists():
            self._write_config(config | beside)
            return
        there = read_config(self.path)
        old = dict(flat({name: value for name, value in there.items() if name not in beside}))
        new = {n: v for n, v in flat(config) if n in old or n not in late}
        lines = [
            f"{name}: {old.get(name, 'missing')} in {file}, {new.get(name, 'missing')} now"
            for name in old | new
            if old.get(name) != new.get(name) and name not in free
        ]
        if lines:
            raise WorkdirError(
                "\n".join(["this workdir holds a run with another configuration:", *lines])
                + "\nrepeat that configuration or choose another --workdir"
            )

    def change_config(self, name: str, value: Any) -> None:
        """Rewrites `config.json` with another value for the field of a dotted name.

        Raises:
            WorkdirError: the file is damaged or cannot be written.
        """
        config = read_config(self.path)
        *outer, last = name.split(".")
        functools.reduce(dict.__getitem__, outer, config)[last] = value
        self._write_config(config)

    def _write_config(self, config: dict) -> None:
        config = {"format": FORMAT} | strict(config)
        self.write_json("config.json", config | {"sha256": digest(config)})


def read_config(folder: pathlib.Path) -> dict:
    """The content of `<folder>/config.json`, without its format and checksum.

    A file of an earlier version, without checksum, is read with an `OlderConfig` warning.

    Raises:
        WorkdirError: the file is missing, damaged, of another format, or was changed.
    """
    file = folder / "config.json"
    remedy = "put the file right, or name --model and a new --workdir"
    try:
        config = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise WorkdirError(f"{file} cannot be read: {error}; {remedy}") from error
    if not isinstance(config, dict):
        raise WorkdirError(f"{file} cannot be read: it does not hold a JSON object; {remedy}")
    form, checksum = config.get("format"), config.pop("sha256", None)
    if form not in (FORMAT, WITHOUT_CHECKSUM):
        raise WorkdirError(
            f"{file}: format is {form}, this version reads {WITHOUT_CHECKSUM} and {FORMAT}; "
            + remedy
        )
    if form == FORMAT and checksum != digest(config):
        raise WorkdirError(
            f"{file} is not as it was written: it was edited or is damaged (its checksum does not "
            f"match). A run's settings are fixed, but for --steps; {remedy}"
        )
    if form == WITHOUT_CHECKSUM:
        warnings.warn(
            f"{file} was written by an earlier version, without a checksum: damage to it could "
            "not be noticed",
            OlderConfig,
            stacklevel=2,
        )
    del config["format"]
    return config


def digest(config: dict, without: Collection[str] = ()) -> str:
    """SHA-256 of nested dicts of JSON values in any order, `without` some dotted names."""
    fields = sorted(
        item for item in flat(config)
        if not any(item[0] == name or item[0].startswith(f"{name}.") for name in without)
    )  # fmt: skip
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


def strict(value: Any) -> Any:
    """`value` for strict JSON: numbers as Python numbers, NaN, inf and -inf as strings.

    Scalar arrays become numbers and tuples lists; other values are not changed.
    """
    if isinstance(value, dict):
        return {name: strict(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [strict(entry) for entry in value]
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def write_atomically(path: pathlib.Path, data: bytes) -> None:
    """Replaces the file at `path` by `data`; it is on disk when this returns.

    Raises:
        OSError: the file cannot be written; `path` is then unchanged.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()  # on a full disk it would take space
        raise
    if os.name == "nt":
        return  # on Windows a folder cannot be opened
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def flat(tree: dict, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every field of nested dicts as (dotted name, JSON text)."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value)


def _is_free(folder: pathlib.Path) -> bool:
    """Whether the folder does not exist, or has only what `open` creates before the marker."""
    if not folder.exists():
        return True
    there = list(folder.iterdir())
    return all(
        path.name == LOCK or (path.name in FOLDERS and path.is_dir() and not any(path.iterdir()))
        for path in there
    )


def _is_ours(folder: pathlib.Path) -> bool:
    """Whether a non-empty folder is that of a run, of this or an earlier version."""
    if (folder / MARKER).is_file() or any(folder.glob("checkpoints/*/MANIFEST.json")):
        return True
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    fields = {"format", "model", "data", "config", "plan"}
    return isinstance(config, dict) and fields <= set(config)
