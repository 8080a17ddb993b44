"""Normalisation of layers and of weights, against numpy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jaxae.nets import MLP, Bundle, ConvEncoder, linear, needs_bias, normalise

X = np.random.default_rng(0).normal(3, 2, (6, 5)).astype(np.float32)
IMAGES = np.random.default_rng(1).uniform(size=(3, 8, 8, 2)).astype(np.float32)


class Layer(nn.Module):
    """`normalise` as a module."""

    norm: str
    affine: bool = True

    @nn.compact
    def __call__(self, h, train=False, axis_name=None):
        return normalise(h, self.norm, train, axis_name, affine=self.affine)


def test_layers_are_normalised_for_each_example_by_itself():
    layer = Layer("layer")
    variables = layer.init(jax.random.key(0), IMAGES)
    assert set(variables) == {"params"}
    gain, shift = np.float32([2.0, 3.0]), np.float32([0.5, -1.0])
    params = {"LayerNorm_0": {"scale": gain, "bias": shift}}
    assert jax.tree.map(np.shape, variables["params"]) == jax.tree.map(np.shape, params)
    wanted = np.float64(IMAGES)
    wanted = (wanted - wanted.mean((1, 2, 3), keepdims=True)) / wanted.std((1, 2, 3), keepdims=True)
    found = layer.apply({"params": params}, IMAGES)
    np.testing.assert_allclose(found, wanted * gain + shift, rtol=1e-3, atol=1e-4)
    with tiny.x64():
        wide = tiny.in_float64(({"params": params}, IMAGES))
        alone, found = layer.apply(wide[0], wide[1][:1]), layer.apply(*wide)
        np.testing.assert_allclose(alone, found[:1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("norm", "bias"), [("none", True), ("batch", False), ("spectral", True), ("layer", True)]
)
@tiny.x64()
def test_a_layer_has_a_bias_unless_its_normalisation_takes_it_off(norm, bias):
    layer = Layer(norm, affine=False)
    x = np.float64(X)
    variables = tiny.in_float64(layer.init(jax.random.key(0), x))
    assert "params" not in variables
    shifted = [
        layer.apply(variables, x, train=True, mutable=["batch_stats"])[0]
        for x in (x, x + np.arange(5.0))
    ]
    assert needs_bias(norm) == bias
    assert np.allclose(*shifted, rtol=1e-12, atol=1e-12) == (not bias)
    params = MLP((4,), 2, norm=norm).init(jax.random.key(0), X)["params"]
    assert ("bias" in params["Dense_0"]) == bias


def passes(network, x, times):
    """A spectral network after so many training passes: parameters and statistics."""
    nets = Bundle(net=network)
    params, stats = nets.init(jax.random.key(2), net=x)
    train = jax.jit(lambda stats: nets.train(params, stats, "net", x)[1])
    for _ in range(times):
        stats = train(stats)
    return nets, params, stats


def test_a_spectral_layers_map_has_one_as_its_largest_singular_value():
    nets, params, stats = passes(MLP((), 4, norm="spectral"), X, 100)
    read = lambda x: nets(params, stats, "net", x[None])[0]
    effective = np.asarray(jax.jacobian(read)(jnp.zeros(5)))  # [4, 5]
    kernel = np.float64(params["net"]["Dense_0"]["kernel"])
    values = np.linalg.svd(kernel, compute_uv=False)
    assert abs(values[0] - 1) > 0.05  # it was not so before
    np.testing.assert_allclose(effective, kernel.T / values[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(effective, 2), 1, rtol=1e-4)


@pytest.mark.parametrize(
    "network",
    [MLP((7, 6), 1, norm="spectral"), ConvEncoder(3, 2, blocks=1, norm="spectral")],
    ids=["mlp", "conv"],
)
def test_all_weights_of_a_spectral_network_are_bounded(network):
    x = X if isinstance(network, MLP) else IMAGES
    nets, params, stats = passes(network, x, 200)
    flat = {jax.tree_util.keystr(k): v for k, v in jax.tree_util.tree_leaves_with_path(params)}
    norms = sorted(
        np.linalg.norm(np.float64(w).reshape(-1, w.shape[-1]), 2)
        for w in flat.values() if w.ndim > 1
    )  # fmt: skip
    kept = sorted(float(v) for k, v in jax.tree_util.tree_leaves_with_path(stats) if v.ndim == 0)
    np.testing.assert_allclose(kept, norms, rtol=1e-3)
    # Scaling a weight changes nothing, as it would if the weight were used as it is.
    doubled = jax.tree.map(lambda w: 2 * w if w.ndim > 1 else w, params)
    np.testing.assert_allclose(
        nets(doubled, stats, "net", x), nets(params, stats, "net", x), rtol=1e-4, atol=1e-5
    )


def test_evaluation_leaves_the_vectors_as_training_left_them():
    nets, params, stats = passes(MLP((), 4, norm="spectral"), X, 1)
    moved = nets.train(params, stats, "net", X)[1]
    assert not np.array_equal(*(jax.tree.leaves(s)[1] for s in (stats, moved)))
    before = jax.tree.map(np.array, stats)
    nets(params, stats, "net", X)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(stats), strict=True):
        np.testing.assert_array_equal(old, new)


def test_linear_is_the_layer_itself_unless_it_is_spectral():
    layer = nn.Dense(3)
    assert all(linear(layer, norm, True) is layer for norm in ("none", "batch", "layer"))
