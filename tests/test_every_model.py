"""What every model must do, whatever its paper. A new model is a line in `tiny.VARIANTS`.

Oracles: the one-device run, the run that was not interrupted, the seeds one after another, and the
contract in `jaxae.training.state`.
"""

import contextlib
import functools
from typing import Any, NamedTuple
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from jaxae.models import MODELS
from jaxae.training import Model, State, parallel
from jaxae.training import state as contract
from jaxae.training.checkpoint import Checkpoints
from jaxae.training.parallel import Engine, Mode

ONE = Mode("mesh", 1, "calls", "sequence")
DATA = tiny.images(labels_batch=8)  # eight labelled examples beside each batch


class Case(NamedTuple):
    variant: str
    module: Any
    model: Model
    engine: Engine  # single calls on one device
    step: mock.Mock  # counts how often the engine's step was traced


@functools.cache
def case_of(variant: str) -> Case:
    model = tiny.make(variant, DATA)
    step = mock.Mock(side_effect=model.step)
    engine = Engine(model._replace(step=step), DATA.train, tiny.plan(), ONE)
    return Case(variant, tiny.module_of(tiny.VARIANTS[variant][0]), model, engine, step)


@functools.cache
def trained(variant: str) -> tuple[State, State]:
    """The states before and after four steps."""
    engine = case_of(variant).engine
    before = [jax.tree.map(jnp.copy, state) for state in engine.part(engine.init())]
    states, _ = engine.run(engine.init(), 0, 2)
    states, _ = engine.run(states, 2, 2)
    return before[0], engine.part(states)[0]


@pytest.fixture(params=[name for name in tiny.VARIANTS if name not in tiny.ALIKE])
def case(request) -> Case:
    return case_of(request.param)


@pytest.fixture(scope="module", autouse=True)
def _forget():
    yield
    for kept in (case_of, trained, begun, descended):
        kept.cache_clear()


def test_every_model_has_a_variant():
    assert {name for name, _ in tiny.VARIANTS.values()} == set(MODELS)


def test_is_traced_once_and_keeps_the_states_structure(case):
    before, after = trained(case.variant)
    assert case.step.call_count == 1
    chex.assert_trees_all_equal_shapes_and_dtypes(before, after)
    assert after.step == 4
    weak = [jax.tree_util.keystr(path) for path, leaf in jax.tree_util.tree_leaves_with_path(after)
            if leaf.weak_type]  # fmt: skip
    assert not weak


