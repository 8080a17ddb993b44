"""Oracles: the arrays that went in, byte for byte, and damage that the test itself has done."""

import json
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxae.training import checkpoint
from jaxae.training.checkpoint import CheckpointError, Checkpoints, DamagedCheckpoint
from jaxae.training.state import State


def tiny(value):
    return {"w": jnp.full((3,), value, jnp.float32), "n": jnp.int32(value)}


TEMPLATE = jax.eval_shape(lambda: tiny(0))


def saved(folder, *steps, **options):
    with Checkpoints(folder, **options) as checkpoints:
        for step in steps:
            checkpoints.save(step, tiny(step), meta={"seed": step})
    return folder


def restored(folder, template=TEMPLATE):
    with Checkpoints(folder) as checkpoints:
        return checkpoints.restore(template)


def assert_is(found, step):
    assert found[0] == step
    np.testing.assert_array_equal(found[1]["w"], np.full(3, step, np.float32))
    assert found[2] == {"seed": step}


def as_numpy(leaf):
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def flip_a_bit(file: pathlib.Path):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1 << (len(data) % 8)
    file.write_bytes(data)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Steps 20 and 30 of a run (10 has gone); tests copy it before they damage it."""
    return saved(tmp_path_factory.mktemp("three") / "checkpoints", 10, 20, 30)


@pytest.fixture
def run(three, tmp_path):
    shutil.copytree(three, tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def test_a_state_comes_back_bit_for_bit(tmp_path):
    params = {"enc": {"w": jnp.float32([[0.1, -0.0], [jnp.inf, 1e-40]])}}
    tx = optax.chain(optax.clip(1.0), optax.adam(optax.constant_schedule(1e-3)))
    state = State(
        step=jnp.int32(7),
        params=params,
        opt={"all": tx.update(params, tx.init(params), params)[1]},
        extra={
            "key": jax.random.key(5),
            "keys": jax.random.split(jax.random.key(6), 3),
            "half": jnp.bfloat16([1 / 3, -2.0]),
            "bytes": np.uint8([0, 128, 255]),
            "flags": jnp.array([True, False]),
            "scalar": np.float32(0.3),
            "empty": {},
            "none": None,
        },
    )
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(state) is None
        checkpoints.save(7, state, meta={"seeds": [1, 2], "loop": "scan"})
    template = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, state))
    step, found, meta = restored(tmp_path, template)
    assert (step, meta) == (7, {"seeds": [1, 2], "loop": "scan"})
    assert jax.tree.structure(found) == jax.tree.structure(state)
    default = jnp.zeros(()).sharding
    for new, old in zip(jax.tree.leaves(found), jax.tree.leaves(state), strict=True):
        assert isinstance(new, jax.Array)
        assert (new.dtype, new.shape, new.sharding) == (old.dtype, old.shape, default)
        assert as_numpy(new).tobytes() == as_numpy(old).tobytes()


def test_a_template_names_the_sharding(tmp_path):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(
            1, {"x": jax.device_put(np.float32([3, 4]), whole), "k": jax.random.key(1)}
        )
    template = {
        "x": jax.ShapeDtypeStruct((2,), jnp.float32, sharding=split),
        "k": jax.device_put(jax.random.key(0), whole),
    }
    _, found, _ = restored(tmp_path, template)
    assert found["x"].sharding == split
    assert found["k"].sharding.is_equivalent_to(whole, 0)
    np.testing.assert_array_equal(found["x"], [3, 4])


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_arrays_may_be_donated_and_overwritten_at_once(tmp_path, size):
    spoil = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        on_device, on_host = jnp.arange(size, dtype=jnp.float32), np.arange(size, dtype=np.int32)
        meta = {"list": [1]}
        checkpoints.save(1, {"d": on_device, "h": on_host}, meta=meta)
        spoil(on_device).block_until_ready()
        on_host[:] = -1
        meta["list"].append(2)
        template = {"d": jax.ShapeDtypeStruct((size,), jnp.float32), "h": on_host}
        _, found, meta = checkpoints.restore(template)
    np.testing.assert_array_equal(found["d"], np.arange(size, dtype=np.float32))
    np.testing.assert_array_equal(found["h"], np.arange(size))
    assert meta == {"list": [1]}


def test_the_newest_two_and_the_best_stay(tmp_path):
    metrics = {10: 5.0, 20: 1.0, 30: 2.0, 40: float("nan"), 50: None}
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore_best(TEMPLATE) is None
        for step, metric in metrics.items():
            checkpoints.save(step, tiny(step), metric, {"seed": step})
        assert checkpoints.steps() == [20, 40, 50]
        assert_is(checkpoints.restore_best(TEMPLATE), 20)
        assert_is(checkpoints.restore(TEMPLATE), 50)
    with Checkpoints(tmp_path) as checkpoints:  # the best is remembered by the files
        checkpoints.save(60, tiny(60), 3.0)
        assert checkpoints.steps() == [20, 50, 60]
        checkpoints.save(70, tiny(70), 0.5)
        checkpoints.save(80, tiny(80), 0.7)
        assert checkpoints.steps() == [70, 80]
        assert checkpoints.restore_best(TEMPLATE)[0] == 70
    assert sorted(path.name for path in tmp_path.iterdir()) == ["70", "80"]
    assert not (tmp_path.parent / "damaged").exists()


def test_meta_without_arrays(run):
    checkpoints = Checkpoints(run)
    assert checkpoints.meta() == {"seed": 30}
    assert checkpoints.meta(20) == {"seed": 20}
    with pytest.raises(CheckpointError, match="step 25 cannot be read: there is no such folder"):
        checkpoints.meta(25)
    with pytest.raises(CheckpointError, match="there is no intact checkpoint"):
        Checkpoints(run.parent / "elsewhere").meta()


def test_a_step_is_saved_once(run):
    before = (run / "30" / "MANIFEST.json").stat().st_mtime_ns
    with Checkpoints(run) as checkpoints:
        checkpoints.save(30, tiny(0))
        with pytest.raises(CheckpointError, match="step 25 is older than step 30"):
            checkpoints.save(25, tiny(25))
        assert_is(checkpoints.restore(TEMPLATE), 30)
    assert (run / "30" / "MANIFEST.json").stat().st_mtime_ns == before


def test_a_flipped_bit_in_any_file_is_noticed(three, tmp_path):
    names = [str(f.relative_to(three)) for f in (three / "30").rglob("*") if f.is_file()]
    assert "30/MANIFEST.json" in names
    assert len(names) > 10
    for number, name in enumerate(names):
        run = tmp_path / str(number) / "checkpoints"
        shutil.copytree(three, run)
        flip_a_bit(run / name)
        file = re.escape(name.removeprefix("30/"))
        with pytest.warns(
            DamagedCheckpoint, match=rf"30 is damaged: {file} .*step 20 is used instead"
        ):
            assert_is(restored(run), 20)
        assert checkpoint.find_damage(run.parent / "damaged" / "30") is not None


def test_every_bit_of_a_manifest_counts(three, tmp_path):
    step = tmp_path / "30"
    shutil.copytree(three / "30", step)
    text = (step / "MANIFEST.json").read_bytes()
    for place in range(0, len(text), 7):
        flipped = bytearray(text)
        flipped[place] ^= 1 << (place % 8)
        (step / "MANIFEST.json").write_bytes(flipped)
        assert checkpoint.find_damage(step) == "MANIFEST.json has changed"
    (step / "MANIFEST.json").write_bytes(text)
    assert checkpoint.find_damage(step) is None


def cut(step):
    file = step / "state" / "_METADATA"
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut, r"state/_METADATA has \d+ bytes, not \d+"),
        (lambda step: (step / "meta" / "metadata").unlink(), "meta/metadata is missing"),
        (lambda step: (step / "MANIFEST.json").unlink(), "MANIFEST.json is missing"),
        (lambda step: (step / "MANIFEST.json").write_text("[]"), "MANIFEST.json has changed"),
        (lambda step: (step / "more").write_text(""), "more was not there when it was saved"),
        (lambda step: shutil.rmtree(step / "state"), "is missing"),
        (lambda step: (shutil.rmtree(step), step.mkdir()), "MANIFEST.json is missing"),
        (lambda step: (shutil.rmtree(step), step.write_text("")), "there is no such folder"),
        (
            lambda step: (shutil.rmtree(step), shutil.copytree(step.parent / "20", step)),
            "MANIFEST.json has changed",
        ),
    ],
)
def test_the_step_before_a_damaged_one_is_used(run, damage, says):
    damage(run / "30")
    with pytest.warns(DamagedCheckpoint, match=rf"30 is damaged: .*{says}.*step 20 is used"):
        assert_is(restored(run), 20)
    assert sorted(path.name for path in run.iterdir()) == ["20"]
    assert (run.parent / "damaged" / "30").exists()


def test_stray_folders_are_no_checkpoints(run):
    for name in ("7", "007", "999"):
        (run / name).mkdir()
    (run / "notes").mkdir()
    (run.parent / "damaged" / "7").mkdir(parents=True)
    with pytest.warns(DamagedCheckpoint) as caught:
        assert_is(restored(run), 30)
    assert len(caught) == 3
    assert sorted(p.name for p in (run.parent / "damaged").iterdir()) == ["007", "7", "7-1", "999"]
    assert sorted(path.name for path in run.iterdir()) == ["20", "30", "notes"]


def test_a_step_can_be_saved_again_after_a_fall_back(run):
    flip_a_bit(run / "30" / "meta" / "metadata")
    with Checkpoints(run) as checkpoints:
        with pytest.warns(DamagedCheckpoint):
            assert_is(checkpoints.restore(TEMPLATE), 20)
        checkpoints.save(30, tiny(30), meta={"seed": 30})
        checkpoints.wait()
        assert checkpoints.steps() == [20, 30]
        assert_is(checkpoints.restore(TEMPLATE), 30)
        flip_a_bit(run / "30" / "meta" / "metadata")  # found by `save` itself, in the same process
        with pytest.warns(DamagedCheckpoint, match="damaged/30-1"):
            checkpoints.save(30, tiny(30), meta={"seed": 30})
        assert_is(checkpoints.restore(TEMPLATE), 30)


def test_none_intact_is_an_error_and_stays_one(run):
    for step in ("20", "30"):
        flip_a_bit(run / step / "meta" / "metadata")
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"step 20: meta/metadata.*step 30: meta/metad"):
            restored(run)
    assert Checkpoints(run).steps() == []
    assert sorted(path.name for path in run.iterdir()) == ["20", "30"]


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (
            TEMPLATE | {"w": jnp.zeros((3,), jnp.bfloat16)},
            r"\['w'\]: float32\[3\] .* bfloat16\[3\]",
        ),
        (TEMPLATE | {"w": jnp.zeros((3, 1))}, r"\['w'\]: float32\[3\] .* float32\[3, 1\]"),
        ({"w": TEMPLATE["w"]}, r"\['n'\]: int32\[\] in the checkpoint, missing expected"),
        (TEMPLATE | {"b": TEMPLATE["w"]}, r"\['b'\]: missing in the checkpoint, float32\[3\]"),
        (TEMPLATE | {"n": 3}, r"\['n'\]: int32\[\] in the checkpoint, int expected"),
        ([TEMPLATE["n"], TEMPLATE["w"]], r"\[0\]: missing in the checkpoint, int32\[\] expected"),
    ],
)
def test_a_template_that_does_not_fit_names_the_leaf(run, template, says):
    with pytest.raises(CheckpointError, match=says):
        restored(run, template)
    assert_is(restored(run), 30)


@pytest.mark.parametrize(
    ("leaf", "says"),
    [
        (np.zeros(2), r"\['a'\]: JAX cannot restore float64"),
        (1.0, r"\['a'\]: leaves of a checkpoint must be arrays, is float"),
        ("adam", r"\['a'\]: leaves of a checkpoint must be arrays, is str"),
    ],
)
def test_a_leaf_that_would_not_come_back_is_refused(tmp_path, leaf, says):
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(TypeError, match=says):
        checkpoints.save(1, {"a": leaf})


def test_one_checkpoint_is_not_enough(tmp_path):
    with pytest.raises(ValueError, match="keep must be at least 2"):
        Checkpoints(tmp_path, keep=1)


def test_a_folder_that_is_a_file(run):
    run.rename(run.parent / "aside")
    run.write_text("in the way")
    with Checkpoints(run) as checkpoints:
        with pytest.raises(CheckpointError, match=re.escape(str(run))):
            checkpoints.save(40, tiny(40))
        with pytest.raises(CheckpointError, match=re.escape(str(run))):
            checkpoints.restore(TEMPLATE)
        run.unlink()
        (run.parent / "aside").rename(run)
        checkpoints.save(40, tiny(40), meta={"seed": 40})
        assert_is(checkpoints.restore(TEMPLATE), 40)
        assert checkpoints.steps() == [30, 40]


@pytest.mark.parametrize("surfaces", ["wait", "save", "close"])
def test_a_failed_manifest_surfaces(run, monkeypatch, surfaces):
    write = checkpoint.write_atomically

    def full(path, data):
        if path.name == "MANIFEST.json":
            raise OSError(28, "No space left on device")
        write(path, data)

    checkpoints = Checkpoints(run)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_atomically", full)
        checkpoints.save(40, tiny(40))
        checkpoints._writing.join()
    arguments = (50, tiny(50)) if surfaces == "save" else ()
    with pytest.raises(CheckpointError, match=rf"{re.escape(str(run))}: .*No space left"):
        getattr(checkpoints, surfaces)(*arguments)
    with pytest.warns(DamagedCheckpoint, match="40 is unfinished.*step 30 is used"):
        assert_is(checkpoints.restore(TEMPLATE), 30)
    checkpoints.save(40, tiny(40), meta={"seed": 40})
    assert_is(checkpoints.restore(TEMPLATE), 40)
    checkpoints.close()


def test_a_disk_without_room_is_said_before_anything_is_written(run, monkeypatch):
    checkpoints = Checkpoints(run)
    usage = lambda _: shutil._ntuple_diskusage(2**30, 2**30, 2**20)
    noise = np.zeros(2**20 + 1, np.uint8)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", usage)
        says = rf"{re.escape(str(run))}: step 40 .*No space left on device: .* 1 MiB, there ar"
        with pytest.raises(CheckpointError, match=says):
            checkpoints.save(40, {"w": noise})
        checkpoints.save(40, {"w": noise[:-1]})
        checkpoints.close()
    assert checkpoints.steps() == [30, 40]


def test_a_write_that_the_system_refuses_surfaces(run, caplog):
    """A limit on the size of a file stands in for a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    checkpoints = Checkpoints(run)
    noise = np.random.default_rng(0).integers(0, 255, 4_000_000, np.uint8)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
        with pytest.raises(CheckpointError, match=re.escape(str(run))):  # noqa: PT012
            checkpoints.save(40, {"w": noise})
            checkpoints.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not [log for log in caplog.records if log.levelname == "ERROR"]  # said once
    assert checkpoints.steps() in ([20, 30], [30])
    with pytest.warns(DamagedCheckpoint, match="40.* is unfinished.*step 30 is used"):
        assert_is(checkpoints.restore(TEMPLATE), 30)
    checkpoints.save(40, tiny(40), meta={"seed": 40})
    assert_is(checkpoints.restore(TEMPLATE), 40)
    checkpoints.close()


