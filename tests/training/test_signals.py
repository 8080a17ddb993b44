"""The command under SIGTERM and Ctrl-C. Oracle: the same command, left alone."""

import signal
import subprocess
import sys
import time

import pytest
import tiny

from jaxae.command import main, results

FLAGS = [
    "--model", "vae", "--widths", "16", "--latent", "3", "--steps", "1500", "--log-every", "5",
    "--eval-every", "0", "--save-every", "100000", "--batch-size", "16", "--devices", "1",
]  # fmt: skip


@pytest.fixture
def command(monkeypatch):
    """`command(workdir) -> exit code`, in this process; `command.states` are where it ended."""

    def conclude(of_run, workdir, states, step, about, first_loss):
        call.states = states
        return {"diverged": None, "warnings": []}

    def call(workdir):
        return main.main([*FLAGS, "--workdir", str(workdir)])

    monkeypatch.setattr(results, "conclude", conclude)  # what follows training is not looked at
    monkeypatch.setattr(main, "show", lambda result, path: None)
    return call


def start(workdir):
    return subprocess.Popen(
        [sys.executable, "-m", "jaxae", *FLAGS, "--workdir", workdir],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def lines(workdir):
    metrics = workdir / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def wait_until(there, process):
    while not there():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.002)


def test_a_stopped_command_says_so_and_goes_on_bit_for_bit(command, tmp_path, capsys):
    workdir = tmp_path / "stopped"
    done = 0
    for signum in (signal.SIGTERM, signal.SIGINT):
        process = start(workdir)
        wait_until((workdir / ".lock").exists, process)
        wait_until(lambda: f"process {process.pid}" in (workdir / ".lock").read_text(), process)
        assert command(workdir) == 1  # a second process on the same folder
        error = capsys.readouterr().err
        assert f"is in use by process {process.pid}" in error
        assert "--workdir" in error
        wait_until(lambda: lines(workdir) >= done + 5, process)
        process.send_signal(signum)
        output = process.communicate(timeout=200)[0]
        assert process.returncode == 128 + signum, output
        assert f"{signum.name} after step" in output
        assert "the same command goes on from there" in output
        assert "Traceback" not in output
        (saved,) = sorted(int(f.name) for f in (workdir / "checkpoints").glob("[0-9]*"))[-1:]
        assert saved == 5 * lines(workdir) > 5 * done
        done = lines(workdir)
    assert command(workdir) == 0
    found = command.states
    assert command(tmp_path / "left alone") == 0
    tiny.assert_same_bits(found, command.states)
