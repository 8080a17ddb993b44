import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from scipy.special import expit, logsumexp

from jaxae.models.shared.layerwise import run_phase
from jaxae.models.shared.mirrored import Mirrored
from jaxae.models.shared.rbm import Pretraining, Rbm, contrastive_divergence, momentum_step
from jaxae.training.state import State

VISIBLE, HIDDEN = 4, 3
generator = np.random.default_rng(0)
MACHINE = Rbm(
    *(np.float32(0.7 * generator.normal(size=s)) for s in ((VISIBLE, HIDDEN), VISIBLE, HIDDEN))
)
DATA = np.float32(generator.uniform(size=(6, VISIBLE)))


@pytest.fixture
def mean_field(monkeypatch):
    """Hidden units are handed on as their probabilities in place of draws."""
    shapes = []

    def uniform(rng, shape):
        shapes.append(shape)
        return jnp.full(shape, 0.5)

    monkeypatch.setattr(jax.random, "uniform", uniform)
    return shapes


def reconstructed(rbm, v0, h):
    return expit(h @ np.float64(rbm.kernel).T + rbm.visible)


def test_binary_statistics_are_the_slope_of_the_free_energies(mean_field):
    """-d/dw mean[F(v0) - F(v1)], v1 a constant, F(v) = -b_v.v - sum softplus(b_h + vW)."""
    found, hidden = contrastive_divergence(MACHINE, DATA, jax.random.key(0))
    assert mean_field == [(6, HIDDEN)]
    p = expit(DATA @ np.float64(MACHINE.kernel) + MACHINE.hidden)
    v1 = reconstructed(MACHINE, DATA, np.float64(p > 0.5))

    def free_energy(rbm, v):
        hidden = jax.nn.softplus(v @ rbm.kernel + rbm.hidden[None])
        return -v @ rbm.visible - jnp.sum(hidden, axis=1)

    gap = lambda rbm: jnp.mean(free_energy(rbm, DATA) - free_energy(rbm, jnp.float32(v1)))
    slope = jax.tree.map(jnp.negative, jax.grad(gap)(MACHINE))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), found, slope)
    np.testing.assert_allclose(hidden, p, rtol=1e-5)


def test_hidden_units_are_sampled_with_their_probabilities():
    """Averaged over draws, the reconstruction is the sum over all 2^3 hidden states."""
    many = 20_000
    v0 = np.repeat(DATA[:1], many, axis=0)
    slope, _ = contrastive_divergence(MACHINE, v0, jax.random.key(1))
    p = expit(DATA[0] @ np.float64(MACHINE.kernel) + MACHINE.hidden)
    states = np.array(list(itertools.product((0.0, 1.0), repeat=HIDDEN)))
    weight = np.prod(np.where(states == 1, p, 1 - p), axis=1)
    each = reconstructed(MACHINE, None, states)
    mean = weight @ each
    error = np.sqrt(weight @ (each - mean) ** 2 / many)
    assert (np.abs((DATA[0] - slope.visible) - mean) < 5 * error + 1e-5).all()


def test_a_fixed_point_has_no_update():
    """Without weights and with b_v at the logit of the data, v1 is v0 and the phases cancel."""
    v0 = np.repeat(DATA[:1], 5, axis=0)
    logit = np.log(DATA[0] / (1 - DATA[0]))
    rbm = Rbm(np.zeros((VISIBLE, HIDDEN), np.float32), logit, MACHINE.hidden)
    slope, _ = contrastive_divergence(rbm, v0, jax.random.key(0))
    for part in slope:
        np.testing.assert_allclose(part, 0, atol=1e-6)


def test_exact_likelihood_rises():
    """log p(v) with the partition function summed over all 2^4 visible states."""
    states = np.array(list(itertools.product((0.0, 1.0), repeat=VISIBLE)))
    data = np.float32([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 1, 1]])

    def log_likelihood(rbm):
        kernel, visible, hidden = (np.float64(part) for part in rbm)
        log_weight = lambda v: v @ visible + np.logaddexp(0, v @ kernel + hidden).sum(1)
        return (log_weight(data) - logsumexp(log_weight(states))).mean()

    velocity = jax.tree.map(jnp.zeros_like, MACHINE)

    @jax.jit
    def step(carry, key):
        slope, _ = contrastive_divergence(carry[0], data, key)
        return momentum_step(*carry, slope, 0.1, 0.5, 0.0), None

    rbm, result = (MACHINE, velocity), [log_likelihood(MACHINE)]
    for i in range(3):
        rbm, _ = jax.lax.scan(step, rbm, jax.random.split(jax.random.key(i), 200))
        result.append(log_likelihood(rbm[0]))
    assert all(low < high for low, high in itertools.pairwise(result))
    assert result[-1] > -np.log(4)  # more than four equally likely states would give


@tiny.x64()  # sums of 20,000 numbers
def test_linear_hidden_units_have_unit_noise():
    v0 = np.repeat(np.float64(DATA[:1]), 20_000, axis=0)
    noise = jax.random.normal(jax.random.key(1), (20_000, HIDDEN))
    rbm = tiny.in_float64(MACHINE)
    slope, hidden = contrastive_divergence(rbm, v0, jax.random.key(1), hidden="gaussian")
    a = DATA[0] @ np.float64(MACHINE.kernel) + MACHINE.hidden
    np.testing.assert_allclose(hidden[0], a, rtol=1e-9)
    v1 = reconstructed(MACHINE, DATA[0], a + np.float64(noise))
    np.testing.assert_allclose(slope.visible, DATA[0] - v1.mean(0), rtol=0, atol=1e-9)
    again = v1 @ np.float64(MACHINE.kernel) + MACHINE.hidden
    of_kernel = np.outer(DATA[0], a) - v1.T @ again / len(v1)
    np.testing.assert_allclose(slope.kernel, of_kernel, rtol=0, atol=1e-9)
    np.testing.assert_allclose(slope.hidden, a - again.mean(0), rtol=0, atol=1e-9)