KILLED = """
import os, shutil, signal, sys, threading, time
import jax.numpy as jnp
from jaxae.training import checkpoint

folder, moment = sys.argv[1:]
tiny = lambda v: {"w": jnp.full((3,), v, jnp.float32), "n": jnp.int32(v)}
die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
with checkpoint.Checkpoints(folder) as checkpoints:
    for step in (() if moment == "first" else (10, 20)):
        checkpoints.save(step, tiny(step), meta={"seed": step})
    checkpoints.wait()
    if moment in ("first", "writing"):
        checkpoint.Checkpoints._write_manifest = die
    elif moment == "committed":
        checkpoint.make_manifest = die
    elif moment == "sealed":
        write = checkpoint.write_atomically
        checkpoint.write_atomically = lambda file, data: (
            write(file, data), file.name == "MANIFEST.json" and die())
    elif moment == "deleting":
        checkpoint.shutil.rmtree = die
    else:
        threading.Timer(float(moment), die).start()
    checkpoints.save(30, tiny(30), meta={"seed": 30})
    checkpoints.wait()
    time.sleep(1)
"""
MOMENTS = {
    "first": [None],
    "writing": [20],
    "committed": [20],
    "sealed": [30],
    "deleting": [30],
    "0.01": [20, 30],
    "0.05": [20, 30],
}


