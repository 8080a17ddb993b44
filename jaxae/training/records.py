"""The metrics of a run on disk: a line per record, numbered and with a checksum of its own.

    {"step":50,"train/loss":21.3,"seconds":1.5,"n":1,"crc":"5f0c8a11"}

`n` counts the records of the file from 1, so that a lost one leaves a gap; `crc` is the CRC-32 of
the line before it. Training depends on the checkpoints alone: what is damaged here is named, kept
aside, and the run goes on without it. Files of earlier versions have neither and stay readable.
"""

import json
import math
import os
import pathlib
import re
import warnings
import zlib
from typing import Any, NamedTuple

from jaxae.training.workdir import WorkdirError, strict, write_atomically

SEALED = re.compile(rb'(\{.*,"n":([0-9]+)),"crc":"([0-9a-f]{8})"\}', re.DOTALL)


class DamagedRecords(UserWarning):
    """Records of metrics.jsonl are damaged or missing; the message names the file and the lines."""


class OlderRecords(UserWarning):
    """metrics.jsonl was written by an earlier version: damage to its records goes unnoticed."""


class _Line(NamedTuple):
    text: bytes
    record: dict
    number: int | None  # n; None where the line is of an earlier version


class _Found(NamedTuple):
    lines: list[_Line]
    damaged: list[bytes]
    problems: list[str]


