"""Oracles: what the toy model's own steps give, and files read back by other readers."""

import contextlib
import json
import os
import pty
import re
import signal
import sys
import threading

import jax
import numpy as np
import pytest
import tiny

from jaxae.training import Plan
from jaxae.training.checkpoint import Checkpoints
from jaxae.training.loop import NonFiniteLoss, Stopped, fit
from jaxae.training.parallel import DeviceError, Engine, Mode

DATA = tiny.images()
MODEL = tiny.toy(DATA)


def held_out(state):
    batch = next(DATA.test.examples(11))[0]
    return {"loss": float(np.mean(MODEL.evaluate(state, batch, None)["loss"]))}


def strict_records(workdir):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


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


def test_says_when_there_was_no_checkpoint_yet(tmp_path):
    model = tiny.toy(DATA, bad_loss_at=2)
    with pytest.raises(NonFiniteLoss, match=r"step 2 .*no checkpoint had been written yet"):
        fit(model, DATA, tiny.plan(), tmp_path, quiet=True)
    with pytest.raises(NonFiniteLoss, match=r"step 2 .*no checkpoint had been written yet"):
        fit(model, DATA, tiny.plan(), quiet=True)


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


# -- what a person sees ----------------------------------------------------------------------------


def test_plain_lines_where_there_is_no_terminal(tmp_path, capsys):
    fit(MODEL, DATA, tiny.plan(), tmp_path)
    out, lines = capsys.readouterr()
    assert out == ""
    lines = lines.splitlines()
    line = r"step {}/12  loss \d+\.\d{{3}}  [\d.e+]+ steps/s  \d+ s left"
    assert re.fullmatch(line.format(4), lines[0])
    assert re.fullmatch(line.format(12), lines[-1])


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
