"""Oracles: text written out by hand, and second processes that are really there."""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from jaxae.training import lock, workdir
from jaxae.training.workdir import OlderConfig, Workdir, WorkdirError, digest, read_config

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
    assert sorted(os.listdir(here.path)) == [".jaxae", ".lock", "checkpoints", "figures"]


@pytest.mark.parametrize("name", ["config.json", "notes.txt", "checkpoints/mine", ".hidden"])
def test_somebody_elses_folder_is_left_as_it_is(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"mine": 1}')
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(WorkdirError, match=r"is not a run's folder.*nothing in it was touched"):
        Workdir.open(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / name).read_text() == '{"mine": 1}'


def test_folders_of_earlier_versions_are_ours(tmp_path):
    """By their config.json, or by a sealed checkpoint where that is damaged."""
    fields = {"format": 1, "model": "vae", "data": "digits", "config": {}, "plan": {}}
    for name in ("whole", "damaged"):
        (tmp_path / name / "checkpoints" / "4").mkdir(parents=True)
        (tmp_path / name / "metrics.jsonl").write_text("")
    (tmp_path / "whole" / "config.json").write_text(json.dumps(fields))
    (tmp_path / "damaged" / "config.json").write_text(json.dumps(fields)[:-1])
    (tmp_path / "damaged" / "checkpoints" / "4" / "MANIFEST.json").write_text("{}")
    for name in ("whole", "damaged"):
        Workdir.open(tmp_path / name).close()
        assert (tmp_path / name / ".jaxae").is_file()


def test_what_a_process_leaves_that_was_killed_while_it_opened_is_free(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / ".lock").write_text("process 1 on nowhere\n")
    Workdir.open(tmp_path).close()


def test_a_link_to_a_folder_is_followed_and_one_to_nothing_refused(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    Workdir.open(tmp_path / "run").close()
    assert (tmp_path / "disk" / ".jaxae").is_file()
    (tmp_path / "lost").symlink_to(tmp_path / "nothing")
    with pytest.raises(WorkdirError, match=r"lost cannot be created: it links to nothing"):
        Workdir.open(tmp_path / "lost")


def test_the_folder_one_is_in_is_taken_only_where_it_is_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WorkdirError, match="the name is empty"):
        Workdir.open("")
    assert not os.listdir(tmp_path)
    with Workdir.open(".") as here:
        assert here.path == tmp_path


def test_a_name_that_is_no_text_is_refused(tmp_path):
    """As Python reads the bytes of a UTF-8 name where the locale is ASCII; Orbax cannot."""
    with pytest.raises(WorkdirError, match=r"\\udcce cannot be used: .*PYTHONUTF8=1"):
        Workdir.open(tmp_path / "\udcce")
    assert not os.listdir(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(path, *_):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(lock.os, "open", refuse)
    with pytest.raises(WorkdirError, match=r"cannot be created or written: .*Read-only file syst"):
        Workdir.open(tmp_path)


@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_without_its_lock_file_a_folder_still_has_one_owner(tmp_path, change):
    with Workdir.open(tmp_path) as here:
        (tmp_path / ".lock").unlink()
        if change == "replaced":
            (tmp_path / ".lock").write_text("")
        with pytest.raises(WorkdirError, match=r"is in use by another process"):
            Workdir.open(tmp_path)
        here.check()  # it is still ours alone


def test_where_folders_cannot_be_locked_the_lost_lock_is_noticed(tmp_path, monkeypatch):
    flock = lock.fcntl.flock

    def files_only(file, how):
        if os.path.isdir(f"/proc/self/fd/{file}"):
            raise OSError(9, "Bad file descriptor")
        flock(file, how)

    monkeypatch.setattr(lock.fcntl, "flock", files_only)
    with Workdir.open(tmp_path) as here:
        here.check()
        (tmp_path / ".lock").unlink()
        with Workdir.open(tmp_path) as other:
            other.check()
            with pytest.raises(WorkdirError, match=r"\.lock was removed or replaced.*stopped"):
                here.check()


def test_a_folder_that_was_replaced_is_noticed(tmp_path):
    with Workdir.open(tmp_path / "a") as here:
        shutil.move(tmp_path / "a", tmp_path / "b")
        with pytest.raises(WorkdirError, match=r"was removed or replaced"):
            here.check()
        with Workdir.open(tmp_path / "a"), pytest.raises(WorkdirError, match="removed or replaced"):
            here.check()


def test_a_lock_file_that_is_replaced_before_it_is_locked_is_opened_anew(tmp_path, monkeypatch):
    """Else two processes would each hold a file of that name."""
    take, calls = lock._lock, []

    def replace_first(file):
        if not calls:
            (tmp_path / ".lock").unlink()
            (tmp_path / ".lock").write_text("")
        calls.append(file)
        take(file)

    monkeypatch.setattr(lock, "_lock", replace_first)
    with Workdir.open(tmp_path):
        assert len(calls) == 2
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()}")


