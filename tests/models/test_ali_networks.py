"""ALI's and BiGAN's dense networks by hand: where batches are normalised, and what is rectified."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxae.models.ali.networks import Critic, Encoder, Generator

RNG = np.random.default_rng(0)
X, Z, LABEL = (RNG.normal(size=(5, n)).astype(np.float32) for n in (3, 2, 2))
relu = lambda x: np.maximum(x, 0)
leaky = lambda x: np.where(x > 0, x, 0.2 * x)


def trained(module, *inputs):
    """Output of a training pass, parameters without a zero among them, and the averages after."""
    variables = module.init(jax.random.key(0), *inputs)
    draw = lambda v: jnp.asarray(RNG.normal(size=v.shape), jnp.float32)
    params = jax.tree.map(draw, variables["params"])
    stats = variables.get("batch_stats", {})
    out, moved = module.apply(
        {"params": params, "batch_stats": stats}, *inputs, train=True, mutable=["batch_stats"]
    )
    as_64 = lambda tree: jax.tree.map(lambda v: np.asarray(v, np.float64), tree)
    return as_64(out), as_64(params), as_64(moved.get("batch_stats", {}))


def dense(params, number, x):
    layer = params[f"Dense_{number}"]
    return x @ layer["kernel"] + layer.get("bias", 0.0)


class Norms:
    """Normalises by the batch, and notes where moving averages that keep 0.95 stand then."""

    def __init__(self, params):
        self.params, self.stats = params, {}

    def __call__(self, x):
        name = f"BatchNorm_{len(self.stats)}"
        mean, var = x.mean(0), x.var(0)
        self.stats[name] = {"mean": 0.05 * mean, "var": 0.95 + 0.05 * var}
        affine = self.params.get(name, {"scale": 1.0, "bias": 0.0})
        return (x - mean) / np.sqrt(var + 1e-5) * affine["scale"] + affine["bias"]


def assert_matches(found, wanted, stats, norms):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-4), found, wanted)
    assert stats.keys() == norms.stats.keys()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5), stats, norms.stats
    )


@pytest.mark.parametrize("style", ["bigan", "plane"])
def test_an_encoder(style):
    found, params, stats = trained(Encoder((3, 2), 2, style, 0.3), X, LABEL)
    norm = Norms(params)
    if style == "bigan":  # none in the first layer
        h = leaky(norm(dense(params, 1, leaky(dense(params, 0, X)))))
    else:
        h = relu(norm(dense(params, 1, relu(norm(dense(params, 0, X))))))
    wanted = dense(params, 2, np.concatenate([h, LABEL], 1))
    assert_matches(found, wanted, stats, norm)
    biased = {name for name in params if "bias" in params[name]}
    assert biased == ({"Dense_2", "BatchNorm_0", "BatchNorm_1"} if style == "plane" else set())


@pytest.mark.parametrize("style", ["bigan", "plane"])
def test_a_generator(style):
    found, params, stats = trained(Generator((3, 2), 2, style, 0.3), Z)
    norm = Norms(params)
    h = relu(norm(dense(params, 0, Z)))
    if style == "bigan":  # z again, by a map of its own
        h = relu(norm(dense(params, 1, h) + dense(params, 2, Z)))
    else:
        h = relu(norm(dense(params, 1, h)))
    wanted = dense(params, 3 if style == "bigan" else 2, h)
    assert_matches(found, wanted, stats, norm)


def test_bigans_discriminator():
    found, params, stats = trained(Critic((3, 2), 1, "bigan", 0.3), X, Z)
    norm = Norms(params)
    h = leaky(dense(params, 0, X))  # neither z nor a normalisation in the first layer
    h = leaky(norm(dense(params, 1, h) + dense(params, 2, Z)))
    assert_matches(found, (dense(params, 3, h), h), stats, norm)
    assert not any("bias" in layer for layer in params.values())


def test_bigans_networks_have_biases_where_nothing_takes_them_off():
    """In every layer, but not in the maps by which z is shown again; no statistics."""
    shown_again = {Critic: {"Dense_2"}, Generator: {"Dense_2"}, Encoder: set()}
    for network, *inputs in ((Critic, X, Z), (Generator, Z), (Encoder, X)):
        module = network((3, 2), 2, "bigan", 0.3, norm="none")
        variables = module.init(jax.random.key(0), *inputs)
        assert set(variables) == {"params"}
        without = {name for name, layer in variables["params"].items() if "bias" not in layer}
        assert without == shown_again[network], network


def test_a_discriminator_of_maxout_units():
    found, params, stats = trained(Critic((3, 2), 1, "plane", 0.3, norm="none"), X, Z)
    h = np.concatenate([X, Z], 1)
    for number, width in enumerate((3, 2)):
        h = dense(params, number, h).reshape(5, width, 5).max(-1)
    assert_matches(found, (dense(params, 2, h), h), stats, Norms(params))
