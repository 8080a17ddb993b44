import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
import tiny

from jaxae.nets.wavenet import WaveNet

NET = WaveNet(levels=3, width=4, layers=2, stacks=2, skip=5, head=6)


def randomised(net, *inputs, bias=5.0, scale=0.4):
    """Every parameter random; with the bias the ReLUs at the end are open."""
    shapes = jax.eval_shape(net.init, jax.random.key(0), *inputs)["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda s: jnp.float32(scale * rng.normal(size=s.shape)), shapes)
    for name in ("past_0", "last"):
        params[name]["bias"] = params[name]["bias"] + bias
    return {"params": params}


def conditions(n, length):
    c, g = jax.random.split(jax.random.key(1))
    return jax.random.normal(c, (n, length, 2)), jax.random.normal(g, (n, 3))


def test_the_receptive_field_is_exact():
    length = 12
    c, g = conditions(1, length)
    variables = randomised(NET, jnp.zeros((1, length), jnp.int32), c, g)
    vectors = jax.random.normal(jax.random.key(2), (length, 4))
    of_vectors = lambda v: NET.apply(variables, v[None], c, g, method="logits_from_embeddings")[0]
    full = np.abs(np.asarray(jax.jit(jax.jacrev(of_vectors))(vectors))).sum((1, 3))
    age = np.arange(length)[:, None] - np.arange(length)[None]
    reach = 1 + sum(NET.dilations())  # 1 + (1 + 2) twice
    np.testing.assert_array_equal(full != 0, (age >= 1) & (age <= reach))


def test_a_local_condition_acts_from_its_sample_on_and_a_global_one_always():
    length = 6
    c, g = conditions(1, length)
    k = jnp.zeros((1, length), jnp.int32)
    variables = randomised(NET, k, c, g)
    of_both = jax.jit(jax.jacrev(lambda c, g: NET.apply(variables, k, c[None], g[None])[0], (0, 1)))
    of_c, of_g = of_both(c[0], g[0])
    seen = np.abs(np.asarray(of_c)).sum((1, 3)) != 0
    np.testing.assert_array_equal(seen, np.tril(np.ones((length, length), bool)))
    assert (np.abs(np.asarray(of_g)).sum((1, 2)) > 0).all()


def test_a_zero_init_condition_has_no_effect_at_first_but_a_gradient():
    net, length = NET.clone(zero_init_condition=True), 6
    (c, g), k = conditions(2, length), jnp.ones((2, length), jnp.int32)
    params = jax.jit(net.init)(jax.random.key(0), k, c, g)["params"]
    outputs = jax.jit(lambda p, c, g: net.apply({"params": p}, k, c, g))
    np.testing.assert_array_equal(outputs(params, 5 * c, g), outputs(params, 0 * c, g))
    assert (outputs(params, c, g) != outputs(params, c, 5 * g)).any()  # it was there all the time
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(jnp.sin(outputs(p, c, g)))))(params)
    for number in range(4):
        assert gradient[f"local_{number}"]["kernel"].any()


@pytest.mark.parametrize("conditioned", [False, True])
def test_probabilities_of_all_signals_sum_to_one(conditioned):
    every = np.array(list(itertools.product(range(3), repeat=4)), np.int32)
    told = conditions(1, 4) if conditioned else ()
    told = [jnp.broadcast_to(part, (len(every), *part.shape[1:])) for part in told]
    variables = randomised(NET, every, *told)
    logits = np.float64(jax.jit(NET.apply)(variables, every, *told))
    log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    log_p = np.take_along_axis(log_p, every[..., None], -1).sum((1, 2))
    np.testing.assert_allclose(np.exp(log_p).sum(), 1.0, rtol=1e-5)
    assert log_p.std() > 0.1


def test_cosine_embeddings_are_a_cosine_transform():
    net = WaveNet(levels=8, width=4, layers=1, cosine_embedding=True)
    found = net.init(jax.random.key(0), jnp.zeros((1, 3), jnp.int32))["params"]["embedding"]
    wanted = scipy.fft.dct(np.eye(8), axis=0, norm="ortho")[1:5].T * np.sqrt(8)
    # The cosine of an angle up to 4 pi, a product of three rounded numbers, times the root of two.
    off = tiny.rounding(3, 4 * np.pi * np.sqrt(2)) + tiny.rounding(3, np.sqrt(2))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=off)


def test_cached_samples_are_the_naive_ones():
    n, length = 3, 20  # longer than any dilation, so that memories are written over
    c, g = conditions(n, length)
    variables = randomised(NET, jnp.zeros((n, length), jnp.int32), c, g, bias=0.0, scale=0.6)
    key = jax.random.key(4)
    cached = jax.jit(lambda v, key: NET.sample(v, n, length, key, c, g))
    found = np.asarray(cached(variables, key))
    logits_of = jax.jit(NET.apply)
    naive = np.zeros((n, length), np.int32)
    for t in range(length):
        logits = logits_of(variables, jnp.asarray(naive), c, g)[:, t]
        now = jax.random.fold_in(jax.random.clone(key), t)
        naive[:, t] = jax.random.categorical(now, logits)
    np.testing.assert_array_equal(found, naive)
    assert np.bincount(found.ravel(), minlength=3).min() > 5


def test_the_time_of_a_sample_does_not_depend_on_its_position():
    """One program for every moment, and memories that do not grow with the signal."""

    def body(length):
        c, g = conditions(2, length)
        variables = randomised(NET, jnp.zeros((2, length), jnp.int32), c, g)
        jaxpr = jax.make_jaxpr(lambda key: NET.sample(variables, 2, length, key, c, g))
        scans = [e for e in jaxpr(jax.random.key(0)).eqns if e.primitive.name == "scan"]
        (scan,) = scans
        assert scan.params["length"] == length
        return str(scan.params["jaxpr"].jaxpr)

    assert body(8) == body(64)
