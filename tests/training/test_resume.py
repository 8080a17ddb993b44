"""Real processes, really killed. Oracle: the run that nobody interrupted, byte for byte."""

import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny

from jaxae.training.checkpoint import MANIFEST, Checkpoints

DRIVER = pathlib.Path(__file__).with_name("driver.py")
JOBS = ["scan", "seeds", "calls", "pmap"]


def start(folder, *jobs, die="") -> subprocess.Popen:
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=2"  # the last holds
    path = os.pathsep.join(map(str, DRIVER.parents[1:3]))
    return subprocess.Popen(
        [sys.executable, DRIVER, folder, *jobs],
        env=os.environ | {"DIE": die, "XLA_FLAGS": flags, "PYTHONPATH": path},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen, code: int = 0) -> str:
    output = process.communicate(timeout=300)[0]
    assert process.returncode == code, output
    return output


def kill_after(process: subprocess.Popen, metrics: pathlib.Path, lines: int) -> None:
    """SIGKILL when so many lines are written, at whatever the process is doing then."""
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < lines:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.002)
    process.kill()
    finish(process, -signal.SIGKILL)


def timeless(folder: pathlib.Path) -> str:
    text = (folder / "metrics.jsonl").read_text()
    assert '"seconds"' in text
    return re.sub(r',"(seconds|steps_per_s|crc)":[^,}]*', "", text)  # crc: of a line with times


def assert_ended_alike(found: pathlib.Path, wanted: pathlib.Path) -> None:
    with np.load(found / "final.npz") as ours, np.load(wanted / "final.npz") as theirs:
        assert {"params", "opt", "extra"} <= set(re.findall(r"\.(\w+)", " ".join(theirs.files)))
        assert any("memory" in name for name in theirs.files)
        tiny.assert_same_bits(dict(ours), dict(theirs))
    assert timeless(found) == timeless(wanted)


def steps(folder: pathlib.Path) -> list[int]:
    with Checkpoints(folder / "checkpoints") as checkpoints:
        return checkpoints.steps()


def newest_checkpoint(folder: pathlib.Path) -> pathlib.Path:
    sealed = [path.parent for path in (folder / "checkpoints").glob(f"[0-9]*/{MANIFEST}")]
    return max(sealed, key=lambda path: int(path.name))


def flip_a_bit(folder: pathlib.Path) -> None:
    """In the largest file of a checkpoint."""
    file = max((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Every job unbroken, and every job killed; what the last process said.

    A process takes up the job in which the one before was killed, and is killed in the next.
    """
    whole, broken = (tmp_path_factory.mktemp(name) for name in ("whole", "broken"))
    unbroken, chance = start(whole, *JOBS), random.Random(5)
    killed = -signal.SIGKILL
    kill_after(start(broken, "scan"), broken / "scan" / "metrics.jsonl", chance.randint(3, 25))
    finish(start(broken, "scan", die="scan:writing:1"), killed)
    finish(start(broken, "scan", "seeds", die="seeds:committed:2"), killed)
    finish(start(broken, "seeds", "calls", die="calls:sealed:3"), killed)
    process = start(broken, "calls", "pmap")
    kill_after(process, broken / "pmap" / "metrics.jsonl", chance.randint(14, 28))
    newest = newest_checkpoint(broken / "pmap")
    flip_a_bit(newest)
    said = finish(start(broken, "pmap"))
    finish(unbroken)
    return whole, broken, newest, said


@pytest.mark.parametrize("job", JOBS)
def test_a_killed_run_ends_as_if_nothing_had_happened(runs, job):
    """Parameters, optimisers, code memory and metrics; two seeds, two devices, either loop."""
    whole, broken, _, _ = runs
    assert_ended_alike(broken / job, whole / job)
    assert steps(broken / job) == steps(whole / job)


def test_what_was_being_written_is_not_taken_for_a_checkpoint(runs):
    """The save of `seeds` that was committed but not sealed lies beside the others."""
    _, broken, _, _ = runs
    (unsealed,) = (broken / "seeds" / "damaged").iterdir()
    assert not (unsealed / MANIFEST).exists()
    assert not (broken / "calls" / "damaged").exists()


def test_a_damaged_checkpoint_is_replaced_by_the_one_before_it(runs):
    _, broken, newest, said = runs
    assert "DamagedCheckpoint" in said
    assert str(newest) in said
    assert f"step {int(newest.name) - 20} is used instead" in said
    assert (broken / "pmap" / "damaged" / newest.name).is_dir()
