"""ALAE: start values, the slope's penalty, who moves in which turn, and the moving averages.

That each player follows exactly the gradient of its own loss is in `test_players.py`; the layers
are in `test_alae_style.py` and `nets/test_equalised.py`.
"""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from jaxae.models import alae
from jaxae.training import Spec
from jaxae.training import state as contract

DATA = tiny.images()
BATCH = DATA.train.batch(1, 0, tiny.BATCH)
SMALL = {"latent": 3, "widths": (8,), "map_layers": 2, "half_life": 100}
key = lambda: jax.random.key(5)  # a fresh one each time: none may be used twice


@functools.cache
def made(**fields):
    """One object for the same fields, so that each of its functions compiles once."""
    return alae.make(alae.Config(**SMALL | fields), DATA.spec)


def differing(one, other):
    return {
        name for name in one
        if any(np.any(a != b) for a, b in zip(
            jax.tree.leaves(one[name]), jax.tree.leaves(other[name]), strict=True))
    }  # fmt: skip


def turn(name, model, state, batch=BATCH, rng=None):
    """One step in which only this turn is taken."""
    only = lambda players, losses, *rest: contract.step_players(
        players, {name: losses[name]}, *rest
    )
    with mock.patch.object(alae.model, "step_players", only):
        return compiled(model.step, name)(state, batch, key() if rng is None else rng)


@functools.cache
def compiled(fn, turn=None, **how):
    return jax.jit(lambda *args: fn(*args), **how)


@pytest.fixture(scope="module", autouse=True)
def _forget():
    yield
    made.cache_clear()
    compiled.cache_clear()


# -- costs by hand ---------------------------------------------------------------------------------


@tiny.x64()
def test_a_judge_that_starts_at_zero_costs_two_log_two():
    model = made()
    state = tiny.in_float64(compiled(model.init)(key()))
    state.params["dis"]["EqualDense_2"] = jax.tree.map(
        jnp.zeros_like, state.params["dis"]["EqualDense_2"]
    )
    metrics = turn("critic", model, state)[1]
    np.testing.assert_allclose(metrics["critic"], 2 * np.log(2), rtol=1e-12)
    assert metrics["squared_gradient_norm"] == 0
    paid = turn("generator", model, state)[1]["generator"]
    np.testing.assert_allclose(paid, np.log(2), rtol=1e-12)


def weights(params, network, layers, rate):
    """Kernels as they are used, float64; biases are zero at the start."""
    found = []
    for i in range(layers):
        stored = np.asarray(params[network][f"EqualDense_{i}"]["kernel"], np.float64)
        found.append(stored * rate * np.sqrt(2 / len(stored)))
    return found


def logit(params, x):
    """D(E(x)) of the dense networks, x [B, 64] float64."""
    leaky = lambda v: np.where(v > 0, v, 0.2 * v)
    for kernel in weights(params, "enc", 2, 1.0):
        x = leaky(x @ kernel)
    for kernel in weights(params, "dis", 3, 0.1):
        x = x @ kernel
    return x[:, 0]


@tiny.x64()
def test_the_penalty_of_a_linear_judge_is_that_of_its_slope():
    """Positive weights before rectifiers, and so D(E(x)) = a x: gamma / 2 |a|^2 for any images."""
    model = made()
    state = tiny.in_float64(compiled(model.init)(key()))
    state.params["enc"] = jax.tree.map(jnp.abs, state.params["enc"])
    a = np.linalg.multi_dot(
        [*weights(state.params, "enc", 2, 1.0), *weights(state.params, "dis", 3, 0.1)]
    )
    shown = np.float64(BATCH["image"])
    for image, rng in ((shown, key()), (0 * shown + 0.5, jax.random.key(9))):
        metrics = turn("critic", model, state, BATCH | {"image": image}, rng)[1]
        np.testing.assert_allclose(
            metrics["squared_gradient_norm"], np.sum(a**2), rtol=1e-9
        )  # of data alone
    free = turn("critic", made(r1=0.0), state, BATCH | {"image": image}, jax.random.key(9))[1]
    np.testing.assert_allclose(metrics["critic"] - free["critic"], 5 * np.sum(a**2), rtol=1e-9)