def differing(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    """The names under which two dicts of trees hold different numbers."""
    return {
        name for name in one
        if any(np.any(a != b) for a, b in zip(
            jax.tree.leaves(one[name]), jax.tree.leaves(other[name]), strict=True))
    }  # fmt: skip


def networks_that_differ(one: State, other: State) -> set[str]:
    return differing(one.params, other.params)


@contextlib.contextmanager
def only(moving: int, case: Case, owned_by: list[set[str]]):
    """While this holds only one player of a step moves, whatever the others compute.

    Notes in `owned_by` what each of them owns.
    """
    true_descend = contract.descend

    def descend(loss_fn, tx, owned, opt_state, axis_name=None):
        if len(owned_by) == len(trained(case.variant)[0].opt):
            owned_by.clear()
        owned_by.append(set(owned))
        new, new_opt, metrics = true_descend(loss_fn, tx, owned, opt_state, axis_name)
        moves = len(owned_by) == moving + 1
        return new if moves else owned, new_opt if moves else opt_state, metrics

    owned_by.clear()
    with contextlib.ExitStack() as patches:
        for module in (case.module, contract):
            if hasattr(module, "descend"):
                patches.enter_context(mock.patch.object(module, "descend", descend))
        yield


def test_a_player_moves_the_networks_that_it_owns_and_no_others(case):
    before, after = trained(case.variant)
    assert networks_that_differ(before, after) == set(before.params)
    batch, owned_by = DATA.train.batch(0, 0, tiny.BATCH), []
    with only(0, case, owned_by):
        jax.eval_shape(case.model.step, before, batch, jax.random.key(0))
    assert set().union(*owned_by) == set(before.params)
    if len(owned_by) == 1 or hasattr(case.module, "step_players"):
        return  # test_players asks more of players against each other
    assert len(owned_by) == len(before.opt)
    for moving in range(len(owned_by)):
        with only(moving, case, owned_by):
            step = jax.jit(lambda *args: case.model.step(*args))
            after, _ = step(before, batch, jax.random.key(0))
            now = after
            for _ in range(9):  # of a player that moves alone, on one batch with one noise
                now, metrics = step(now.replace(step=before.step), batch, jax.random.key(0))
            _, first = step(before, batch, jax.random.key(0))
        assert networks_that_differ(before, after) == owned_by[moving]
        (player,) = differing(before.opt, after.opt)
        assert metrics[player] < first[player], player


# -- devices and seeds -----------------------------------------------------------------------------


@contextlib.contextmanager
def without_noise():
    """What is drawn while this holds is zero: under pmap every device has noise of its own."""
    zeros = lambda rng, shape=(), *_, **__: jnp.zeros(shape)
    zero = lambda rng, shape, *_, **__: jnp.zeros(shape, jnp.int32)
    with contextlib.ExitStack() as patches:
        for name, value in (("normal", zeros), ("uniform", zeros), ("randint", zero)):
            patches.enter_context(mock.patch.object(jax.random, name, value))
        yield


@functools.cache
def begun(variant: str) -> tuple[Model, list[State]]:
    """A model that descends plainly, and the states of two seeds before their first step.

    Plainly, because Adam hides a gradient that is wrong by a factor.
    """
    with mock.patch.object(case_of(variant).module, "adam", return_value=optax.sgd(1e-3)):
        model = tiny.make(variant, DATA)
    states = [jax.jit(model.init)(jax.random.key(seed)) for seed in (4, 5)]
    assert not jax.tree.leaves(states[0].opt), "adam is not patched"
    return model, jax.device_get(states)


def descend_as(case: Case, mode: Mode) -> tuple[list[State], dict[str, np.ndarray]]:
    """States of two seeds and metrics after three steps of plain descent without noise."""
    model, states = begun(case.variant)
    engine = Engine(model, DATA.train, tiny.plan(seed=4, seeds=2), mode)
    states = engine.join(jax.device_put(jax.tree.map(np.copy, states), engine.whole))
    with without_noise():
        states, metrics = engine.run(states, 0, 3)
    return engine.part(states), engine.fetch(metrics)


@functools.cache
def descended(variant: str):
    """The same on one device, one seed after the other."""
    return descend_as(case_of(variant), ONE)


def over_devices(parallel: str, devices: int, variants) -> list[tuple[str, str, int]]:
    return [(name, parallel, devices) for name in variants]


@pytest.mark.parametrize(
    ("variant", "parallel", "devices"),
    over_devices("mesh", 8, tiny.FIRST)
    + over_devices("pmap", 2, (*tiny.RUN, *tiny.COUPLED))
    + over_devices("mesh", 2, ["vae", "acn"])
    + over_devices("pmap", 8, ["vae", "acn"]),
)
def test_several_devices_descend_as_one(variant, parallel, devices):
    found = descend_as(case_of(variant), Mode(parallel, devices, "calls", "sequence"))
    tiny.assert_close(found, descended(variant))
    for path, leaf in jax.tree_util.tree_leaves_with_path(found[0]):
        copies = [np.asarray(shard.data).tobytes() for shard in leaf.addressable_shards]
        assert len(copies) == devices, path
        assert len(set(copies)) == 1, f"{jax.tree_util.keystr(path)} differs between devices"


@pytest.mark.parametrize("variant", ["vae", "acn"])
def test_a_wrong_scale_of_the_gradient_does_not_pass(variant):
    def summed(loss_fn, tx, owned, opt_state, axis_name=None):
        grads, metrics = jax.grad(loss_fn, has_aux=True)(owned)
        grads, metrics = jax.lax.psum(grads, axis_name), jax.lax.pmean(metrics, axis_name)
        updates, opt_state = tx.update(grads, opt_state, owned)
        return optax.apply_updates(owned, updates), opt_state, metrics

    case = case_of(variant)
    with mock.patch.object(case.module, "descend", summed):
        found = descend_as(case, Mode("pmap", 2, "calls", "sequence"))
    with pytest.raises(AssertionError, match="params"):
        tiny.assert_close(found, descended(variant))


@pytest.mark.parametrize("variant", tiny.RUN)
def test_seeds_in_one_program_are_the_seeds_in_turn(variant):
    case = case_of(variant)
    convolves = Engine(case.model, DATA.train, tiny.plan(), ONE).convolves()
    if convolves and not parallel.VMAPS_CONVOLUTIONS:
        with pytest.raises(parallel.DeviceError, match="seeds_by=sequence"):
            parallel.choose(tiny.plan(seeds=2, seeds_by="vmap"), convolves=True)
        return
    states, metrics = descend_as(case, Mode("mesh", 1, "calls", "vmap"))
    tiny.assert_close((states, metrics), descended(case.variant))
    assert networks_that_differ(*states) == set(states[0].params)
    assert all(value.shape == (2, 3) for value in metrics.values())


@pytest.mark.parametrize("variant", tiny.RUN)
def test_a_seed_starts_alike_alone_and_among_others(variant):
    case = case_of(variant)
    alone = Engine(case.model, DATA.train, tiny.plan(seed=5), ONE).init()[0]
    for by in ("vmap", "sequence"):
        mode = Mode("mesh", 1, "calls", by)
        engine = Engine(case.model, DATA.train, tiny.plan(seed=4, seeds=2), mode)
        tiny.assert_same_bits(engine.part(engine.init())[1], alone)


# -- what was saved, learnt and evaluated ----------------------------------------------------------


@pytest.mark.parametrize("variant", [*tiny.RUN, "gan spectral"])
def test_a_checkpoint_continues_bit_for_bit(variant, tmp_path):
    engine = case_of(variant).engine
    states, _ = engine.run(engine.init(), 0, 3)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(3, states, meta={})
        wanted, _ = engine.run(states, 3, 3)  # donates what is being saved
        step, restored, _ = checkpoints.restore(jax.eval_shape(engine.init))
    found, _ = engine.run(jax.device_put(restored, engine.whole), step, 3)
    tiny.assert_same_bits(found, wanted)


def test_ten_steps_on_one_batch_lower_the_loss(case):
    if len(trained(case.variant)[0].opt) > 1:
        return  # players against each other: each one alone is asked above
    engine, evaluate = case.engine, jax.jit(case.model.evaluate)
    batch = DATA.train.batch(0, 0, tiny.BATCH)
    start, states = engine.init()[0], engine.init()
    for _ in range(10):
        states, _ = engine.run(states, 0, 1)  # step 0's batch, with the noise of the state's step
    # The same memory before and after: what the parameters have learnt.
    before, after = (
        np.mean(evaluate(state, batch, jax.random.key(1))["loss"])
        for state in (start.replace(extra=states[0].extra), states[0])
    )
    assert after < before


def test_evaluates_each_example_by_itself(case):
    _, state = trained(case.variant)
    batch = next(DATA.train.examples(12))[0]
    few = np.random.default_rng(0).permutation(12)[:5]
    evaluate = jax.jit(lambda *args: case.model.evaluate(*args))
    with without_noise():
        values = evaluate(state, batch, jax.random.key(1))
        alone = evaluate(state, jax.tree.map(lambda x: x[few], batch), jax.random.key(1))
    assert "loss" in values
    for name, value in values.items():
        assert (value.shape, value.dtype) == ((12,), jnp.float32), name
        assert np.all(np.isfinite(value)), name
        np.testing.assert_allclose(alone[name], value[few], 1e-4, 1e-4, err_msg=name)


def test_the_parts_fit_together(case):
    """Shapes, and the range of images; what a model lacks is not asked for."""
    model, state = case.model, trained(case.variant)[1]
    x = next(DATA.test.examples(5))[0]["image"]

    @jax.jit
    def parts(state, x, rng):
        keys, found = jax.random.split(rng, 8), {}
        if model.encode:
            found["encode"] = model.encode(state, x, keys[0])
            if model.decode:
                found["decode"] = model.decode(state, found["encode"], keys[1])
        if model.posterior:
            found["posterior"] = model.posterior(state, x, keys[7])
        if model.prior:
            found["prior"] = model.prior(keys[2], 5)
        if model.sample:
            found["sample"] = model.sample(state, keys[3], 5)
        if model.daydream:
            found["daydream"] = model.daydream(state, x, keys[4])
        if model.log_weight:
            found["log_weight"] = model.log_weight(state, x, keys[5])
        if model.restore:
            damaged, found["restore"] = model.restore(state, x, keys[6])
            found["damaged"] = damaged - x  # noise may lead out of [0, 1]
        return found

    found = parts(state, x, jax.random.key(2))
    gaussian = "learned scale" in case.variant  # its means may lie outside of [0, 1]
    for name, value in found.items():
        assert value.dtype == jnp.float32, name
        assert np.all(np.isfinite(value)), name
        if name == "damaged":
            assert value.shape == x.shape
        elif name in ("decode", "sample", "daydream", "restore"):
            assert value.shape == x.shape, name
            assert gaussian or (np.min(value) >= 0 and np.max(value) <= 1), name
        elif name == "log_weight":
            assert value.shape == (5,)
        else:
            assert (value.ndim, value.shape) == (2, found.get("encode", value).shape), name


def test_refresh_writes_what_encode_gives_and_moves_no_parameter(case):
    if case.model.refresh is None:
        assert "memory" not in trained(case.variant)[1].extra
        return
    _, state = trained(case.variant)
    refreshed = case.engine.refresh([jax.tree.map(jnp.copy, state)], 4)[0]
    chex.assert_trees_all_equal_shapes_and_dtypes(refreshed, state)
    tiny.assert_same_bits(refreshed.replace(extra={}), state.replace(extra={}))
    if "memory" in refreshed.extra:
        image = next(DATA.train.examples(48))[0]["image"]
        codes = jax.jit(case.model.encode)(state, image, jax.random.key(0))
        np.testing.assert_allclose(refreshed.extra["memory"], codes, 1e-4, 1e-5)
