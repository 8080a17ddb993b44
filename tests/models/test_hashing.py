import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_softmax

from jaxae.data import from_arrays
from jaxae.models import hashing
from jaxae.training.state import Spec

SHAPE = (2, 3, 1)
SPEC = Spec(SHAPE, size=16, classes=0, levels=9, mean=np.full(SHAPE, 0.3, np.float32))
SMALL = hashing.Config(bits=3, widths=(5,))
WORDS = dataclasses.replace(SMALL, likelihood="counts")
generator = np.random.default_rng(0)


def batch(n=7):
    counts = generator.integers(0, 9, (n, *SHAPE))
    counts[0] = 0  # a document without words
    return {"image": jnp.float32(counts / 8), "index": jnp.arange(n)}


def spread_out(state):
    return state.replace(params=jax.tree.map(lambda p: 1.5 * p + 0.1, state.params))


def dense(layer, h):
    return h @ np.float64(layer["kernel"]) + np.float64(layer["bias"])


def activities(params, u):
    h = np.maximum(dense(params["enc"]["layer_0"], u), 0)
    return dense(params["enc"]["layer_1"], h)


def outputs(params, c):
    h = np.maximum(dense(params["dec"]["layer_1"], c), 0)
    return dense(params["dec"]["layer_0"], h)


INPUTS = {
    "log": np.log1p,
    "share": lambda v: v / np.maximum(v.sum(1, keepdims=True), 1),
    "counts": lambda v: v,
}


@pytest.mark.parametrize("kind", [None, *INPUTS])
def test_costs_of_bits_and_of_activities_against_numpy(kind):
    config = SMALL if kind is None else dataclasses.replace(WORDS, count_input=kind)
    model, examples = hashing.make(config, SPEC), batch()
    state = spread_out(model.init(jax.random.key(0)))
    x = np.float64(examples["image"]).reshape(7, -1)
    v = x if kind is None else np.round(8 * x)
    a = activities(state.params, v if kind is None else INPUTS[kind](v))
    found = model.evaluate(state, examples, jax.random.key(1))
    assert 0 < (a > 0).mean() < 1
    np.testing.assert_array_equal(model.encode(state, examples["image"], None), a > 0)
    for end, c in (("", np.float64(a > 0)), ("_soft", expit(a))):
        out = outputs(state.params, c)
        if kind is None:
            nats = -(x * np.log(expit(out)) + (1 - x) * np.log(expit(-out))).sum(1)
            squared = ((x - expit(out)) ** 2).sum(1)
            np.testing.assert_allclose(found["squared_error" + end], squared, 1e-4)
        else:
            nats = -(v * log_softmax(out, axis=1)).sum(1)
            per_word = nats / np.maximum(v.sum(1), 1)
            np.testing.assert_allclose(found["nats_per_word" + end], per_word, 1e-4)
        np.testing.assert_allclose(found["loss" + end], nats, 1e-4, 1e-6)
    near = np.minimum(expit(a), expit(-a)) < 0.1
    np.testing.assert_allclose(found["saturated"], near.mean(1), 1e-6)
    decoded = np.asarray(model.decode(state, jnp.float32(a > 0), None)).reshape(7, -1)
    out = outputs(state.params, np.float64(a > 0))
    # Words: the expected counts of a document of the mean length, 6 * 0.3 * 8, on the scale of x.
    wanted = expit(out) if kind is None else 6 * 0.3 * np.exp(log_softmax(out, axis=1))
    np.testing.assert_allclose(decoded, np.clip(wanted, 0, 1), 1e-4)


@pytest.mark.parametrize("per_word", [False, True])
def test_noise_enters_before_the_sigmoid(monkeypatch, per_word):
    noise = generator.normal(size=(7, 3))
    monkeypatch.setattr(jax.random, "normal", lambda rng, shape: jnp.float32(noise).reshape(shape))
    model, examples = hashing.make(dataclasses.replace(WORDS, per_word=per_word), SPEC), batch()
    monkeypatch.undo()
    state = spread_out(model.init(jax.random.key(0)))
    with monkeypatch.context() as patched:
        patched.setattr(jax.random, "normal", lambda rng, shape: jnp.float32(noise).reshape(shape))
        _, metrics = model.step(state, examples, jax.random.key(1))
    v = np.round(8 * np.float64(examples["image"]).reshape(7, -1))
    c = expit(activities(state.params, np.log1p(v)) + 4 * noise)
    nats = -(v * log_softmax(outputs(state.params, c), axis=1)).sum(1)
    nats = nats / np.maximum(v.sum(1), 1) if per_word else nats
    np.testing.assert_allclose(metrics["loss"], nats.mean(), rtol=1e-4)


def code_of(config, steps_done=0):
    """Training codes of 4,000 equal images, and their activities, from outside: through a decoder
    that hands the code on."""
    model = hashing.make(config, SPEC)
    state = spread_out(model.init(jax.random.key(0)))
    image = jnp.broadcast_to(batch(2)["image"][1:], (4000, *SHAPE))
    examples = {"image": image, "index": jnp.arange(4000)}
    x = np.float64(image[:1]).reshape(1, -1)
    return (
        model,
        state.replace(step=jnp.int32(steps_done)),
        examples,
        activities(state.params, x)[0],
    )