def test_counts_are_reconstructed_by_a_softmax_that_keeps_the_length(mean_field):
    counts = np.float32([[3, 0, 2, 1], [0, 7, 1, 0]])
    slope, hidden = contrastive_divergence(MACHINE, counts, jax.random.key(0), visible="counts")
    p = expit(counts @ np.float64(MACHINE.kernel) + MACHINE.hidden)
    np.testing.assert_allclose(hidden, p, rtol=1e-5)
    a = (p > 0.5) @ np.float64(MACHINE.kernel).T + MACHINE.visible
    v1 = counts.sum(1, keepdims=True) * np.exp(a) / np.exp(a).sum(1, keepdims=True)
    np.testing.assert_allclose(v1.sum(1), [6, 8])
    np.testing.assert_allclose(slope.visible, (counts - v1).mean(0), atol=1e-5)


def test_momentum_and_decay_by_hand():
    one = lambda value: Rbm(*(jnp.full((1,), value) for _ in range(3)))
    rbm, velocity = momentum_step(one(2.0), one(1.0), one(0.5), 0.1, 0.9, 0.25)
    # kernel: 0.9 + 0.1 (0.5 - 0.25 * 2) = 0.9; biases: 0.9 + 0.05
    np.testing.assert_allclose(velocity, [[0.9], [0.95], [0.95]], rtol=1e-6)
    np.testing.assert_allclose(rbm, [[2.9], [2.95], [2.95]], rtol=1e-6)


# -- greedy layer-wise pretraining -------------------------------------------------------------


def test_layers_train_one_by_one_and_the_decoder_stays_the_transpose():
    network = Mirrored((5, 4, 3), "sigmoid")
    pretraining = Pretraining(network, 2, (0.1, 0.05), slow_steps=1, decay=0.0)
    x = np.float32(generator.uniform(size=(8, 5)))

    def fine_tune(state, rng):
        dec = state.params["dec"]
        low = dec["layer_0"] | {"bias": dec["layer_0"]["bias"] + 1}
        params = state.params | {"dec": dec | {"layer_0": low}}
        return state.replace(params=params), jnp.float32(-1)

    measure = lambda p, hidden, depth: jnp.float32(depth)

    @jax.jit
    def step(state, rng):
        state, result = pretraining.step(fine_tune, measure, state, x, rng, None)
        return state.replace(step=state.step + 1), result

    state = State(
        jnp.int32(0), network.init(jax.random.key(0), "rbm"), {}, {"velocity": pretraining.init()}
    )
    depths = []
    for number in range(6):
        before = state
        state, result = step(state, jax.random.key(number))
        depths.append(float(result))
        moved = {
            (net, layer) for net in ("enc", "dec") for layer in ("layer_0", "layer_1")
            if np.any(before.params[net][layer]["bias"] != state.params[net][layer]["bias"])
        }  # fmt: skip
        layer = f"layer_{number // 2}"
        assert moved == ({("enc", layer), ("dec", layer)} if number < 4 else {("dec", "layer_0")})
        if number < 4:
            v0 = network.encode(before.params, x, last=number // 2)
            old = Rbm(
                before.params["enc"][layer]["kernel"],
                before.params["dec"][layer]["bias"],
                before.params["enc"][layer]["bias"],
            )
            code = "gaussian" if number >= 2 else "binary"
            of_layer = jax.random.fold_in(jax.random.key(number), number // 2)
            key = jax.random.split(of_layer)[1]
            slope, _ = contrastive_divergence(old, v0, key, hidden=code)
            momentum = 0.5 if number % 2 == 0 else 0.9
            new, _ = momentum_step(old, before.extra["velocity"][layer], slope,
                           (0.1, 0.05)[number // 2], momentum, 0.0)  # fmt: skip
            found = state.params["enc"][layer]
            np.testing.assert_allclose(found["kernel"], new.kernel, atol=1e-6)
            np.testing.assert_allclose(found["bias"], new.hidden, atol=1e-6)
            np.testing.assert_allclose(state.params["dec"][layer]["bias"], new.visible, atol=1e-6)
        for k in ("layer_0", "layer_1"):
            np.testing.assert_array_equal(
                state.params["dec"][k]["kernel"], state.params["enc"][k]["kernel"].T
            )
    assert depths == [1, 1, 2, 2, -1, -1]


def test_each_seed_runs_the_step_of_its_phase_only():
    state = State(jnp.int32(0), {"w": jnp.zeros(())}, {}, {})
    add = lambda n: lambda state, rng: (state.replace(params={"w": state.params["w"] + n}), n * 1.0)
    phase_steps = [add(1), add(10), add(100)]
    run = lambda phase: run_phase(phase, phase_steps, state, jax.random.key(0))
    found, metrics = jax.jit(jax.vmap(run))(jnp.array([0, 2, 1]))
    np.testing.assert_array_equal(found.params["w"], [1, 100, 10])
    np.testing.assert_array_equal(metrics, [1, 100, 10])
