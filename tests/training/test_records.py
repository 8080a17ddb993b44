"""Oracles: text written out by hand, zlib's CRC-32, and every bit of a file turned over."""

import json
import os
import random
import warnings
import zlib

import numpy as np
import pytest

from jaxae.training.records import DamagedRecords, MetricsFile, OlderRecords
from jaxae.training.workdir import WorkdirError


def test_metrics_are_strict_json_lines(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    assert metrics.read() == []
    metrics.write({"step": 1, "loss": 0.1, "a": np.float32(0.1)})
    metrics.write({"step": np.int32(2), "loss": float("nan"), "up": float("inf")})
    bodies = [
        b'{"step":1,"loss":0.1,"a":0.10000000149011612,"n":1',
        b'{"step":2,"loss":"nan","up":"inf","n":2',
    ]
    lines = [b'%s,"crc":"%08x"}\n' % (body, zlib.crc32(body)) for body in bodies]
    assert (tmp_path / "metrics.jsonl").read_bytes() == b"".join(lines)
    assert metrics.read()[1] == {"step": 2, "loss": "nan", "up": "inf"}


OLDER = b'{"step":1,"loss": 0.50}\n{"step":2,"x":[1,"nan"]}\n{"step":3,"loss":1.5}\n'


def four(file):
    """A file of four records, the first of an earlier version; the records."""
    file.write_bytes(b'{"step":1,"loss":0.5}\n')
    metrics = MetricsFile(file)
    for step in (2, 3, 4):
        metrics.write({"step": step, "loss": step / 3, "up": "inf"})
    return [{"step": 1, "loss": 0.5}] + [
        {"step": step, "loss": step / 3, "up": "inf"} for step in (2, 3, 4)
    ]


def test_cut_back_drops_later_steps_and_keeps_bytes(tmp_path):
    file = tmp_path / "metrics.jsonl"
    four(file)
    lines = file.read_bytes().splitlines(keepends=True)
    MetricsFile(file).cut_back(3)
    assert file.read_bytes() == b"".join(lines[:3])
    metrics = MetricsFile(file)
    metrics.write({"step": 4, "loss": 4 / 3, "up": "inf"})
    assert file.read_bytes() == b"".join(lines)
    assert metrics.summary() == {"records": 4, "crc": f"{zlib.crc32(b''.join(lines)):08x}"}
    assert metrics.summary(3) == {"records": 3, "crc": f"{zlib.crc32(b''.join(lines[:3])):08x}"}
    metrics.cut_back(0)
    assert file.read_bytes() == b""
    assert metrics.summary() == {"records": 0, "crc": "00000000"}
    assert os.listdir(tmp_path) == ["metrics.jsonl"]


def test_a_file_of_an_earlier_version_is_read_and_said_to_be_one(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(OLDER)
    with pytest.warns(OlderRecords, match=r"metrics.jsonl has lines of an earlier version"):
        assert MetricsFile(file).read() == [json.loads(line) for line in OLDER.splitlines()]
    assert file.read_bytes() == OLDER


def read_with(warning, metrics):
    with pytest.warns(warning) as seen:
        records = metrics.read()
    assert all(str(metrics.path) in str(w.message) for w in seen)
    return records


def test_a_file_cut_anywhere_stays_usable(tmp_path):
    file = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(file)
    for step in (1, 2):
        metrics.write({"step": step})
    whole = file.read_bytes()
    ends = [0, whole.index(b"\n") + 1, len(whole)]
    for size in range(len(whole) + 1):
        file.write_bytes(whole[:size])
        # A record counts from its closing brace on, newline or not.
        count = sum(size >= end - 1 for end in ends[1:])
        expected = [{"step": 1}, {"step": 2}][:count]
        half = size not in ends and size + 1 not in ends
        if half:
            assert read_with(DamagedRecords, MetricsFile(file)) == expected
            with pytest.warns(DamagedRecords, match=f"line {count + 1} is cut off"):
                MetricsFile(file).write({"step": 4})
        else:
            assert MetricsFile(file).read() == expected
            MetricsFile(file).write({"step": 4})
        assert MetricsFile(file).read() == [*expected, {"step": 4}]
        assert file.read_bytes().count(b"\n") == count + 1


@pytest.mark.parametrize(("lines", "says", "left"), [
    ([0, 2, 3], "1 record missing before line 2", [0, 2, 3]),
    ([0, 3], "2 records missing before line 2", [0, 3]),
    ([0, 1, 1, 2, 3], "line 3 repeats record 2", [0, 1, 2, 3]),
    ([1, 0, 2, 3], "line 2 has no checksum", [1, 2, 3]),
])  # fmt: skip
def test_a_lost_or_doubled_record_is_noticed(tmp_path, lines, says, left):
    file = tmp_path / "metrics.jsonl"
    records = four(file)
    whole = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(whole[i] for i in lines))
    with pytest.warns(DamagedRecords, match=says):
        MetricsFile(file).cut_back(9)
    # Once said, it is repaired: the numbers follow each other again.
    found = read_with(OlderRecords, MetricsFile(file)) if left[0] == 0 else MetricsFile(file).read()
    assert found == [records[i] for i in left]


def test_no_bit_turns_over_unnoticed(tmp_path):
    """Whatever the bit, a warning names the file, or the records are what they were."""
    file = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(file)
    for step in range(1, 9):
        metrics.write({"step": step, "train/loss": 1 / step, "seconds": 0.25 * step})
    whole, wanted = file.read_bytes(), metrics.read()
    then, silent = metrics.summary(), 0
    for bit in random.Random(7).sample(range(8 * len(whole)), 800):
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        file.write_bytes(broken)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            found = MetricsFile(file).read()
            MetricsFile(file).compare(then, 8)
        assert all(str(file) in str(w.message) for w in seen)
        assert seen or found == wanted, bit
        assert all(record in wanted for record in found) or len(found) < 8
        silent += not seen
    assert silent == 0


def test_damaged_lines_are_kept_aside_and_the_others_go_on(tmp_path):
    file = tmp_path / "metrics.jsonl"
    records = four(file)
    lines = file.read_bytes().splitlines(keepends=True)
    bad = lines[2].replace(b"1.0", b"2.0")
    file.write_bytes(b"".join([*lines[:2], bad, lines[3]]))
    metrics = MetricsFile(file)
    with pytest.warns(DamagedRecords, match=r"line 3 is damaged: its checksum.*moved to .*damaged"):
        metrics.cut_back(4)
    assert (tmp_path / "damaged" / "metrics.jsonl").read_bytes() == bad
    metrics.write({"step": 5})
    assert read_with(OlderRecords, metrics) == [*records[:2], records[3], {"step": 5}]


LINES = [b"{", b"[1]", b'{"loss":1}', b'{"step":"1"}', b'{"step":1,"a":"b"}', b'{"step":1,"a":NaN}',
         b'{"step":1,"a":{"b":1}}', b"\xff", b"", b'{"step":1,"crc":"00000000"}', b"[" * 100_000,
         b'{"step":1,"a":true}', b'{"step":1,"a":[[1]]}']  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_a_line_that_is_no_record(tmp_path, line):
    file = tmp_path / "metrics.jsonl"
    records = four(file)
    file.write_bytes(b"\n".join([line, *file.read_bytes().splitlines()[1:], b""]))
    with pytest.warns(DamagedRecords, match=r"metrics.jsonl: line 1 is damaged"):
        assert MetricsFile(file).read() == records[1:]


def test_a_summary_that_no_longer_holds(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        metrics.write({"step": step})
    two = metrics.summary(2)
    metrics.compare(two, 2)
    with pytest.warns(DamagedRecords, match="2 records up to step 2, but 4 when"):
        metrics.compare(two | {"records": 4}, 2)
    with pytest.warns(DamagedRecords, match="up to step 2 are different from those"):
        metrics.compare(two | {"crc": "00000000"}, 2)


def test_metrics_that_cannot_be_written(tmp_path):
    with pytest.raises(WorkdirError, match=r"nowhere/metrics.jsonl cannot be"):
        MetricsFile(tmp_path / "nowhere" / "metrics.jsonl").write({"step": 1})
