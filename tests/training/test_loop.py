"""Oracles: what the toy model's own steps give, and files read back by other readers."""

import contextlib
import copy
import dataclasses
import json
import os
import pty
import re
import signal
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jaxae.training import Plan, loop, memory
from jaxae.training.checkpoint import CheckpointError, Checkpoints, DamagedCheckpoint
from jaxae.training.divergence import find_divergence
from jaxae.training.loop import NonFiniteLoss, Stopped, fit
from jaxae.training.parallel import DeviceError, Engine, Mode
from jaxae.training.records import DamagedRecords
from jaxae.training.workdir import WorkdirError

DATA = tiny.images()
MODEL = tiny.toy(DATA)


def held_out(state):
    batch = next(DATA.test.examples(11))[0]
    return {"loss": float(np.mean(MODEL.evaluate(state, batch, None)["loss"]))}


def strict_records(workdir):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line, parse_constant=refuse) for line in lines]
    assert [record.pop("n") for record in records] == [*range(1, len(records) + 1)]
    assert all(re.fullmatch("[0-9a-f]{8}", record.pop("crc")) for record in records)
    return records


def curves(workdir):
    """Every TensorBoard curve: `{name: {step: value}}`."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(workdir / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {
        name: [(event.step, np.float32(event.value)) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def curves_of(records):
    """The curves that records of metrics.jsonl stand for."""
    found = {}
    for record in records:
        for name, value in record.items():
            if name not in ("step", "seconds"):
                values = value if isinstance(value, list) else [value]
                for i, v in enumerate(values):
                    tag = name if len(values) == 1 else f"{name}/seed{i}"
                    found.setdefault(tag, []).append((record["step"], np.float32(v)))
    return found


# -- records ---------------------------------------------------------------------------------------


def test_records_are_the_means_of_each_chunk(tmp_path):
    engine = Engine(MODEL, DATA.train, tiny.plan(), Mode("mesh", 1, "calls", "vmap"))
    metrics = engine.fetch(engine.run(engine.init(), 0, 12)[1])
    fitted = fit(MODEL, DATA, tiny.plan(steps=11), tmp_path, quiet=True)
    records = strict_records(tmp_path)
    assert records == fitted.records
    assert [record["step"] for record in records] == [4, 8, 11]
    for record, chunk in zip(records, (slice(0, 4), slice(4, 8), slice(8, 11)), strict=True):
        assert set(record) == {"step", "train/loss", "train/norm", "seconds", "steps_per_s"}
        for name in ("loss", "norm"):
            assert record[f"train/{name}"] == pytest.approx(np.mean(metrics[name][0, chunk]), 1e-5)
    assert fitted.states[0].step == 11
    assert [r["seconds"] for r in records] == sorted(r["seconds"] for r in records)


def test_several_seeds_are_lists(tmp_path):
    plan = tiny.plan(steps=4, seeds=3, eval_every=4)
    fit(MODEL, DATA, plan, tmp_path, evaluate=held_out, quiet=True)
    train, test = strict_records(tmp_path)
    assert len(train["train/loss"]) == len(test["test/loss"]) == 3
    assert curves(tmp_path) == curves_of([train, test])


def test_the_evaluation_is_called_in_time_and_at_the_end(tmp_path):
    seen = []

    def evaluate(state):
        seen.append(int(state.step))
        return held_out(state)

    fitted = fit(MODEL, DATA, tiny.plan(steps=18, eval_every=8), tmp_path, evaluate=evaluate,
                 quiet=True)  # fmt: skip
    assert seen == [8, 16, 18]
    tests = [record for record in fitted.records if "test/loss" in record]
    assert [record["step"] for record in tests] == [8, 16, 18]
    assert tests[-1]["test/loss"] == pytest.approx(held_out(fitted.states[0])["loss"])
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.steps() == [18]


@pytest.mark.parametrize("validation", [0, 8])
def test_the_best_is_chosen_by_validation_images_or_not_at_all(tmp_path, validation):
    data = tiny.images(validation=validation)
    if validation:
        data = data._replace(test=None)  # nothing of them is read
    losses = {4: 5.0, 8: 1.0, 12: 3.0, 16: 4.0, 20: 6.0}
    model, plan = tiny.toy(data), tiny.plan(steps=20, eval_every=4, save_every=4)
    evaluate = lambda state: {"loss": losses[int(state.step)]}
    fitted = fit(model, data, plan, tmp_path, evaluate=evaluate, quiet=True)
    looked_at = "validation" if validation else "test"
    names = {name for record in fitted.records for name in record if "train/" not in name}
    assert names == {"step", "seconds", "steps_per_s", f"{looked_at}/loss"}
    assert f"{looked_at}/loss" in curves(tmp_path)
    template = jax.eval_shape(Engine(model, data.train, plan, fitted.mode).init)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.steps() == ([8, 16, 20] if validation else [16, 20])
        best = checkpoints.restore_best(template)
        assert (best and best[0]) == (8 if validation else None)


def test_without_a_folder_everything_stays_in_memory():
    fitted = fit(MODEL, DATA, tiny.plan(), quiet=True)
    assert [record["step"] for record in fitted.records] == [4, 8, 12]


def test_the_memory_is_refreshed_when_the_plan_says_so(tmp_path, monkeypatch):
    steps = []
    refresh = Engine.refresh

    def spy(self, states, step):
        steps.append(step)
        return refresh(self, states, step)

    monkeypatch.setattr(Engine, "refresh", spy)
    plan = tiny.plan(steps=16, refresh_first=True, refresh_every=8)
    fit(MODEL, DATA, plan, tmp_path, quiet=True)
    fit(MODEL, DATA, plan, tmp_path, quiet=True)  # it is finished: nothing happens
    assert steps == [0, 8]


def test_what_is_evaluated_is_a_refreshed_copy(tmp_path):
    """And training goes on, and is saved, as if nobody had looked."""
    seen = []
    plan = tiny.plan(steps=8, eval_every=4, save_every=4)
    look = lambda state: seen.append(tiny.leaves(state)) or held_out(state)
    fitted = fit(MODEL, DATA, plan, tmp_path, evaluate=look, quiet=True)
    engine = Engine(MODEL, DATA.train, plan)
    x = np.asarray(next(DATA.train.examples(DATA.train.size))[0]["image"], np.float64)
    wanted = []
    for step in (4, 8):
        states, _ = engine.run(engine.init(), 0, step)
        wanted.append(engine.part(states)[0])
        mean = np.asarray(wanted[-1].params["mean"]["pixels"])
        wanted[-1] = wanted[-1].replace(extra={"memory": np.sum((x - mean) ** 2, axis=(1, 2, 3))})
    seen.append(tiny.leaves(fitted.states[0]))
    for found, state in zip(seen, (*wanted, wanted[-1]), strict=True):
        for name, value in tiny.leaves(state).items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        step, kept, _ = checkpoints.restore(jax.eval_shape(engine.init))
    assert step == 8
    tiny.assert_same_bits(kept, engine.run(engine.init(), 0, 8)[0])


def test_metrics_are_fetched_one_chunk_late(tmp_path, monkeypatch):
    order = []
    run, fetch = Engine.run, Engine.fetch

    def spy_run(self, states, step, steps):
        order.append(f"run {step}")
        return run(self, states, step, steps)

    def spy_fetch(self, metrics):
        order.append("fetch")
        return fetch(self, metrics)

    monkeypatch.setattr(Engine, "run", spy_run)
    monkeypatch.setattr(Engine, "fetch", spy_fetch)
    fit(MODEL, DATA, tiny.plan(steps=20, save_every=12), tmp_path, quiet=True)
    assert order == ["run 0", "run 4", "fetch", "run 8", "fetch", "fetch",  # saved at 12
                     "run 12", "run 16", "fetch", "fetch"]  # fmt: skip


def test_tensorboard_holds_a_copy_also_of_a_run_that_was_stopped(tmp_path):
    plan = tiny.plan(steps=16, save_every=8, eval_every=4)

    def stop_at(step):
        def evaluate(state):
            if state.step == step:
                raise RuntimeError("stopped by the test")
            return held_out(state)

        return evaluate

    with pytest.raises(RuntimeError, match="by the test"):
        fit(MODEL, DATA, plan, tmp_path, evaluate=stop_at(4), quiet=True)  # nothing saved yet
    assert curves(tmp_path) == curves_of(strict_records(tmp_path))
    with pytest.raises(RuntimeError, match="by the test"):
        fit(MODEL, DATA, plan, tmp_path, evaluate=stop_at(16), quiet=True)  # saved at 8
    fit(MODEL, DATA, plan, tmp_path, evaluate=held_out, quiet=True)
    records = strict_records(tmp_path)
    assert [record["step"] for record in records] == [4, 4, 8, 8, 12, 12, 16, 16]
    assert curves(tmp_path) == curves_of(records)


def test_a_held_out_nan_is_kept_and_the_run_goes_on(tmp_path):
    plan = tiny.plan(steps=16, eval_every=4, save_every=8)

    def evaluate(state):
        if state.step == 12 and not (tmp_path / "seen").exists():
            (tmp_path / "seen").touch()
            raise RuntimeError("stopped by the test")
        return held_out(state) | {"x": [np.nan, np.inf][int(state.step) // 4 % 2]}

    with pytest.raises(RuntimeError, match="by the test"):
        fit(MODEL, DATA, plan, tmp_path, evaluate=evaluate, quiet=True)
    fit(MODEL, DATA, plan, tmp_path, evaluate=evaluate, quiet=True)
    seen = [record["test/x"] for record in strict_records(tmp_path) if "test/x" in record]
    assert seen == ["inf", "nan", "inf", "nan"]
    steps, values = zip(*curves(tmp_path)["test/x"], strict=True)
    assert steps == (4, 8, 12, 16)
    np.testing.assert_array_equal(values, [np.inf, np.nan, np.inf, np.nan])


def test_what_is_due_inside_a_chunk_ends_it(tmp_path, monkeypatch):
    """Intervals that are no multiples of log_every; what never comes is no matter."""
    refreshed, refresh = [], Engine.refresh
    monkeypatch.setattr(
        Engine, "refresh", lambda self, *a: refreshed.append(a[1]) or refresh(self, *a)
    )
    plan = tiny.plan(steps=20, log_every=8, eval_every=6, save_every=9, refresh_every=7)
    fit(MODEL, DATA, plan, tmp_path, evaluate=held_out, quiet=True)
    records = strict_records(tmp_path)
    looks = [record["step"] for record in records if "test/loss" in record]
    chunks = [record["step"] for record in records if "train/loss" in record]
    assert looks == [6, 12, 18, 20]
    assert chunks == [6, 7, 8, 9, 12, 14, 16, 18, 20]
    assert refreshed == [7, 14]
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.steps() == [18, 20]
    plan = tiny.plan(steps=20, log_every=8, eval_every=6, save_every=10**6)
    assert [record["step"] for record in fit(MODEL, DATA, plan, quiet=True).records] == [8, 16, 20]


# -- what must not go on ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "loop", "words"),
    [
        ({"bad_loss_at": 11}, "scan", ["loss is nan", "step 11"]),
        ({"bad_norm_at": 9}, "calls", ["norm is inf", "step 9"]),
        ({"bad_params_at": 10}, "scan", ["loss is nan", "step 11"]),
    ],
)
def test_stops_at_the_first_non_finite_metric(tmp_path, fault, loop, words):
    plan = tiny.plan(steps=40, save_every=4, loop=loop, seed=3)
    with pytest.raises(NonFiniteLoss) as error:
        fit(tiny.toy(DATA, **fault), DATA, plan, tmp_path, quiet=True)
    words = [*words, "seed 3", "last good checkpoint is step 8"]
    assert all(word in str(error.value) for word in words), error.value
    assert [record["step"] for record in strict_records(tmp_path)] == [4, 8]
    engine = Engine(MODEL, DATA.train, plan)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        step, kept, _ = checkpoints.restore(jax.eval_shape(engine.init))
    assert step == 8
    wanted, _ = engine.run(engine.init(), 0, 8)
    tiny.assert_close(kept, wanted, rtol=1e-6)


def test_parameters_that_are_not_finite_are_not_saved(tmp_path):
    """The loss of step 8 is that of the parameters before it, and finite."""
    model = tiny.toy(DATA, bad_params_at=8)
    with pytest.raises(NonFiniteLoss) as error:
        fit(model, DATA, tiny.plan(steps=40, save_every=4), tmp_path, quiet=True)
    for words in ("params['mean']['pixels'] is not finite after step 8", "checkpoint is step 4"):
        assert words in str(error.value)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.steps() == [4]


def spoilt(part, at, value=jnp.nan):
    """The toy model, whose step `at` puts `value` into a part of the state that no metric shows."""

    def step(state, *rest):
        state, metrics = MODEL.step(state, *rest)
        bad = jnp.where(state.step == at, value, 0)
        spoil = lambda x: x + bad if jnp.issubdtype(x.dtype, jnp.inexact) else x
        return state.replace(**{part: jax.tree.map(spoil, getattr(state, part))}), metrics

    return MODEL._replace(step=step)


@pytest.mark.parametrize(("part", "value", "name"), [
    ("opt", jnp.nan, r"opt\['player'\]\[0\].mu"), ("extra", -jnp.inf, r"extra\['memory'\]"),
])  # fmt: skip
def test_no_part_of_a_state_that_is_not_finite_is_saved(tmp_path, part, value, name):
    says = rf"{name}.* is not finite after step 8 \(seed 0\); the last good checkpoint is step 4"
    with pytest.raises(NonFiniteLoss, match=says):
        fit(spoilt(part, 8, value), DATA, tiny.plan(save_every=4), tmp_path, quiet=True)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.steps() == [4]


def test_a_folder_whose_newest_checkpoint_is_not_finite_goes_on_from_the_one_before(
    tmp_path, monkeypatch
):
    """Earlier versions saved such states."""
    plan = tiny.plan(save_every=4)
    wanted = fit(MODEL, DATA, plan, tmp_path / "whole", quiet=True)
    bad, folder = spoilt("opt", 8), tmp_path / "w"
    with monkeypatch.context() as earlier:
        earlier.setattr(loop, "not_finite", lambda tree: None)
        fit(bad, DATA, dataclasses.replace(plan, steps=8), folder, quiet=True)
    says = r"checkpoints/8 cannot be continued: .*opt.*mu.*not finite.*damaged/8, and step 4 is"
    with pytest.warns(DamagedCheckpoint, match=says):
        found = fit(MODEL, DATA, plan, folder, quiet=True)
    tiny.assert_same_bits(found.states, wanted.states)
    assert (folder / "damaged" / "8").is_dir()
    with Checkpoints(folder / "checkpoints") as checkpoints:
        assert checkpoints.steps() == [8, 12]


def test_where_no_checkpoint_is_finite_all_stay(tmp_path, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(loop, "not_finite", lambda tree: None)
        fit(spoilt("extra", 4), DATA, tiny.plan(steps=4), tmp_path, quiet=True)
    with pytest.raises(CheckpointError, match=r"no checkpoint can be continued \(step 4: .*extra"):
        fit(MODEL, DATA, tiny.plan(), tmp_path, quiet=True)
    assert (tmp_path / "checkpoints" / "4").is_dir()


def test_without_a_checkpoint_yet_the_start_is_kept(tmp_path):
    model = tiny.toy(DATA, bad_loss_at=2)
    says = r"step 2 .*no checkpoint had been written yet; the state before the first .* as step 0"
    plan = tiny.plan(refresh_first=True)
    for _ in range(2):  # it goes on from there, to the same end
        with pytest.raises(
            NonFiniteLoss, match=says if not _ else "last good checkpoint is step 0"
        ):
            fit(model, DATA, plan, tmp_path, quiet=True)
    engine = Engine(model, DATA.train, plan)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        step, kept, _ = checkpoints.restore(jax.eval_shape(engine.init))
    assert step == 0
    tiny.assert_same_bits(kept, engine.refresh(engine.init(), 0))
    with pytest.raises(NonFiniteLoss, match=r"step 2 .*no checkpoint had been written yet\. A"):
        fit(model, DATA, tiny.plan(), quiet=True)


def test_what_does_not_fit_the_memory_is_refused(tmp_path, monkeypatch):
    state = (
        8 * 8 * 4 * (3 + 1) + 48 * 4 + 2 * 4
    )  # parameters, two moments, gradient; memory; counts
    data = sum(x.nbytes for x in jax.tree.leaves(DATA.train.arrays))
    need = 3 * (state + 6 * memory.ARRAY_BYTES) + data
    monkeypatch.setattr(memory, "available", lambda: need)
    memory.check_memory(MODEL, DATA.train, tiny.plan(seeds=3))
    monkeypatch.setattr(memory, "available", lambda: need - 1)
    with pytest.raises(DeviceError, match=r"seeds=3: 3 x .* need more memory than .*fewer seeds"):
        fit(MODEL, DATA, tiny.plan(seeds=3), tmp_path / "w", quiet=True)
    assert not (tmp_path / "w").exists()


def test_the_memory_of_this_machine():
    assert 2**28 < memory.available() < 2**50


@pytest.mark.parametrize(("first", "last", "far"), [
    (500.0, 500_500.0, False), (500.0, 500_501.0, True), (0.001, 1000.0, False),
    (0.001, 1000.1, True), (-3.0, 2997.0, False), (-3.0, 2998.0, True), (5.0, -1e30, False),
    (5.0, "inf", True), (5.0, "nan", True), ([1.0, 1.0], [2.0, 1e28], True),
])  # fmt: skip
def test_far_above_the_start(first, last, far):
    """By hand: more than 1000 starts above the start, or 1000 where that is below 1."""
    records = [{"step": 1, "train/loss": first}, {"step": 2, "test/loss": 1e30}]
    records += [{"step": 2, "train/loss": last}]
    assert bool(find_divergence(None, records)) == far
    late = [{"step": 2, "train/loss": last}]  # it may diverge before the first record
    assert bool(find_divergence(np.atleast_1d(first).tolist(), late)) == far
    assert find_divergence(None, []) is None


def test_the_loss_of_the_first_step_is_kept(tmp_path):
    plan = tiny.plan(steps=8, seeds=2, loop="scan")
    engine = Engine(MODEL, DATA.train, plan, Mode("mesh", 1, "scan", "vmap"))
    wanted = engine.fetch(engine.run(engine.init(), 0, 1)[1])["loss"][:, 0]
    found = fit(MODEL, DATA, plan, tmp_path, quiet=True)
    np.testing.assert_allclose(found.start, wanted, rtol=1e-6)
    longer = fit(MODEL, DATA, dataclasses.replace(plan, steps=12), tmp_path, quiet=True)
    assert longer.start == found.start


# -- stopping and going on -------------------------------------------------------------------------


def signals_at(step, *signals):
    def evaluate(state):
        if state.step == step:
            for signum in signals:
                os.kill(os.getpid(), signum)
        return held_out(state)

    return evaluate


@pytest.mark.parametrize(
    ("signum", "at"), [(signal.SIGTERM, 4), (signal.SIGINT, 8), (signal.SIGTERM, 12)]
)
def test_a_signal_saves_and_the_run_goes_on_bit_for_bit(tmp_path, signum, at):
    """Also a signal during the evaluation after the last step."""
    plan = tiny.plan(eval_every=4, save_every=8)
    wanted = fit(MODEL, DATA, plan, tmp_path / "whole", evaluate=held_out, quiet=True)
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    folder = tmp_path / "stopped"
    with pytest.raises(Stopped, match="saved; the same command goes on") as stopped:
        fit(MODEL, DATA, plan, folder, evaluate=signals_at(at, signum), quiet=True)
    assert stopped.value.signum == signum
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    with Checkpoints(folder / "checkpoints") as checkpoints:
        # It comes after the chunk that follows the signal, if there is one.
        assert checkpoints.steps()[-1] == stopped.value.step == min(at + 4, 12)
    found = fit(MODEL, DATA, plan, folder, evaluate=held_out, quiet=True)
    tiny.assert_same_bits(found.states, wanted.states)
    times = {"seconds": 0, "steps_per_s": 0}
    assert [r | times for r in found.records] == [r | times for r in wanted.records]
    assert strict_records(folder) == found.records
    assert found.seconds > found.records[0]["seconds"]


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    evaluate = signals_at(8, signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(MODEL, DATA, tiny.plan(steps=40, eval_every=4), tmp_path, evaluate=evaluate, quiet=True)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.steps() == []


def test_without_a_folder_a_signal_says_that_nothing_was_kept():
    with pytest.raises(Stopped, match="nothing was kept"):
        fit(MODEL, DATA, tiny.plan(eval_every=4), evaluate=signals_at(4, signal.SIGTERM),
            quiet=True)  # fmt: skip


def test_trains_in_another_thread(tmp_path):
    """Only the main thread may handle signals; a notebook may train in another."""
    done = []
    thread = threading.Thread(
        target=lambda: done.append(fit(MODEL, DATA, tiny.plan(), tmp_path, quiet=True))
    )
    thread.start()
    thread.join()
    assert done[0].states[0].step == 12


def test_several_hosts_with_one_folder_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(DeviceError, match="workdir=None"):
        fit(MODEL, DATA, tiny.plan(), tmp_path, quiet=True)
    assert not list(tmp_path.iterdir())


def test_a_resumed_run_keeps_the_mode_it_began_with(tmp_path):
    plan = tiny.plan(eval_every=4, loop="scan", seeds_by="vmap")
    with pytest.raises(Stopped):
        fit(MODEL, DATA, plan, tmp_path, evaluate=signals_at(4, signal.SIGTERM), quiet=True)
    auto = tiny.plan(loop="calls", seeds_by="sequence", devices=8)
    found = fit(MODEL, DATA, auto, tmp_path, quiet=True)
    assert found.mode == Mode("mesh", 1, "scan", "vmap")


def timeless(records):
    return [r | {"seconds": 0, "steps_per_s": 0} for r in records if "train/loss" in r]


@pytest.mark.parametrize("changes", [
    {"loop": "scan", "seeds": 2, "seeds_by": "vmap"},
    {"refresh_every": 4, "refresh_first": True},  # one is due where the shorter run ended
    {"log_every": 5, "eval_every": 3, "save_every": 7},
])  # fmt: skip
def test_a_lengthened_run_is_one_that_was_so_long_from_the_start(tmp_path, optimised, changes):
    # One step more rewrites a third of the memory: a refresh that was left out shows in the rest.
    long, short = tiny.plan(steps=9, **changes), tiny.plan(steps=8, **changes)
    wanted = fit(MODEL, DATA, long, tmp_path / "long", evaluate=held_out, quiet=True)
    fit(MODEL, DATA, short, tmp_path / "w", evaluate=held_out, quiet=True)
    found = fit(MODEL, DATA, long, tmp_path / "w", evaluate=held_out, quiet=True)
    tiny.assert_same_bits(found.states, wanted.states)
    if "log_every" not in changes:  # else the shorter run's last chunk ended at 8, the other's not
        assert timeless(found.records) == timeless(wanted.records)


def test_a_lengthened_run_of_streamed_data(tmp_path):
    streamed = DATA._replace(train=copy.copy(DATA.train))
    streamed.train.resident = False
    wanted = fit(MODEL, streamed, tiny.plan(steps=20), quiet=True)
    fit(MODEL, streamed, tiny.plan(steps=8), tmp_path, quiet=True)
    found = fit(MODEL, streamed, tiny.plan(steps=20), tmp_path, quiet=True)
    tiny.assert_same_bits(found.states, wanted.states)


def test_a_damaged_record_costs_the_record_and_not_the_run(tmp_path):
    plan = tiny.plan(save_every=4)
    wanted = fit(MODEL, DATA, plan, tmp_path / "whole", quiet=True)
    folder = tmp_path / "w"
    fit(MODEL, DATA, dataclasses.replace(plan, steps=8), folder, quiet=True)
    file = folder / "metrics.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"step":4', b'"step":5'))
    with pytest.warns(DamagedRecords) as seen:
        found = fit(MODEL, DATA, plan, folder, quiet=True)
    assert [str(file) in str(w.message) for w in seen] == [True, True]
    assert "line 1 is damaged" in str(seen[0].message)
    assert "1 records up to step 8, but 2 when its checkpoint was saved" in str(seen[1].message)
    tiny.assert_same_bits(found.states, wanted.states)
    assert timeless(found.records) == timeless(wanted.records[1:])
    assert strict_records(folder) == found.records


def test_the_guard_is_asked_before_anything_is_written(tmp_path):
    def guard():
        if (tmp_path / "metrics.jsonl").exists():
            raise WorkdirError("no longer ours")

    with pytest.raises(WorkdirError, match="no longer ours"):
        fit(MODEL, DATA, tiny.plan(log_every=2), tmp_path, quiet=True, guard=guard)
    assert [record["step"] for record in strict_records(tmp_path)] == [2]


# -- what a person sees ----------------------------------------------------------------------------


def test_callbacks_are_given_what_the_file_holds_in_its_order(tmp_path):
    """Of a run that is lengthened, the second session's records alone; the copies are free."""
    seen = []

    def note(record):
        assert strict_records(tmp_path)[-1]["step"] == record["step"]  # it is written by then
        seen.append(dict(record))
        record.clear()

    plan = tiny.plan(steps=8, eval_every=8, save_every=4)
    fitted = fit(MODEL, DATA, plan, tmp_path, evaluate=held_out, quiet=True, callbacks=[note])
    assert seen == strict_records(tmp_path) == fitted.records
    first = len(seen)
    fit(MODEL, DATA, dataclasses.replace(plan, steps=12), tmp_path, evaluate=held_out, quiet=True,
        callbacks=[note])  # fmt: skip
    assert seen == strict_records(tmp_path)
    assert [r["step"] for r in seen] == [4, 8, 8, 12, 12]
    assert len(seen) == first + 2
    memory_only = []
    fitted = fit(MODEL, DATA, plan, quiet=True, callbacks=[memory_only.append])
    assert memory_only == fitted.records


