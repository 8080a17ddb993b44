"""Oracles: single calls on one device, of which every other arrangement is a rewriting."""

import functools
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from scipy.spatial.distance import cdist

from jaxae import nets
from jaxae.data import DataError
from jaxae.training import parallel
from jaxae.training.parallel import DeviceError, Engine, Mode

DATA = tiny.images(binarise="dynamic")
STREAMED = tiny.images(binarise="dynamic", resident_mib=0)
MODEL = tiny.toy(DATA)
ONE = Mode("mesh", 1, "calls", "sequence")


@functools.cache
def engine_of(mode, streamed=False, seeds=2, seed=0):
    data = STREAMED if streamed else DATA
    return Engine(MODEL, data.train, tiny.plan(seeds=seeds, seed=seed), mode)


def run(engine, *chunks):
    """States of all seeds and metrics `{name: [seeds, steps]}` after chunks of so many steps."""
    states, step, seen = engine.init(), 0, []
    for steps in chunks:
        states, metrics = engine.run(states, step, steps)
        step += steps
        seen.append(engine.fetch(metrics))
    metrics = {name: np.concatenate([s[name] for s in seen], axis=1) for name in seen[0]}
    return [jax.tree.map(np.array, state) for state in engine.part(states)], metrics


@functools.cache
def one_by_one():
    return run(engine_of(ONE), 6)


@tiny.x64()
def test_calls_are_the_steps_written_out():
    """The contract: step t sees the batch of (seed, t) and the key fold_in(key(seed), t)."""
    state, step = jax.jit(MODEL.init)(jax.random.key(5)), jax.jit(MODEL.step)
    losses = []
    for t in range(4):
        rng = jax.random.fold_in(jax.random.fold_in(jax.random.key(5), t), 1)
        state, metrics = step(state, DATA.train.batch(5, t, tiny.BATCH), rng)
        losses.append(metrics["loss"])
    states, metrics = run(engine_of(ONE, seeds=1, seed=5), 4)
    tiny.assert_close(states[0], state, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(metrics["loss"], [losses], rtol=1e-12)


@pytest.mark.parametrize("by", ["vmap", "sequence"])
@pytest.mark.parametrize("loop", ["scan", "calls"])
@pytest.mark.parametrize(("parallel", "devices"), [("mesh", 1), ("mesh", 2), ("pmap", 2)])
def test_every_arrangement_trains_alike(parallel, devices, loop, by):
    found = run(engine_of(Mode(parallel, devices, loop, by)), 6)
    assert found[1]["loss"].shape == (2, 6)
    if parallel == "pmap":  # a device's noise is its own
        np.testing.assert_allclose(found[1]["loss"], one_by_one()[1]["loss"], rtol=0.05)
    else:
        tiny.assert_close(found, one_by_one(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("loop", ["scan", "calls"])
def test_seeds_side_by_side_have_the_bits_of_each_alone(loop, monkeypatch):
    mode, threads = Mode("mesh", 1, loop, "sequence"), set()
    beside = engine_of(mode, seeds=3, seed=4)
    run_chunk = beside._run_chunk
    monkeypatch.setattr(
        beside, "_run_chunk", lambda *each: threads.add(threading.get_ident()) or run_chunk(*each)
    )
    states, metrics = run(beside, 6)
    assert len(threads) > 1
    for i, state in enumerate(states):
        (alone,), seen = run(engine_of(mode, seeds=1, seed=4 + i), 6)
        tiny.assert_same_bits(state, alone)
        tiny.assert_same_bits({name: each[i : i + 1] for name, each in metrics.items()}, seen)


@pytest.mark.parametrize("loop", ["scan", "calls"])
@pytest.mark.parametrize(
    ("parallel", "devices", "by"),
    [("mesh", 1, "sequence"), ("mesh", 2, "vmap"), ("pmap", 2, "vmap")],
)
def test_neither_chunks_nor_streaming_change_a_bit(parallel, devices, by, loop):
    assert not STREAMED.train.resident
    mode = Mode(parallel, devices, loop, by)
    wanted = run(engine_of(mode), 6)
    tiny.assert_same_bits(run(engine_of(mode), 2, 2, 1, 1), wanted)
    tiny.assert_same_bits(run(engine_of(mode, streamed=True), 2, 2, 1, 1), wanted)


def test_reads_the_next_steps_before_they_are_asked_for_and_none_beyond_the_end():
    read = []
    ahead = parallel._Prefetch(lambda step: read.append(step) or 10 * step, count=4, end=10)
    for step, steps, known in ((0, 4, 8), (4, 2, 10), (6, 4, 10)):
        assert ahead(step, steps) == [10 * t for t in range(step, step + steps)]
        assert list(ahead.coming) == list(range(step + steps, known))
        for reading in ahead.coming.values():
            reading.result(timeout=60)  # nobody has asked for it
        assert read == list(range(known))
    ahead.pool.shutdown()


@pytest.mark.parametrize("by", ["vmap", "sequence"])
@pytest.mark.parametrize("loop", ["scan", "calls"])
def test_streamed_chunks_go_in_pieces_of_bounded_size(loop, by, monkeypatch):
    """Two steps of two seeds fit; log_every is 4. The bits are those of the data on the device."""
    rows = jax.tree.leaves(STREAMED.train.gather(np.arange(tiny.BATCH)))
    monkeypatch.setattr(parallel, "PIECE_BYTES", 5 * sum(x.nbytes for x in rows))
    mode, pieces = Mode("mesh", 1, loop, by), []
    engine = Engine(MODEL, STREAMED.train, tiny.plan(seeds=2), mode)
    run_piece = engine._run_piece
    monkeypatch.setattr(engine, "_run_piece", lambda *a: pieces.append(a[1:]) or run_piece(*a))
    found = run(engine, 4, 3)
    assert pieces == [(0, 2), (2, 2), (4, 2), (6, 1)]
    tiny.assert_same_bits(found, run(engine_of(mode), 7))


@pytest.mark.parametrize("by", ["vmap", "sequence"])
@pytest.mark.parametrize("loop", ["scan", "calls"])
@pytest.mark.parametrize(("parallel", "devices"), [("mesh", 1), ("mesh", 2), ("pmap", 2)])
def test_the_old_state_is_donated(parallel, devices, loop, by):
    engine = engine_of(Mode(parallel, devices, loop, by))
    states, _ = engine.run(engine.init(), 0, 6)
    old = jax.tree.leaves(states)
    engine.run(states, 6, 6)
    assert all(leaf.is_deleted() for leaf in old)


def test_the_mode_is_chosen_by_what_the_step_computes():
    dense, conv = (tiny.make(name, DATA) for name in ("vae", "vae conv"))
    auto = tiny.plan(loop="auto", seeds=2)
    assert Engine(dense, DATA.train, auto).mode == Mode("mesh", 1, "scan", "sequence")
    assert Engine(conv, DATA.train, auto).mode == Mode("mesh", 1, "calls", "sequence")
    assert Engine(conv, STREAMED.train, auto).mode == Mode("mesh", 1, "calls", "sequence")
    forced = tiny.plan(loop="scan", seeds_by="vmap", parallel="pmap", devices=0)
    assert Engine(conv, DATA.train, forced).mode == Mode("pmap", 8, "scan", "vmap")
    kept = Mode("mesh", 1, "calls", "vmap")
    assert Engine(dense, DATA.train, auto, kept).mode == kept


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"devices": 9}, ["devices=9", "only 8"]),
        ({"devices": 5}, ["batch_size=16", "5 devices"]),
        ({"batch_size": 12, "devices": 0}, ["batch_size=12", "8 devices"]),
    ],
)
def test_a_plan_that_does_not_fit_the_devices_is_refused(changes, words):
    with pytest.raises(DeviceError) as error:
        Engine(MODEL, DATA.train, tiny.plan(**changes))
    assert all(word in str(error.value) for word in words)


