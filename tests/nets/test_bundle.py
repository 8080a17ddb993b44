"""Several networks with their batch statistics, against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxae.nets import MLP, Bundle, ConvDecoder, ConvEncoder

X = np.random.default_rng(0).normal(3, 2, (8, 5)).astype(np.float32)
EPSILON = 1e-5


def bundle():
    return Bundle(plain=MLP((4,), 2), normal=MLP((4,), 2, norm="batch"))


def by_hand(params, x, mean=None, var=None):
    """Dense, normalise, relu, dense; also the batch's mean and variance."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    h = x @ params["Dense_0"]["kernel"]
    seen = h.mean(0), h.var(0)
    mean, var = seen if mean is None else (mean, var)
    h = (h - mean) / np.sqrt(var + EPSILON)
    h = h * params["BatchNorm_0"]["scale"] + params["BatchNorm_0"]["bias"]
    out = np.maximum(h, 0) @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]
    return out, seen


def test_training_normalises_by_the_batch_and_moves_the_averages():
    nets = bundle()
    params, stats = nets.init(jax.random.key(0), plain=X, normal=X)
    assert set(params) == {"plain", "normal"}
    assert set(stats) == {"normal"}
    out, moved = nets.train(params, stats, "normal", X)
    wanted, (mean, var) = by_hand(params["normal"], X)
    np.testing.assert_allclose(out, wanted, rtol=1e-4, atol=1e-5)
    averages = moved["normal"]["BatchNorm_0"]
    np.testing.assert_allclose(averages["mean"], 0.1 * mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(averages["var"], 0.9 + 0.1 * var, rtol=1e-4)
    wanted, _ = by_hand(params["normal"], X[:3], *map(np.asarray, averages.values()))
    np.testing.assert_allclose(nets(params, moved, "normal", X[:3]), wanted, rtol=1e-4, atol=1e-5)


def test_a_network_without_statistics_leaves_none():
    nets = bundle()
    params, stats = nets.init(jax.random.key(0), plain=(X,), normal=X)
    out, after = nets.train(params, stats, "plain", X)
    assert after is stats
    np.testing.assert_array_equal(out, nets(params, stats, "plain", X))


def test_under_a_mapped_axis_the_whole_batch_normalises():
    nets = Bundle(normal=MLP((4,), 2, norm="batch"))
    params, stats = nets.init(jax.random.key(0), normal=X)
    whole, wanted = nets.train(params, stats, "normal", X)

    def local(x):
        return nets.train(params, stats, "normal", x, axis_name="data")

    shares, found = jax.vmap(local, axis_name="data")(X.reshape(2, 4, 5))
    np.testing.assert_allclose(shares.reshape(8, 2), whole, rtol=1e-4, atol=1e-5)
    for part in (0, 1):
        np.testing.assert_allclose(
            found["normal"]["BatchNorm_0"]["var"][part], wanted["normal"]["BatchNorm_0"]["var"],
            rtol=1e-4,
        )  # fmt: skip


@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 11, 3)])
def test_convolutions_normalise_all_but_the_first_and_last(shape):
    nets = Bundle(
        enc=ConvEncoder(4, 3, 0, norm="batch"),
        dec=ConvDecoder(shape, shape[-1], 4, 0, norm="batch"),
    )
    x = jax.random.normal(jax.random.key(1), (2, *shape))
    params, stats = nets.init(jax.random.key(0), enc=x, dec=jnp.zeros((1, 3)))
    levels = len(params["enc"]) - 1 - len(stats.get("enc", {}))  # without the dense layer
    assert len(stats.get("enc", {})) == levels - 1
    assert len(stats["dec"]) == levels  # the dense layer and every up-sampling but the last
    out, _ = nets.train(params, stats, "dec", jnp.ones((2, 3)))
    assert out.shape == x.shape


def test_weights_start_from_the_deviation_that_is_asked_for():
    params = MLP((400,), 300, deviation=0.01).init(jax.random.key(0), X)["params"]
    kernel = np.asarray(params["Dense_1"]["kernel"])
    # 120,000 draws: their deviation is within 5 * 0.01 / sqrt(240,000) of 0.01.
    np.testing.assert_allclose(kernel.std(), 0.01, atol=5 * 0.01 / np.sqrt(2 * kernel.size))
