"""Oracles: text written out by hand, and second processes that are really there."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from jaxae.training import workdir
from jaxae.training.workdir import MetricsFile, Workdir, WorkdirError

OWNER = """
import sys, time
from jaxae.training.workdir import Workdir
with Workdir.open(sys.argv[1]):
    print("mine", flush=True)
    time.sleep(60)
"""


def test_open_makes_the_folders(tmp_path):
    with Workdir.open(tmp_path / "runs" / "a") as here:
        assert here.path == tmp_path / "runs" / "a"
        assert (here.path / "checkpoints").is_dir()
        assert (here.path / "figures").is_dir()
        owner = (here.path / ".lock").read_text()
        assert owner.startswith(f"process {os.getpid()} on ")
    here.close()
    Workdir.open(here.path).close()


def test_a_folder_has_one_owner(tmp_path):
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, tmp_path], stdout=subprocess.PIPE, text=True
    )
    try:
        assert owner.stdout.readline() == "mine\n"
        with pytest.raises(WorkdirError, match=rf"{tmp_path} is in use by process {owner.pid} on"):
            Workdir.open(tmp_path)
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
        mine = Workdir.open(tmp_path)  # freed by the kernel, though nobody cleaned up
        with mine, pytest.raises(WorkdirError, match=f"in use by process {os.getpid()} on"):
            Workdir.open(tmp_path)
    finally:
        owner.kill()
        owner.communicate()


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match=r"file cannot be created"):
        Workdir.open(tmp_path / "file")


def test_json_round_trip(tmp_path):
    with Workdir.open(tmp_path) as here:
        value = {"b": [1, 0.1, "x", None, True], "a": {"n": np.float32(0.5), "i": np.int64(3)}}
        here.write_json("result.json", value | {"bad": float("nan"), "t": (1, float("-inf"))})
        expected = {
            "b": [1, 0.1, "x", None, True],
            "a": {"n": 0.5, "i": 3},
            "bad": "nan",
            "t": [1, "-inf"],
        }
        assert here.read_json("result.json") == expected
        assert list(here.read_json("result.json")) == list(expected)
        with pytest.raises(WorkdirError, match=r"other.json cannot be read"):
            here.read_json("other.json")
        with pytest.raises(WorkdirError, match=r"figures cannot be written"):
            here.write_json("figures", 1)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    with Workdir.open(tmp_path) as here:
        here.write_json("a.json", 1)

        def refuse(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(workdir.os, "fsync", refuse)
        with pytest.raises(WorkdirError, match=r"a.json cannot be written.*No space left"):
            here.write_json("a.json", 2)
        monkeypatch.undo()
        assert here.read_json("a.json") == 1


CONFIG = {"model": {"latent": 16, "widths": [8, 8]}, "data": "digits", "rate": 1e-3}


def test_the_first_config_is_written_and_the_same_accepted(tmp_path):
    with Workdir.open(tmp_path) as here:
        here.claim_config(CONFIG)
        text = (tmp_path / "config.json").read_bytes()
        assert json.loads(text) == {"format": 1} | CONFIG
        here.claim_config(CONFIG | {"model": {"widths": (8, 8), "latent": 16}})
        assert (tmp_path / "config.json").read_bytes() == text


def test_every_differing_field_is_named(tmp_path):
    with Workdir.open(tmp_path) as here:
        here.claim_config(CONFIG)
        other = {"model": {"latent": 32, "widths": [8], "depth": 2}, "data": "mnist"}
        with pytest.raises(WorkdirError) as error:
            here.claim_config(other)
    file = tmp_path / "config.json"
    assert str(error.value).splitlines() == [
        "this workdir holds a run with another configuration:",
        f"model.latent: 16 in {file}, 32 now",
        f"model.widths: [8, 8] in {file}, [8] now",
        f'data: "digits" in {file}, "mnist" now',
        f"rate: 0.001 in {file}, missing now",
        f"model.depth: missing in {file}, 2 now",
        "repeat that configuration or choose another --workdir",
    ]


def test_what_stands_beside_a_config_is_kept_and_not_compared(tmp_path):
    with Workdir.open(tmp_path) as here:
        here.claim_config(CONFIG, {"report": {"images": 5}})
        here.claim_config(CONFIG, {"report": {"images": 6}})
        assert here.read_json("config.json") == {"format": 1} | CONFIG | {"report": {"images": 5}}


def test_a_late_field_is_compared_where_it_is_there(tmp_path):
    with Workdir.open(tmp_path) as here:
        here.claim_config(CONFIG)
        here.claim_config(CONFIG | {"plan": {"new": 1}}, late=["plan.new"])
        with pytest.raises(WorkdirError, match=r"plan.other: missing in"):
            here.claim_config(CONFIG | {"plan": {"other": 1}}, late=["plan.new"])
        with pytest.raises(WorkdirError, match=r"rate: 0.001 in .*, 0.5 now"):
            here.claim_config(CONFIG | {"rate": 0.5}, late=["rate"])


@pytest.mark.parametrize("text", ["", '{"format": 1', "[1]", "\xff"])
def test_a_damaged_config_is_named(tmp_path, text):
    with Workdir.open(tmp_path) as here:
        (tmp_path / "config.json").write_text(text, encoding="latin-1")
        with pytest.raises(WorkdirError, match=r"config.json cannot be read.*--workdir"):
            here.claim_config(CONFIG)


def test_a_config_of_another_format_is_not_ours(tmp_path):
    with Workdir.open(tmp_path) as here:
        here.write_json("config.json", CONFIG | {"format": 2})
        with pytest.raises(WorkdirError, match=r"format: 2 in .*, 1 now"):
            here.claim_config(CONFIG)


def test_metrics_are_strict_json_lines(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    assert metrics.read() == []
    metrics.write({"step": 1, "loss": 0.1, "a": np.float32(0.1)})
    metrics.write({"step": np.int32(2), "loss": float("nan"), "up": float("inf")})
    assert (tmp_path / "metrics.jsonl").read_text() == (
        '{"step":1,"loss":0.1,"a":0.10000000149011612}\n{"step":2,"loss":"nan","up":"inf"}\n'
    )
    assert metrics.read()[1] == {"step": 2, "loss": "nan", "up": "inf"}


LINES = b'{"step":1,"loss": 0.50}\n{"note":"x"}\n{"step":2}\n{"step":3,"loss":1.5}\n'


def test_cut_back_drops_later_steps_and_keeps_bytes(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(LINES)
    metrics = MetricsFile(file)
    metrics.cut_back(2)
    assert file.read_bytes() == b'{"step":1,"loss": 0.50}\n{"note":"x"}\n{"step":2}\n'
    metrics.write({"step": 3})
    metrics.cut_back(0)
    assert file.read_bytes() == b'{"note":"x"}\n'
    assert os.listdir(tmp_path) == ["metrics.jsonl"]


def test_a_file_cut_anywhere_stays_usable(tmp_path):
    file = tmp_path / "metrics.jsonl"
    ends = [len(b"".join(LINES.splitlines(True)[:n])) for n in range(5)]
    for size in range(len(LINES) + 1):
        file.write_bytes(LINES[:size])
        # A record counts from its closing brace on, newline or not.
        whole = sum(size >= end - 1 for end in ends[1:])
        expected = [json.loads(line) for line in LINES.splitlines()[:whole]]
        assert MetricsFile(file).read() == expected
        assert file.read_bytes() == LINES[:size]
        MetricsFile(file).write({"step": 4})
        assert MetricsFile(file).read() == [*expected, {"step": 4}]
        assert file.read_bytes().count(b"\n") == whole + 1


def test_damage_before_the_last_line_is_named(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"step":1}\n{"step":\n{"step":3}\n')
    for use in (MetricsFile(file).read, lambda: MetricsFile(file).cut_back(3)):
        with pytest.raises(WorkdirError, match=r"metrics.jsonl, line 2 is damaged"):
            use()


def test_metrics_that_cannot_be_written(tmp_path):
    with pytest.raises(WorkdirError, match=r"nowhere/metrics.jsonl cannot be"):
        MetricsFile(tmp_path / "nowhere" / "metrics.jsonl").write({"step": 1})