def test_killed_inside_a_save(tmp_path):
    """Real processes that die by SIGKILL: whatever counts afterwards is whole."""
    for moments in (list(MOMENTS)[:3], list(MOMENTS)[3:]):
        children = [
            subprocess.Popen([sys.executable, "-c", KILLED, tmp_path / moment / "c", moment])
            for moment in moments
        ]
        assert [child.wait() for child in children] == [-9] * len(children)
    for moment, allowed in MOMENTS.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with Checkpoints(tmp_path / moment / "c") as checkpoints:
                found = checkpoints.restore(TEMPLATE)
                assert (found and found[0]) in allowed, moment
                if found:
                    assert_is(found, found[0])
                assert not (tmp_path / moment / "c" / ".deleted").exists()
                said = [str(w.message) for w in caught if w.category is DamagedCheckpoint]
                assert len(said) == len(caught)
                assert all("is unfinished" in message for message in said)
                if not moment.startswith("0"):  # a timer may go off before the save has begun
                    assert len(said) == (0 if found and found[0] == 30 else 1), moment
                checkpoints.save(30, tiny(30), meta={"seed": 30})
                assert_is(checkpoints.restore(TEMPLATE), 30)
                assert not list((tmp_path / moment / "c").glob("*tmp*"))


def test_the_manifest_is_readable_json(three):
    listed = json.loads((three / "30" / "MANIFEST.json").read_text())
    assert listed["step"] == "30"
    assert listed["files"]["meta/metadata"]["size"] == (three / "30/meta/metadata").stat().st_size