class MetricsFile:
    """An append-only file of records, one strict JSON object with a whole "step" per line.

    Damaged lines, among them a last one that a killed process left half-written, are left out by
    `read` and moved to `damaged/` beside the file by the next `write` or `cut_back`; each time a
    `DamagedRecords` warning names them.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self._whole: tuple[int, int] | None = None  # count and CRC-32, once known to end whole

    def write(self, record: dict) -> None:
        """Appends one record: keys in the order given, floats to the last digit.

        NaN and infinities become the strings "nan", "inf" and "-inf".

        Raises:
            WorkdirError: the line cannot be written.
        """
        if self._whole is None:
            self.cut_back(math.inf)
        count, crc = self._whole
        line, self._whole = _sealed(record, count + 1), None
        try:
            with open(self.path, "ab", buffering=0) as file:
                if file.write(line) != len(line):
                    raise OSError("only a part of the line was written: is the disk full?")
        except OSError as error:
            raise WorkdirError(f"{self.path} cannot be written: {error}") from error
        self._whole = count + 1, zlib.crc32(line, crc)

    def cut_back(self, step: float) -> None:
        """Drops every record later than `step`; the others keep their bytes and their order.

        Raises:
            WorkdirError: the file cannot be read or written.
        """
        try:
            old = self._bytes()
            found = _parse(old)
            if found.problems:
                aside = self.path.parent / "damaged" / self.path.name
                aside.parent.mkdir(exist_ok=True)
                with open(aside, "ab") as file:
                    file.write(b"".join(line + b"\n" for line in found.damaged))
                self._warn(found.problems, f"what is left of them was moved to {aside}")
            kept = [line for line in found.lines if line.record["step"] <= step]
            new = b"".join(
                line.text + b"\n" if line.number in (None, n) else _sealed(line.record, n)
                for n, line in enumerate(kept, 1)
            )
            if new != old:
                write_atomically(self.path, new)
        except OSError as error:
            raise WorkdirError(f"{self.path} cannot be cut back: {error}") from error
        self._whole = len(kept), zlib.crc32(new)

    def read(self) -> list[dict]:
        """All intact records in the order written; none where there is no file.

        Raises:
            WorkdirError: the file cannot be read.
        """
        found = self._parsed()
        if found.problems:
            self._warn(found.problems, "these records are left out")
        if any(line.number is None for line in found.lines):
            warnings.warn(
                f"{self.path} was begun by an earlier version, without checksums: damage to those "
                "lines could not be noticed",
                OlderRecords,
                stacklevel=2,
            )
        return [line.record for line in found.lines]

    def summary(self, step: float = math.inf) -> dict[str, Any]:
        """How many intact records there are up to `step`, and the CRC-32 of their lines."""
        if step == math.inf and self._whole is not None:
            count, crc = self._whole
        else:
            texts = [line.text for line in self._parsed().lines if line.record["step"] <= step]
            count, crc = len(texts), zlib.crc32(b"".join(text + b"\n" for text in texts))
        return {"records": count, "crc": f"{crc:08x}"}

    def compare(self, then: dict[str, Any], step: int) -> None:
        """Warns where the records up to `step` are not those that `then`, a summary, speaks of."""
        now = self.summary(step)
        if now["records"] != then["records"]:
            what = f"{now['records']} records up to step {step}, but {then['records']}"
        else:
            what = f"the records up to step {step} are not what they were"
        if now != then:
            self._warn([f"{what} when its checkpoint was saved"], "the checkpoint is unharmed")

    def _warn(self, problems: list[str], then: str) -> None:
        more = [f"and {len(problems) - 5} more"] if len(problems) > 5 else []
        text = "; ".join(problems[:5] + more)
        warnings.warn(f"{self.path}: {text}; {then}", DamagedRecords, stacklevel=3)

    def _parsed(self) -> _Found:
        try:
            return _parse(self._bytes())
        except OSError as error:
            raise WorkdirError(f"{self.path} cannot be read: {error}") from error

    def _bytes(self) -> bytes:
        return self.path.read_bytes() if self.path.exists() else b""


def _sealed(record: dict, number: int) -> bytes:
    text = json.dumps(strict(record) | {"n": number}, separators=(",", ":"), allow_nan=False)
    body = text.removesuffix("}").encode()
    return body + f',"crc":"{zlib.crc32(body):08x}"}}\n'.encode()


def _parse(data: bytes) -> _Found:
    lines, damaged, problems = [], [], []
    texts = data.split(b"\n")
    cut_off = texts.pop()  # what follows the last newline: nothing, unless the line is cut off
    texts += [cut_off] if cut_off else []
    last, skipped = 0, 0  # the number of the last intact record, damaged lines since then
    for place, text in enumerate(texts, 1):
        record, number, wrong = _read(text)
        if wrong is None and number is None and any(line.number for line in lines):
            wrong = "has no checksum"
        if wrong is None and number is not None and number <= last:
            wrong = f"repeats record {number}"
        if wrong is not None:
            half = place == len(texts) and cut_off
            problems.append(f"line {place} {'is cut off or damaged' if half else wrong}")
            damaged.append(text)
            skipped += 1
            continue
        after = last + 1 if number is None else number
        if (lost := after - last - 1 - skipped) > 0:
            problems.append(f"{lost} record{'s' * (lost > 1)} missing before line {place}")
        last, skipped = after, 0
        lines.append(_Line(text, record, number))
    return _Found(lines, damaged, problems)


def _read(text: bytes) -> tuple[dict, int | None, str | None]:
    """The record of a line, its number, and what is wrong with it."""
    sealed, number = SEALED.fullmatch(text), None
    if sealed:
        if f"{zlib.crc32(sealed[1]):08x}".encode() != sealed[3]:
            return {}, None, "is damaged: its checksum does not match"
        number = int(sealed[2])
    try:
        record = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        return {}, None, f"is damaged: {error}"
    if not isinstance(record, dict):
        return {}, None, "is damaged: not a JSON object"
    if sealed:
        record = {name: value for name, value in record.items() if name not in ("n", "crc")}
    elif "n" in record or "crc" in record:
        return {}, None, "is damaged: its checksum is"
    if type(record.get("step")) is not int:
        return {}, None, "is damaged: it has no step"
    if wrong := [name for name, value in record.items() if not _is_number(value)]:
        return {}, None, f"is damaged: {wrong[0]} is no number"
    return record, number, None


def _is_number(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_number(v) and not isinstance(v, list) for v in value)
    if isinstance(value, str):
        return value in ("nan", "inf", "-inf")
    return type(value) in (int, float)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