NO_FCNTL = """
import subprocess, sys, types  # subprocess asks for msvcrt by itself
sys.modules["fcntl"] = None  # as on Windows
if sys.argv[2] == "msvcrt":
    locked = set()
    def locking(file, how, size):
        import os
        place = os.fstat(file).st_ino, os.lseek(file, 0, os.SEEK_CUR)
        if place in locked:
            raise PermissionError(13, "Permission denied")
        locked.add(place)
    sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
from jaxae.training.workdir import Workdir, WorkdirError
with Workdir.open(sys.argv[1]):
    try:
        Workdir.open(sys.argv[1])
    except WorkdirError as error:
        print(error)
"""


@pytest.mark.parametrize(("there", "says"), [
    ("msvcrt", "is in use by process"), ("nothing", "neither fcntl nor msvcrt"),
])  # fmt: skip
def test_without_fcntl(tmp_path, there, says):
    """msvcrt takes its place; where there is neither, a warning says that nothing is locked."""
    words = [sys.executable, "-c", NO_FCNTL, tmp_path, there]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert says in done.stdout + done.stderr


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
        written = json.loads(text)
        # By hand: the sorted fields, dotted, each as JSON text.
        fields = [["data", '"digits"'], ["format", "2"], ["model.latent", "16"],
                  ["model.widths", "[8, 8]"], ["rate", "0.001"]]  # fmt: skip
        assert written.pop("sha256") == hashlib.sha256(json.dumps(fields).encode()).hexdigest()
        assert written == {"format": 2} | CONFIG
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
        assert read_config(tmp_path) == CONFIG | {"report": {"images": 5}}


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


def test_a_config_of_another_format_is_refused(tmp_path):
    with Workdir.open(tmp_path) as here:
        here.write_json("config.json", CONFIG | {"format": 3})
        with pytest.raises(WorkdirError, match=r"config.json: format is 3, this version reads 1"):
            here.claim_config(CONFIG)


def test_a_config_of_an_earlier_version_is_read_and_said_to_be_one(tmp_path):
    with Workdir.open(tmp_path) as here:
        here.write_json("config.json", CONFIG | {"format": 1})
        with pytest.warns(OlderConfig, match=r"config.json .* without a checksum"):
            here.claim_config(CONFIG)


def test_an_edited_config_is_refused(tmp_path):
    with Workdir.open(tmp_path) as here:
        here.claim_config(CONFIG)
        text = (tmp_path / "config.json").read_text()
        (tmp_path / "config.json").write_text(text.replace("0.001", "0.01"))
        with pytest.raises(WorkdirError, match=r"config.json is not as it was written.*edited"):
            read_config(tmp_path)


def test_no_bit_of_a_config_turns_over_unnoticed(tmp_path):
    with Workdir.open(tmp_path) as here:
        here.claim_config(CONFIG | {"small": 1e-07}, {"report": {"images": 5}})
    file = tmp_path / "config.json"
    whole, wanted = file.read_bytes(), read_config(tmp_path)
    for bit in random.Random(3).sample(range(8 * len(whole)), 600):
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        file.write_bytes(broken)
        if broken == whole.replace(b"1e-07", b"1E-07"):
            assert read_config(tmp_path) == wanted
        else:
            with pytest.raises(WorkdirError, match=re.escape(str(file))):
                read_config(tmp_path)


def test_a_free_field_is_changed_and_the_rest_kept(tmp_path):
    with Workdir.open(tmp_path) as here:
        here.claim_config(CONFIG, {"report": {"images": 5}})
        here.claim_config(CONFIG | {"rate": 0.5}, {"report": {}}, free=["rate"])
        assert read_config(tmp_path)["rate"] == 1e-3
        here.change_config("model.latent", 32)
    changed = CONFIG | {"model": {"latent": 32, "widths": [8, 8]}, "report": {"images": 5}}
    assert read_config(tmp_path) == changed


def test_a_digest_leaves_out_what_is_named():
    longer = {"plan": {"steps": 9, "seed": 1}, "report": {"images": 5}}
    shorter = {"report": {}, "plan": {"seed": 1, "steps": 2}}
    assert digest(longer, ("plan.steps", "report")) == digest(shorter, ("plan.steps", "report"))
    assert digest(longer, ("plan.steps",)) != digest(shorter, ("plan.steps",))
    assert digest(longer) != digest(longer, ("report",))