@pytest.mark.parametrize(
    ("at", "eval_every", "saved"), [("train/loss", 4, 4), ("test/loss", 4, 4), ("train/loss", 0, 8)]
)
def test_a_callback_that_fails_stops_the_run_which_goes_on_bit_for_bit(
    tmp_path, at, eval_every, saved, optimised
):
    """Where nothing else is due, a chunk's record is written while the next chunk runs."""
    plan, calls = tiny.plan(eval_every=eval_every), []

    def fail(record):
        calls.append(record["step"])
        if at in record and record["step"] >= 4:
            raise LookupError("mine")

    run = lambda folder, **more: fit(
        MODEL, DATA, plan, folder, evaluate=held_out, quiet=True, **more
    )
    whole = run(tmp_path / "whole")
    with pytest.raises(LookupError, match="mine"):
        run(tmp_path / "cut", callbacks=[fail])
    assert calls[-1] == 4
    with Checkpoints(tmp_path / "cut" / "checkpoints") as checkpoints:
        assert checkpoints.steps() == [saved]
    resumed = run(tmp_path / "cut")
    tiny.assert_same_bits(resumed.states, whole.states)
    assert timeless(resumed.records) == timeless(whole.records)


def test_plain_lines_where_there_is_no_terminal(tmp_path, capsys):
    fit(MODEL, DATA, tiny.plan(), tmp_path)
    out, lines = capsys.readouterr()
    assert out == ""
    lines = lines.splitlines()
    line = r"step {}/12  loss \d+\.\d{{3}}  [\d.e+]+ steps/s  \d+ s left"
    assert re.fullmatch(line.format(4), lines[0])
    assert re.fullmatch(line.format(12), lines[-1])