def test_labelled_examples_that_the_devices_cannot_share_are_refused():
    data = tiny.images(labels_batch=6)
    with pytest.raises(DeviceError, match=r"6 labelled examples .* 4 devices"):
        Engine(MODEL, data.train, tiny.plan(devices=4))


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(DataError, match=r"1\.\.48"):
        Engine(MODEL, DATA.train, tiny.plan(batch_size=49))


def test_a_run_that_began_on_more_devices_is_refused():
    with pytest.raises(DeviceError, match=r"started on 16 devices.* only 8: .*--workdir"):
        Engine(MODEL, DATA.train, tiny.plan(), Mode("mesh", 16, "scan", "vmap"))


@pytest.mark.parametrize("by", ["vmap", "sequence"])
def test_refresh_passes_over_every_image_of_every_seed(by):
    data = tiny.images(size=41)  # the last batch is padded
    model = tiny.toy(data)
    engine = Engine(model, data.train, tiny.plan(seeds=2), Mode("mesh", 2, "calls", by))
    start = [jax.tree.map(np.array, s) for s in engine.part(engine.init())]
    states = engine.refresh(engine.init(), 0)
    images = np.concatenate([b["image"][m] for b, m in data.train.examples(8)])
    for state, first in zip(engine.part(states), start, strict=True):
        errors = np.sum((images - first.params["mean"]["pixels"]) ** 2, (1, 2, 3))
        np.testing.assert_allclose(state.extra["memory"], errors, rtol=1e-5)
    engine.run(states, 0, 1)  # they are where the engine wants them


@pytest.mark.parametrize("devices", [2, 8])
def test_nearest_over_the_rows_of_a_mesh_is_the_same_bit_for_bit(devices):
    rng = np.random.default_rng(0)
    rows, queries = (rng.normal(size=(n, 5)).astype(np.float32) for n in (64, 9))
    rows[40:44] = rows[3]  # equal distances on different devices
    queries[0] = rows[3]
    search = functools.partial(nets.nearest, k=6)
    over = parallel.shard_rows(search, parallel.data_mesh(devices))
    placed = jax.device_put(
        jnp.asarray(rows),
        jax.sharding.NamedSharding(
            parallel.data_mesh(devices), jax.sharding.PartitionSpec(parallel.AXIS)
        ),
    )
    found, wanted = over(queries, placed), jax.jit(search)(queries, rows)
    tiny.assert_same_bits(found, wanted)
    order = np.argsort(cdist(queries, rows).round(5), axis=1, kind="stable")[:, :6]
    np.testing.assert_array_equal(found[0], order)
