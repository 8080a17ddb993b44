"""A run on disk: the folder one process owns, its configuration, its metrics.

Every file is replaced as a whole (a temporary file, fsync, rename) or grows by whole lines, so
that a process killed anywhere leaves something the next one can read.
"""

import fcntl
import json
import math
import os
import pathlib
import socket
from collections.abc import Iterator, Sequence
from typing import Any

FORMAT = 1  # of config.json


class WorkdirError(ValueError):
    """The run's folder cannot be used as asked; the message names the file and the remedy."""


class Workdir:
    """The folder of one run, owned by one process while it is open (a context manager).

    Holds `checkpoints/`, `figures/`, `config.json`, `metrics.jsonl` and a `.lock` file.
    """

    def __init__(self, path: pathlib.Path, lock: int):
        self.path = path
        self._lock: int | None = lock

    @classmethod
    def open(cls, path: str | os.PathLike) -> "Workdir":
        """Creates the folder where it is missing and takes its lock, without waiting.

        The lock is the kernel's (`flock`): it ends with the process, however that ends.

        Raises:
            WorkdirError: another process owns the folder, or it cannot be created.
        """
        folder = pathlib.Path(path).expanduser().absolute()
        try:
            for name in ("checkpoints", "figures"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise WorkdirError(f"workdir {folder} cannot be created: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(lock, 300).decode(errors="replace").strip() or "another process"
            os.close(lock)
            raise WorkdirError(
                f"workdir {folder} is in use by {owner}; stop it or choose another --workdir"
            ) from None
        except OSError as error:
            os.close(lock)
            raise WorkdirError(f"workdir {folder} cannot be locked: {error}") from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        return cls(folder, lock)

    def close(self) -> None:
        """Gives the folder back; a second call does nothing."""
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> "Workdir":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def write_json(self, name: str, value: Any) -> None:
        """Writes `value` as `<path>/<name>`: the file holds the old text or the new, never half.

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
        """What `<path>/<name>` holds.

        Raises:
            WorkdirError: there is no such file, or it is not JSON.
        """
        try:
            return json.loads((self.path / name).read_bytes())
        except (OSError, ValueError) as error:
            raise WorkdirError(f"{self.path / name} cannot be read: {error}") from error

    def claim_config(
        self, config: dict, beside: dict | None = None, late: Sequence[str] = ()
    ) -> None:
        """Writes `config.json` at the first use of the folder and compares it at every later one.

        Args:
            config: what determines the run, as nested dicts of JSON values.
            beside: fields that are written with it and never compared.
            late: dotted names that folders of earlier versions lack; there they are not compared.
        Raises:
            WorkdirError: the folder belongs to another configuration (every differing field is
                named, nested ones with dots), or its config.json is damaged.
        """
        file = self.path / "config.json"
        beside = beside or {}
        config = json.loads(json.dumps(strict({"format": FORMAT} | config)))
        if not file.exists():
            self.write_json(file.name, config | beside)
            return
        try:
            there = self.read_json(file.name)
            if not isinstance(there, dict):
                raise WorkdirError(f"{file} cannot be read: it does not hold a JSON object")
        except WorkdirError as error:
            raise WorkdirError(
                f"{error}; put the file right or choose another --workdir"
            ) from error
        old = dict(_flat({name: value for name, value in there.items() if name not in beside}))
        new = {n: v for n, v in _flat(config) if n in old or n not in late}
        lines = [
            f"{name}: {old.get(name, 'missing')} in {file}, {new.get(name, 'missing')} now"
            for name in old | new
            if old.get(name) != new.get(name)
        ]
        if lines:
            raise WorkdirError(
                "\n".join(["this workdir holds a run with another configuration:", *lines])
                + "\nrepeat that configuration or choose another --workdir"
            )


class MetricsFile:
    """An append-only file of records, one strict JSON object per line.

    A last line that a killed process left half-written is ignored by `read` and removed by the
    next `write` or `cut_back`.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self._whole = False

    def write(self, record: dict) -> None:
        """Appends one record: keys in the order given, floats to the last digit.

        NaN and infinities become the strings "nan", "inf" and "-inf".

        Raises:
            WorkdirError: the line cannot be written.
        """
        line = json.dumps(strict(record), separators=(",", ":"), allow_nan=False) + "\n"
        if not self._whole:
            self.cut_back(math.inf)
        try:
            with open(self.path, "ab", buffering=0) as file:
                self._whole = file.write(line.encode()) == len(line)
                if not self._whole:
                    raise OSError("only a part of the line was written")
        except OSError as error:
            self._whole = False
            raise WorkdirError(f"{self.path} cannot be written: {error}") from error

    def cut_back(self, step: float) -> None:
        """Drops every record whose "step" is later than `step`; the others keep their bytes.

        Raises:
            WorkdirError: a line other than the last is damaged, or the file cannot be written.
        """
        try:
            old = self.path.read_bytes() if self.path.exists() else b""
            new = b"".join(
                line + b"\n" for line, record in self._lines() if record.get("step", step) <= step
            )
            if new != old:
                write_atomically(self.path, new)
        except OSError as error:
            raise WorkdirError(f"{self.path} cannot be cut back: {error}") from error
        self._whole = True

    def read(self) -> list[dict]:
        """All records in the order written; none where there is no file.

        Raises:
            WorkdirError: a line other than the last is damaged.
        """
        return [record for _, record in self._lines()]

    def _lines(self) -> Iterator[tuple[bytes, dict]]:
        if not self.path.exists():
            return
        lines = self.path.read_bytes().removesuffix(b"\n").split(b"\n")
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise ValueError("not a JSON object")
            except ValueError as error:
                if number == len(lines):
                    return
                raise WorkdirError(f"{self.path}, line {number} is damaged: {error}") from error
            yield line, record


def strict(value: Any) -> Any:
    """`value` with every number a plain Python one and NaN, inf and -inf as strings.

    Scalar arrays become numbers, tuples lists; what JSON cannot hold is left to `json.dumps`.
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
    """Replaces the file at `path` by `data`, on disk when this returns.

    Raises:
        OSError: the file cannot be written; `path` is then as it was.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _flat(tree: dict, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every field of nested dicts as (dotted name, JSON text)."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value)
