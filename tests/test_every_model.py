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

from jaxae.data import Data
from jaxae.models import MODELS
from jaxae.training import Model, State
from jaxae.training.checkpoint import Checkpoints
from jaxae.training.parallel import Engine, Mode

ONE = Mode("mesh", 1, "calls", "sequence")
KEY = 7


class Case(NamedTuple):
    variant: str
    module: Any
    data: Data
    model: Model

    def engine(self, mode: Mode = ONE, **changes) -> Engine:
        return Engine(self.model, self.data.train, tiny.plan(**changes), mode)


@functools.cache
def case_of(variant: str) -> Case:
    data = tiny.images()
    return Case(variant, MODELS[tiny.VARIANTS[variant][0]], data, tiny.make(variant, data))


@functools.cache
def trained(variant: str) -> tuple[State, State, int]:
    """The states before and after four steps, and how often the step was traced."""
    case = case_of(variant)
    step = mock.Mock(side_effect=case.model.step)
    engine = Engine(case.model._replace(step=step), case.data.train, tiny.plan(), ONE)
    before = engine.part(jax.tree.map(jnp.copy, states := engine.init()))[0]
    states, _ = engine.run(states, 0, 2)
    states, _ = engine.run(states, 2, 2)
    return before, engine.part(states)[0], step.call_count


@pytest.fixture(params=tiny.VARIANTS)
def case(request) -> Case:
    return case_of(request.param)


@pytest.fixture(scope="module", autouse=True)
def _forget_states():
    yield
    trained.cache_clear()


def test_every_model_has_a_variant():
    assert {name for name, _ in tiny.VARIANTS.values()} == set(MODELS)


def test_is_traced_once_and_keeps_the_states_structure(case):
    before, after, traces = trained(case.variant)
    assert traces == 1
    chex.assert_trees_all_equal_shapes_and_dtypes(before, after)
    assert after.step == 4
    weak = [jax.tree_util.keystr(path) for path, leaf in jax.tree_util.tree_leaves_with_path(after)
            if leaf.weak_type]  # fmt: skip
    assert not weak


def networks_that_differ(one: State, other: State) -> set[str]:
    return {
        name for name in one.params
        if any(np.any(a != b) for a, b in zip(
            jax.tree.leaves(one.params[name]), jax.tree.leaves(other.params[name]), strict=True))
    }  # fmt: skip


def test_a_player_moves_the_networks_that_it_owns_and_no_others(case):
    before, after, _ = trained(case.variant)
    assert networks_that_differ(before, after) == set(before.params)
    batch = case.data.train.batch(0, 0, tiny.BATCH)
    true_descend, players = case.module.descend, len(before.opt)
    for moving in range(players):
        owned_by = []

        def descend(loss_fn, tx, owned, opt_state, axis_name=None, moving=moving, seen=owned_by):
            seen.append(set(owned))
            new, opt_state, metrics = true_descend(loss_fn, tx, owned, opt_state, axis_name)
            return (new if len(seen) == moving + 1 else owned), opt_state, metrics

        with mock.patch.object(case.module, "descend", descend):
            after, _ = jax.jit(case.model.step)(before, batch, jax.random.key(0))
        assert len(owned_by) == players
        assert networks_that_differ(before, after) == owned_by[moving]


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


def descended(case: Case, mode: Mode, steps: int = 3) -> tuple[State, dict[str, np.ndarray]]:
    """State and metrics after steps without noise of plain descent, as Adam hides a wrong scale."""
    states = case.engine().init()  # before the noise is gone
    with mock.patch.object(case.module, "adam", return_value=optax.sgd(1e-3)):
        model = tiny.make(case.variant, case.data)
    engine = Engine(model, case.data.train, tiny.plan(), mode)
    start = states[0].replace(opt=jax.eval_shape(model.init, jax.random.key(0)).opt)
    assert not jax.tree.leaves(start.opt), "the players' optimisers are not patched"
    states = jax.device_put(engine.join([start]), engine.whole)
    with without_noise():
        states, metrics = engine.run(states, 0, steps)
    return engine.part(states)[0], engine.fetch(metrics)


@functools.cache
def descended_on_one(variant: str):
    return descended(case_of(variant), ONE)


@pytest.mark.parametrize(("parallel", "devices"), [("mesh", 8), ("pmap", 2)])
def test_several_devices_descend_as_one(case, parallel, devices):
    wanted, wanted_metrics = descended_on_one(case.variant)
    found, metrics = descended(case, Mode(parallel, devices, "calls", "sequence"))
    tiny.assert_close((found, metrics), (wanted, wanted_metrics))
    for name, leaf in jax.tree_util.tree_leaves_with_path(found):
        copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(copies) == devices, name
        for copy in copies[1:]:
            np.testing.assert_array_equal(copy, copies[0], err_msg=jax.tree_util.keystr(name))


def test_a_wrong_scale_of_the_gradient_does_not_pass(case):
    def summed(loss_fn, tx, owned, opt_state, axis_name=None):
        grads, metrics = jax.grad(loss_fn, has_aux=True)(owned)
        grads, metrics = jax.lax.psum(grads, axis_name), jax.lax.pmean(metrics, axis_name)
        updates, opt_state = tx.update(grads, opt_state, owned)
        return optax.apply_updates(owned, updates), opt_state, metrics

    if case.variant not in ("vae", "acn"):
        pytest.skip("shown for one variant of each model")
    with mock.patch.object(case.module, "descend", summed):
        found, metrics = descended(case, Mode("pmap", 2, "calls", "sequence"))
    with pytest.raises(AssertionError, match="params"):
        tiny.assert_close((found, metrics), descended_on_one(case.variant))