@pytest.mark.parametrize("centred", [False, True])
def test_the_penalty_is_the_slope_by_finite_differences(centred):
    """Of what the networks see."""
    model = made(centred=centred)
    state = compiled(model.init)(key())
    x = np.asarray(BATCH["image"], np.float64).reshape(tiny.BATCH, -1)
    x = 2 * x - 1 if centred else x
    total = 0.0
    for pixel in range(x.shape[1]):
        nudge = np.eye(x.shape[1])[pixel] * 1e-6
        slope = (logit(state.params, x + nudge) - logit(state.params, x - nudge)) / 2e-6
        total += np.mean(slope**2)
    np.testing.assert_allclose(
        turn("critic", model, state)[1]["squared_gradient_norm"], total, rtol=1e-3
    )


# -- who moves -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "moved"),
    [
        ({}, {"critic": {"enc", "dis"}, "generator": {"map", "gen"},
              "reciprocity": {"enc", "gen", "map"}}),
        ({"moments": "apart", "beta1": 0.5},
         {"critic": {"enc", "dis"}, "generator": {"map", "gen"},
          "reciprocity": {"enc", "gen", "map"}}),
        ({"update_f_in_reciprocity": False}, {"reciprocity": {"enc", "gen"}}),
        ({"separate": True}, {"critic": {"eye", "dis"}, "reciprocity": {"enc", "gen", "map"}}),
    ],
)  # fmt: skip
def test_each_turn_moves_what_it_owns_though_momentum_is_left(fields, moved):
    model = made(**fields)
    state = compiled(model.init)(key())
    apart = fields.get("moments") == "apart"
    if not fields or apart:
        state = compiled(model.step)(state, BATCH, key())[0]
    rests = set() if apart or "separate" in fields else {"dis"}
    for name, owned in moved.items():
        after = turn(name, model, state)[0]
        assert differing(state.params, after.params) == owned
        # In reciprocity the second moment of D fades, where it is that of a shared optimiser.
        steps = owned | (rests if name == "reciprocity" else set())
        assert differing(state.opt, after.opt) == ({name} if apart else steps)


def recorded(model, steps, monkeypatch):
    """States before and after so many steps, and the gradients of each turn, in order."""
    grads = []

    def descend(loss_fn, tx, owned, opt_state, axis_name=None):
        found, aux = jax.grad(loss_fn, has_aux=True)(owned)
        grads.append(found)
        updates, opt_state = tx.update(found, opt_state, owned)
        return optax.apply_updates(owned, updates), opt_state, aux

    monkeypatch.setattr(contract, "descend", descend)

    @jax.jit
    def step(state, rng):
        grads.clear()
        return model.step(state, BATCH, rng)[0], list(grads)

    states, seen = [compiled(model.init)(key())], []
    for i in range(steps):
        state, found = step(states[-1], jax.random.key(i))
        states, seen = [*states, state], [*seen, *found]
    return states, seen


RATES = {"critic_rate": 1e-3, "learning_rate": 2e-3, "reciprocity_rate": 4e-3, "beta2": 0.9}