@pytest.mark.parametrize("closed", [True, False])
def test_a_run_outlives_whoever_watched(monkeypatch, closed):
    """Standard error is closed, or nobody reads at its other end."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as stream:
        monkeypatch.setattr(sys, "stderr", None if closed else stream)
        assert fit(MODEL, DATA, tiny.plan()).states[0].step == 12
        with contextlib.suppress(BrokenPipeError):
            stream.close()


def test_quiet_is_quiet(capsys):
    fit(MODEL, DATA, tiny.plan(seeds=2), quiet=True)
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    main, terminal = pty.openpty()
    seen = bytearray()

    def read():
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            while part := os.read(main, 4096):
                seen.extend(part)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(terminal, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        fit(MODEL, DATA, tiny.plan(seeds=2))
    reader.join()
    os.close(main)
    seen = seen.decode()
    assert "\x1b[" in seen  # it is redrawn in place
    assert re.search(r"step +12/12", seen)
    assert re.search(r"loss \d+\.\d{3} \d+\.\d{3}", seen)  # of two seeds
    assert "steps/s" in seen
    assert re.search(r"\d:\d\d:\d\d", seen)  # time left


# -- the plan --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field",
    ["steps", "batch_size", "seeds", "log_every", "save_every", "eval_examples", "eval_batch"],
)
def test_a_plan_refuses_zero_of_what_it_needs(field):
    with pytest.raises(ValueError, match=f"{field}=0 must be at least 1"):
        Plan(**{field: 0})


@pytest.mark.parametrize("field", ["seed", "devices", "eval_every", "refresh_every"])
def test_a_plan_refuses_negative_numbers(field):
    Plan(**{field: 0})
    with pytest.raises(ValueError, match=f"{field}=-1 must be at least 0"):
        Plan(**{field: -1})


@pytest.mark.parametrize(
    ("field", "value"), [("parallel", "threads"), ("loop", "while"), ("seeds_by", "magic")]
)
def test_a_plan_refuses_an_unknown_arrangement(field, value):
    with pytest.raises(ValueError, match=f"{field}='{value}'"):
        Plan(**{field: value})


@pytest.mark.parametrize("changes", [{"refresh_first": True}, {"refresh_every": 4}])
def test_a_refresh_of_nothing_is_refused_before_anything_is_done(changes, tmp_path):
    (field,) = changes
    with pytest.raises(ValueError, match=f"{field}={changes[field]}: .*nothing to refresh"):
        fit(MODEL._replace(refresh=None), DATA, tiny.plan(**changes), tmp_path / "w", quiet=True)
    assert not (tmp_path / "w").exists()
