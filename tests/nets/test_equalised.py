"""Equalised layers and the fixed operations, by hand and by scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from scipy.signal import correlate2d

from jaxae.nets import conv, equalised
from jaxae.nets.equalised import EqualConv, EqualDense

X = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype(np.float32)


def test_pixel_norm_gives_vectors_of_mean_square_one():
    y = equalised.pixel_norm(jnp.float32([[3.0, 4.0], [1e-2, 0.0], [0.0, 0.0]]))
    np.testing.assert_allclose(np.mean(np.square(y), axis=1), [1, 1, 0], rtol=1e-3)
    np.testing.assert_allclose(y[0], np.float32([3, 4]) / np.sqrt(12.5), rtol=1e-6)


@tiny.x64()
def test_channel_statistics_are_those_of_numpy():
    x = np.float64(X)
    mean, deviation = equalised.channel_statistics(jnp.asarray(x))
    np.testing.assert_allclose(mean[:, 0, 0], x.mean((1, 2)), rtol=0, atol=1e-12)
    floored = np.sqrt(x.var((1, 2)) + 1e-8)
    np.testing.assert_allclose(deviation[:, 0, 0], floored, rtol=1e-12)


@tiny.x64()
def test_blur_doubling_and_halving():
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    found = equalised.blur(jnp.asarray(np.float64(X)))
    for b in range(2):
        for c in range(3):
            wanted = correlate2d(X[b, :, :, c], kernel, "same")
            np.testing.assert_allclose(found[b, :, :, c], wanted, rtol=0, atol=1e-12)
    wide = conv.upsample_nearest(jnp.asarray(X))
    np.testing.assert_array_equal(wide[1, :, :, 2], np.kron(X[1, :, :, 2], np.ones((2, 2))))
    np.testing.assert_array_equal(
        conv.downsample_mean(wide), X
    )  # sums of four equal numbers are exact


@pytest.mark.parametrize("size", [1, 3])
def test_convolution_is_scipys_times_the_scale(size):
    layer = EqualConv(4, size=size, gain=0.5, rate=0.1)
    params = layer.init(jax.random.key(0), X)["params"]
    params["bias"] = jnp.arange(4.0)
    kernel = np.asarray(params["kernel"]) * 0.1 * 0.5 / np.sqrt(size * size * 3)
    found = layer.apply({"params": params}, X)
    for out in range(4):
        planes = [correlate2d(X[1, :, :, c], kernel[:, :, c, out], "same") for c in range(3)]
        np.testing.assert_allclose(found[1, :, :, out], sum(planes) + 0.1 * out, atol=1e-5)


def test_outputs_start_at_the_gain_whatever_width_and_rate():
    x = np.random.default_rng(1).normal(size=(2000, 300)).astype(np.float32)
    for gain, rate in ((1.0, 1.0), (np.sqrt(2), 0.1)):
        layer = EqualDense(50, gain=gain, rate=rate)
        y = layer.init_with_output(jax.random.key(2), x)[0]
        # 300 x 50 weights: the deviation is known to one in sqrt(2 * 15000).
        assert np.std(y) == pytest.approx(gain, rel=5 / np.sqrt(2 * 15_000))


def test_scaling_at_run_time_is_scaling_of_adams_steps():
    """Weights that start small and whose steps are scaled learn the same function."""
    x, target = X.reshape(24, 9), np.sin(X.reshape(24, 9)[:, :2])
    gain, rate, learning_rate = np.sqrt(2), 0.1, 0.05
    layer = EqualDense(2, gain=gain, rate=rate)
    params = layer.init(jax.random.key(3), x)["params"]
    scale = gain / np.sqrt(9) * rate
    plain = {"kernel": params["kernel"] * scale, "bias": params["bias"] * rate}
    scales = {"kernel": scale, "bias": rate}
    apply = {
        "explicit": lambda p: layer.apply({"params": p}, x),
        "implicit": lambda p: x @ p["kernel"] + p["bias"][None],
    }
    np.testing.assert_allclose(apply["explicit"](params), apply["implicit"](plain), rtol=1e-5)
    tx = optax.adam(learning_rate, 0.0, 0.99, eps=1e-20)
    states = {"explicit": (params, tx.init(params)), "implicit": (plain, tx.init(plain))}
    for _ in range(20):
        for name, (p, opt) in states.items():
            loss = lambda p, name=name: jnp.mean(jnp.square(apply[name](p) - target))
            updates, opt = tx.update(jax.grad(loss)(p), opt)
            if name == "implicit":
                updates = {k: v * scales[k] for k, v in updates.items()}
            states[name] = optax.apply_updates(p, updates), opt
    learned = [apply[name](p) for name, (p, _) in states.items()]
    np.testing.assert_allclose(*learned, atol=1e-4)
    assert np.abs(learned[0] - apply["explicit"](params)).max() > 0.1