@pytest.mark.parametrize("moments", ["shared", "apart"])
def test_two_optimisers_serve_three_turns(moments, monkeypatch):
    """Adam by hand over the six moves of two steps: podgorskiy/ALAE: train_alae.py steps that of
    {E, D} in turns I and III and that of {F, G} in II and III, D in III by a gradient of zero."""
    model = made(moments=moments, **RATES)
    states, grads = recorded(model, 2, monkeypatch)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), states[0].params)
    square, count = {}, {}
    turns = [("enc", "dis"), ("map", "gen"), ("enc", "dis", "map", "gen")] * 2
    for i, (networks, found) in enumerate(zip(turns, grads, strict=True)):
        rate = (1e-3, 2e-3, 4e-3)[i % 3]
        for name in networks:
            if name == "dis" and i % 3 == 2:
                assert (name in found) == (moments == "shared")
                if moments == "apart":
                    continue
                assert not any(np.any(leaf) for leaf in jax.tree.leaves(found[name]))
            of = name if moments == "shared" else (name, i % 3)
            g = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), found[name])
            old = square.get(of, jax.tree.map(np.zeros_like, g))
            square[of] = jax.tree.map(lambda v, g: 0.9 * v + 0.1 * g**2, old, g)
            count[of] = count.get(of, 0) + 1
            p[name] = jax.tree.map(
                lambda p, g, v, n=count[of], rate=rate: (
                    p - rate * g / (np.sqrt(v / (1 - 0.9**n)) + 1e-8)
                ),
                p[name], g, square[of],
            )  # fmt: skip
    assert count[("dis" if moments == "shared" else ("dis", 0))] == (
        4 if moments == "shared" else 2
    )
    tiny.assert_close(states[2].params, p, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("moments", ["shared", "apart"])
def test_all_rates_have_fallen_to_zero_after_decay_steps(moments):
    """And not before: shared moments count the moves of two turns."""
    model, state = made(moments=moments, decay_steps=3), None
    state = compiled(model.init)(key())
    for left in (3, 2, 1, 0):
        after = compiled(model.step)(state, BATCH, key())[0]
        assert differing(state.params, after.params) == (set(state.params) if left else set())
        state = after


def test_a_momentum_that_would_move_the_discriminator_is_refused():
    with pytest.raises(ValueError, match=r"beta1=0\.5: .*take beta1=0 or moments=apart"):
        alae.Config(beta1=0.5)
    alae.Config(beta1=0.5, moments="apart")


@pytest.mark.parametrize("probability", [1.0, 0.5])
def test_styles_are_cut_at_each_input_alike_and_past_the_last(probability, monkeypatch):
    """podgorskiy/ALAE: model.py draws from 1 to L, of which L is no cut; here L is 4."""
    fields = {"network": "style", "conv_width": 1, "conv_most": 1, "style_mixing": probability}
    model, cuts, n = alae.make(alae.Config(**SMALL | fields), DATA.spec), [], 8000
    true = jnp.where

    def noted(condition, *branches):
        found = true(condition, *branches)
        if found.shape == (n,):
            cuts.append(np.asarray(found))
        return found

    def nothing(players, losses, params, opt, stats, *args):
        for name in losses:  # whose draws are made beforehand
            assert name in players
        return params, opt, stats, {}

    monkeypatch.setattr(alae.model, "step_players", nothing)
    state = jax.jit(model.init)(key())
    monkeypatch.setattr(alae.model.jnp, "where", noted)
    model.step(state, {"image": jnp.zeros((n, 8, 8, 1))}, key())
    assert len(cuts) == 2  # in reciprocity nothing is mixed
    for cut in cuts:
        values, counts = np.unique(cut, return_counts=True)
        assert values.tolist() == [1, 2, 3, 4]
        share = np.full(4, probability / 4) + [0, 0, 0, 1 - probability]
        error = np.sqrt(share * (1 - share) / n)
        np.testing.assert_array_less(np.abs(counts / n - share), 5 * error)


def test_only_the_critic_sees_the_images():
    model, other = made(), BATCH | {"image": 1 - BATCH["image"]}
    state = compiled(model.init)(key())
    for name in ("critic", "generator", "reciprocity"):
        params = [turn(name, model, state, batch)[0].params for batch in (BATCH, other)]
        assert bool(differing(*params)) == (name == "critic")


def test_the_target_of_reciprocity_does_not_follow_the_encoder():
    """With an encoder that answers c whatever it sees, F has no reason to move towards c."""
    with mock.patch.object(alae.model, "adam", side_effect=lambda *_, **__: optax.sgd(1.0)):
        model = alae.make(alae.Config(**SMALL), DATA.spec)
    state = compiled(model.init)(key())
    state.params["enc"] = jax.tree.map(jnp.zeros_like, state.params["enc"])
    after = turn("reciprocity", model, state)[0]
    assert differing(state.params, after.params) == {"enc"}


# -- averages, truncation --------------------------------------------------------------------------


def test_averages_of_weights_and_of_w():
    model = made()
    state = compiled(model.init)(key())
    after = compiled(model.step)(state, BATCH, key())[0]
    keep = 0.5 ** (tiny.BATCH / 100)
    for name in ("map", "gen", "enc"):
        wanted = jax.tree.map(
            lambda old, new: keep * old + (1 - keep) * new, state.params[name], after.params[name]
        )
        tiny.assert_close(after.extra["average"][name], wanted, rtol=1e-6, atol=1e-7)
    # The published half life at a batch of 128.
    assert 0.5 ** (128 / alae.Config().half_life) == pytest.approx(0.991167, abs=1e-6)
    # w of the critic's and of the generator's turn, drawn as they draw: F moves after both.
    w = lambda z: alae.networks.Mapping(2).apply({"params": state.params["map"]}, z)
    draws = [jax.random.split(turn, 5)[0] for turn in jax.random.split(key(), 3)[:2]]
    means = [np.mean(w(jax.random.normal(draw, (tiny.BATCH, 3))), axis=0) for draw in draws]
    wanted = 0.995 * 0.005 * means[0] + 0.005 * means[1]
    np.testing.assert_allclose(after.extra["w_mean"], wanted, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("network", ["mlp", "style"])
def test_samples_are_pulled_to_the_mean(network):
    fields = {"network": network, "conv_width": 2, "conv_most": 4}
    model, full = made(truncation=0.0, **fields), made(**fields)
    state = compiled(model.init)(key())
    state.extra["w_mean"] = jnp.float32([0.3, -0.2, 0.5])
    sampled = lambda model: jax.jit(model.sample, static_argnums=2)(state, key(), 3)
    images, wanted = (
        sampled(model),
        jax.jit(model.decode)(state, state.extra["w_mean"][None], key()),
    )
    for image in images:  # G's noise has no strength yet
        np.testing.assert_allclose(image, wanted[0], atol=1e-5)
    assert np.std(sampled(full), axis=0).max() > 1e-3


@tiny.x64()
def test_the_code_is_z_where_z_is_found():
    model = made(reciprocity="z")
    state = tiny.in_float64(compiled(model.init)(key()))
    z = model.prior(key(), 1)
    w = alae.networks.Mapping(2).apply({"params": state.params["map"]}, z)
    wanted = compiled(made().decode)(state, w, key())
    np.testing.assert_allclose(compiled(model.decode)(state, z, key()), wanted, rtol=1e-12)
    assert made().prior is None


@pytest.mark.parametrize("centred", [False, True])
def test_the_encoder_reads_what_the_networks_see(centred):
    """With half a life of 0 there are no averages, and E is the network as it is."""
    model = made(centred=centred, half_life=0)
    state = compiled(model.init)(key())
    x = np.asarray(BATCH["image"], np.float64).reshape(tiny.BATCH, -1)
    for kernel in weights(state.params, "enc", 2, 1.0):
        x = (2 * x - 1 if centred and x.shape[1] == 64 else x) @ kernel
        x = np.where(x > 0, x, 0.2 * x)
    found = compiled(model.encode)(state, BATCH["image"], key())
    np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-5)


def test_assess_compares_the_error_with_the_variance():
    """An encoder that answers zero errs by the mean square of the code."""
    model = made()
    state = compiled(model.init)(key())
    state.extra["average"]["enc"] = jax.tree.map(jnp.zeros_like, state.params["enc"])
    found = model.assess(state, DATA, key())
    error, variance = found["reciprocity_error"], found["code_variance"]
    assert found["reciprocity_share"] == pytest.approx(error / variance)
    z = jax.random.normal(jax.random.key(8), (20_000, 3))
    w = alae.networks.Mapping(2).apply({"params": state.params["map"]}, z)
    assert error == pytest.approx(float(np.mean(w**2)), rel=0.1)
    assert variance == pytest.approx(float(np.mean(np.var(w, axis=0))), rel=0.1)


# -- sizes and refusals ----------------------------------------------------------------------------


def test_the_published_mnist_networks_have_their_sizes():
    spec = Spec((28, 28, 1), 60_000, 10, 256, np.zeros((28, 28, 1), np.float32))
    model = alae.make(alae.Config(latent=50, widths=(1024, 1024)), spec)
    shapes = jax.eval_shape(model.init, jax.random.key(0)).params
    sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(net)) for name, net in shapes.items()}
    assert sizes == {"map": 15_300, "gen": 1_905_424, "enc": 1_904_690, "dis": 5_151}


@pytest.mark.parametrize(
    ("field", "value"),
    [("latent", 0), ("map_layers", 0), ("r1", -1.0), ("widths", ()), ("style_mixing", 1.5),
     ("truncation", -0.1), ("half_life", -1)],
)  # fmt: skip
def test_a_field_that_cannot_be_is_named(field, value):
    with pytest.raises(ValueError, match=field):
        alae.Config(**{field: value})


def test_truncation_needs_w():
    with pytest.raises(ValueError, match="truncation"):
        alae.Config(truncation=0.7, reciprocity="z")


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 16, 3), (4, 4, 1), (1, 2, 1)])
def test_style_networks_refuse_other_sides(shape):
    spec = Spec(shape, 10, 0, 256, np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match="power of two"):
        alae.make(alae.Config(network="style"), spec)
