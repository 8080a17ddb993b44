"""The metrics of a run on disk: one line per record, with a number and a checksum.

    {"step":50,"train/loss":21.3,"seconds":1.5,"n":1,"crc":"5f0c8a11"}

`n` numbers the records of the file from 1, so that a lost one is detected; `crc` is the CRC-32 of
the text of the line before it. Training depends on the checkpoints only: damaged lines are reported
and moved to another file, and the run continues. Files of earlier versions have neither and are
still read.
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
    """metrics.jsonl was written by an earlier version: damage to its records is not detected."""


class _Line(NamedTuple):
    text: bytes
    record: dict
    number: int | None  # n; None if the line is of an earlier version


class _Found(NamedTuple):
    lines: list[_Line]
    damaged: list[bytes]
    problems: list[str]


class MetricsFile:
    """An append-only file of records, one strict JSON object with an integer "step" per line.

    Damaged lines, such as an incomplete last line of a killed process, are omitted by `read` and
    moved to `damaged/` next to the file by the next `write` or `cut_back`, each time with a
    `DamagedRecords` warning.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self._whole: tuple[int, int] | None = None  # count and CRC-32 of an intact file

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
        """Removes all records later than `step`; the others keep their bytes and their order.

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
                self._warn(found.problems, f"damaged lines were moved to {aside}")
            remaining = [line for line in found.lines if line.record["step"] <= step]
            new = b"".join(
                line.text + b"\n" if line.number in (None, n) else _sealed(line.record, n)
                for n, line in enumerate(remaining, 1)
            )
            if new != old:
                write_atomically(self.path, new)
        except OSError as error:
            raise WorkdirError(f"{self.path} cannot be cut back: {error}") from error
        self._whole = len(remaining), zlib.crc32(new)

    def read(self) -> list[dict]:
        """All intact records in order; none if there is no file.

        Raises:
            WorkdirError: the file cannot be read.
        """
        found = self._parsed()
        if found.problems:
            self._warn(found.problems, "these records are omitted")
        if any(line.number is None for line in found.lines):
            warnings.warn(
                f"{self.path} has lines of an earlier version, without checksums: damage to "
                "them is not detected",
                OlderRecords,
                stacklevel=2,
            )
        return [line.record for line in found.lines]

    def summary(self, step: float = math.inf) -> dict[str, Any]:
        """The number of intact records up to `step`, and the CRC-32 of their lines."""
        if step == math.inf and self._whole is not None:
            count, crc = self._whole
        else:
            texts = [line.text for line in self._parsed().lines if line.record["step"] <= step]
            count, crc = len(texts), zlib.crc32(b"".join(text + b"\n" for text in texts))
        return {"records": count, "crc": f"{crc:08x}"}

    def compare(self, then: dict[str, Any], step: int) -> None:
        """Warns if the records up to `step` do not match `then`, an earlier summary."""
        now = self.summary(step)
        if now["records"] != then["records"]:
            what = f"{now['records']} records up to step {step}, but {then['records']}"
        else:
            what = f"the records up to step {step} are different from those"
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
    cut_off = texts.pop()  # text after the last newline: empty, unless the last line is incomplete
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
    """The record of a line, its number, and a description of its damage, if any."""
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