def test_the_ramp_of_the_noise():
    """At its start there is none: the cost is that of the activities."""
    config = dataclasses.replace(SMALL, discretise="noise_ramp", ramp_steps=10)
    costs = {}
    for done in (0, 5, 10):
        model, state, examples, a = code_of(config, done)
        _, metrics = model.step(state, examples, jax.random.key(1))
        costs[done] = float(metrics["loss"])
        noise = np.random.default_rng(1).normal(size=(100_000, 3)) * 0.4 * done
        out = outputs(state.params, expit(a + noise))
        x = np.float64(examples["image"][0]).reshape(1, -1)
        nats = -(x * np.log(expit(out)) + (1 - x) * np.log(expit(-out))).sum(1)
        error = nats.std() * np.sqrt(1 / 4000 + 1 / 100_000)
        assert abs(costs[done] - nats.mean()) < 5 * error + 1e-4
    assert costs[0] != costs[10]


@pytest.mark.parametrize("discretise", ["straight_through", "bernoulli"])
def test_hard_codes_train_with_the_sigmoids_slope(discretise):
    """Forward they are bits; the gradient of the code layer's bias is that of the sigmoid."""
    import optax

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(hashing, "adam", lambda *_: optax.sgd(1.0))
        model, state, examples, a = code_of(dataclasses.replace(SMALL, discretise=discretise))
    examples = jax.tree.map(lambda x: x[:1], examples)
    key = jax.random.key(1)
    after, metrics = model.step(state, examples, key)
    u = jax.random.uniform(jax.random.clone(key), (1, 3))
    bits = np.float64(a > 0) if discretise == "straight_through" else np.float64(u[0] < expit(a))
    x = np.float64(examples["image"]).reshape(1, -1)

    def cost(c):
        out = outputs(state.params, c)
        return -(x * np.log(expit(out)) + (1 - x) * np.log(expit(-out))).sum()

    np.testing.assert_allclose(metrics["loss"], cost(bits[None]), rtol=1e-4)
    slope = [(cost((bits + d)[None]) - cost((bits - d)[None])) / 2e-5 for d in 1e-5 * np.eye(3)]
    wanted = np.array(slope) * expit(a) * expit(-a)
    bias = lambda state: np.float64(state.params["enc"]["layer_1"]["bias"])
    np.testing.assert_allclose(bias(state) - bias(after), wanted, rtol=1e-3, atol=1e-5)


def test_thresholds():
    low = hashing.make(dataclasses.replace(SMALL, threshold=0.1), SPEC)
    half = hashing.make(dataclasses.replace(SMALL, balanced=True), SPEC)
    examples = batch(40)
    state = spread_out(low.init(jax.random.key(0)))
    a = activities(state.params, np.float64(examples["image"]).reshape(40, -1))
    np.testing.assert_array_equal(low.encode(state, examples["image"], None), expit(a) > 0.1)
    after, _ = half.step(state, examples, jax.random.key(1))
    median = np.float64(after.extra["median"])
    np.testing.assert_allclose(median, 0.01 * np.median(a, axis=0), rtol=1e-4)
    state = state.replace(extra={"median": jnp.float32(np.median(a, axis=0))})
    bits = np.asarray(half.encode(state, examples["image"], None))
    # 20 of 40 are above the median, but for units at which several items tie.
    assert (np.abs(bits.sum(0) - (a > np.median(a, axis=0)).sum(0)) <= 1).all()


def test_how_bits_are_used():
    image = generator.integers(0, 9, (60, *SHAPE)).astype(np.uint8)
    data = from_arrays(image, test_images=image[:20], levels=9)
    model = hashing.make(SMALL, data.spec)
    state = spread_out(model.init(jax.random.key(0)))
    found = model.assess(state, data, None)
    bits = np.asarray(model.encode(state, jnp.float32(image / 8), None))
    p = bits.mean(0)
    p = p[(p > 0) & (p < 1)]
    entropy = -(p * np.log2(p) + (1 - p) * np.log2(1 - p)).sum() / 3
    np.testing.assert_allclose(found["bit_entropy_train"], entropy, rtol=1e-5)
    assert found["constant_bits_train"] == 3 - len(p)
    used = len({tuple(row) for row in bits})
    np.testing.assert_allclose(found["items_per_used_address_train"], 60 / used)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bits": 0}, "bits=0"),
        ({"noise": -1.0}, "noise=-1.0"),
        ({"threshold": 1.0}, "threshold"),
        ({"balanced": True, "threshold": 0.1}, "leave threshold"),
        ({"ramp_steps": 5}, "a ramp needs both"),
        ({"discretise": "noise_ramp"}, "a ramp needs both"),
        ({"per_word": True}, "likelihood=counts"),
        ({"init": "rbm"}, "set init=rbm and pretrain_steps"),
        ({"init": "rbm", "pretrain_steps": 3}, "activation=sigmoid"),
        (
            {"init": "rbm", "pretrain_steps": 3, "activation": "sigmoid", "likelihood": "counts"},
            "count_input=counts",
        ),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        hashing.Config(**fields)


def test_counts_need_levels():
    with pytest.raises(ValueError, match="levels=0"):
        hashing.make(WORDS, SPEC._replace(levels=0))