def test_seeds_in_one_program_are_the_seeds_in_turn(case):
    def run(seeds_by: str, loop: str):
        with mock.patch.object(case.module, "adam", return_value=optax.sgd(1e-3)):
            model = tiny.make(case.variant, case.data)
        mode = Mode("mesh", 1, loop, seeds_by)
        engine = Engine(model, case.data.train, tiny.plan(seed=4, seeds=2), mode)
        start = engine.init()
        first = jax.tree.map(np.array, engine.part(start))
        states, metrics = engine.run(start, 0, 2)
        return first, engine.part(states), engine.fetch(metrics)

    start, wanted, wanted_metrics = run("sequence", "calls")
    also, found, metrics = run("vmap", "calls")
    single = case.engine(seed=5).init()[0]
    tiny.assert_same_bits(start[1].params, single.params)
    tiny.assert_same_bits(start[1].extra, single.extra)
    tiny.assert_same_bits(also, start)
    tiny.assert_close((found, metrics), (wanted, wanted_metrics))
    assert networks_that_differ(found[0], found[1]) == set(found[0].params)
    assert all(value.shape == (2, 2) for value in metrics.values())


# -- what was saved, learnt and evaluated ----------------------------------------------------------


def test_a_checkpoint_continues_bit_for_bit(case, tmp_path):
    engine = case.engine()
    states, _ = engine.run(engine.init(), 0, 3)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(3, states, meta={})
        wanted, _ = engine.run(states, 3, 3)  # donates what is being saved
        step, restored, _ = checkpoints.restore(jax.eval_shape(engine.init))
    found, _ = engine.run(jax.device_put(restored, engine.whole), step, 3)
    tiny.assert_same_bits(found, wanted)


def test_ten_steps_on_one_batch_lower_the_loss(case):
    model = tiny.make(case.variant, case.data, learning_rate=1e-2)
    batch = case.data.train.batch(0, 0, tiny.BATCH)
    step, state = jax.jit(model.step), jax.jit(model.init)(jax.random.key(0))
    loss = lambda state: np.mean(model.evaluate(state, batch, jax.random.key(1))["loss"])
    start = state
    for i in range(10):
        state, metrics = step(state, batch, jax.random.key(i))
        assert np.isfinite(metrics["loss"])
    # The same memory before and after: what the parameters have learnt.
    assert loss(state) < loss(start.replace(extra=state.extra))


def test_evaluates_each_example_by_itself(case):
    _, state, _ = trained(case.variant)
    batch = next(case.data.train.examples(12))[0]
    order = np.random.default_rng(0).permutation(12)
    with without_noise():
        values = jax.jit(lambda *args: case.model.evaluate(*args))(state, batch, jax.random.key(1))
        turned = jax.jit(lambda *args: case.model.evaluate(*args))(
            state, jax.tree.map(lambda x: x[order], batch), jax.random.key(1)
        )
    assert "loss" in values
    for name, value in values.items():
        assert value.shape == (12,), name
        assert value.dtype == jnp.float32, name
        assert np.all(np.isfinite(value)), name
        np.testing.assert_allclose(turned[name], value[order], 1e-4, 1e-4, err_msg=name)


def test_the_parts_fit_together(case):
    """Shapes, and the range of images; what a model lacks is not asked for."""
    model, (_, state, _) = case.model, trained(case.variant)
    x, keys = next(case.data.test.examples(5))[0]["image"], jax.random.split(jax.random.key(2), 6)
    found = {}
    if model.encode:
        z = jax.jit(model.encode)(state, x, keys[0])
        assert (z.ndim, len(z), z.dtype) == (2, 5, jnp.float32)
        assert np.all(np.isfinite(z))
        if model.decode:
            found["decode"] = jax.jit(model.decode)(state, z, keys[1])
    if model.prior:
        drawn = model.prior(keys[2], 5)
        assert drawn.shape == z.shape
        assert np.all(np.isfinite(drawn))
    if model.sample:
        found["sample"] = jax.jit(model.sample, static_argnums=2)(state, keys[3], 5)
    if model.daydream:
        found["daydream"] = jax.jit(model.daydream)(state, x, keys[4])
    if model.log_weight:
        weights = jax.jit(model.log_weight)(state, x, keys[5])
        assert weights.shape == (5,)
        assert np.all(np.isfinite(weights))
    gaussian = "learned scale" in case.variant  # its means may lie outside of [0, 1]
    for name, image in found.items():
        assert (image.shape, image.dtype) == (x.shape, jnp.float32), name
        assert np.all(np.isfinite(image)), name
        assert gaussian or (np.min(image) >= 0 and np.max(image) <= 1), name


def test_refresh_writes_what_encode_gives_and_moves_no_parameter(case):
    if case.model.refresh is None:
        pytest.skip("the model has nothing to refresh")
    _, state, _ = trained(case.variant)
    engine = case.engine()
    kept = jax.tree.map(jnp.copy, state)
    refreshed = engine.refresh([jax.tree.map(jnp.copy, state)], 4)[0]
    chex.assert_trees_all_equal_shapes_and_dtypes(refreshed, kept)
    tiny.assert_same_bits(refreshed.replace(extra={}), kept.replace(extra={}))
    if "memory" in refreshed.extra:
        image = next(case.data.train.examples(48))[0]["image"]
        codes = jax.jit(case.model.encode)(kept, image, jax.random.key(0))
        np.testing.assert_allclose(refreshed.extra["memory"], codes, 1e-4, 1e-5)
