import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxae.nets import MaskedMLP


def randomised(net, x, z=None, seed=0):
    """Variables with every parameter random, biases included."""
    shapes = jax.eval_shape(net.init, jax.random.key(0), x, z)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: jnp.float32(0.5 * rng.normal(size=s.shape)), shapes)


@pytest.mark.parametrize(
    ("shape", "channels", "widths", "direct"),
    [((3, 4, 1), 1, (24, 36), False), ((2, 3, 2), 5, (18,), False), ((4, 3, 1), 2, (5, 7), True)],
)
def test_every_earlier_pixel_and_no_other(shape, channels, widths, direct):
    net = MaskedMLP(shape, channels, widths, "tanh", direct)
    x = jax.random.normal(jax.random.key(1), (1, *shape))
    variables = randomised(net, x)
    full = jax.jit(jax.jacrev(lambda image: net.apply(variables, image[None])[0]))(x[0])
    pixels = shape[0] * shape[1]
    seen = np.abs(np.asarray(full)).reshape(pixels, channels, pixels, shape[2]).sum(axis=(1, 3))
    np.testing.assert_array_equal(seen != 0, np.tril(np.ones((pixels, pixels), bool), -1))


def test_narrow_layers_miss_pixels_but_never_look_ahead():
    net, x = MaskedMLP((4, 3, 1), 1, (5, 7), "tanh"), jnp.ones((1, 4, 3, 1))
    variables = randomised(net, x)
    full = jax.jacrev(lambda image: net.apply(variables, image[None])[0])(x[0])
    seen = np.asarray(full).reshape(12, 12) != 0
    assert not np.any(np.triu(seen))
    assert 0 < np.sum(seen) < 66


def test_probabilities_of_all_images_sum_to_one():
    net = MaskedMLP((2, 3, 1), 1, (12, 12))
    images = jnp.float32(list(itertools.product([0, 1], repeat=6))).reshape(64, 2, 3, 1)
    z = jnp.broadcast_to(jnp.float32([[0.7, -1.0]]), (64, 2))
    logits = net.apply(randomised(net, images, z), images, z)
    log_p = -jnp.sum(jnp.logaddexp(0, jnp.where(images == 1, -logits, logits)), axis=(1, 2, 3))
    np.testing.assert_allclose(jnp.sum(jnp.exp(log_p)), 1, rtol=1e-5)
    assert np.std(log_p) > 0.1


def test_the_code_reaches_every_layer_and_every_output():
    net, x, z = MaskedMLP((2, 2, 1), 3, (8, 6), "tanh"), jnp.ones((1, 2, 2, 1)), jnp.ones((1, 5))
    variables = randomised(net, x, z)
    shapes = sorted(
        layer["kernel"].shape
        for name, layer in variables["params"].items()
        if name.startswith("Dense")
    )
    assert shapes == [(5, 6), (5, 8), (5, 12)]
    reached = jax.jacrev(lambda z: net.apply(variables, x, z))(z)
    assert np.all(np.asarray(reached) != 0)


def test_a_zero_init_code_has_no_effect_at_first_but_a_gradient():
    net, x = (
        MaskedMLP((2, 2, 1), 3, (8, 6), "tanh", zero_init_condition=True),
        jnp.ones((2, 2, 2, 1)),
    )
    z = 5 * jnp.ones((2, 5))
    params = net.init(jax.random.key(0), x, z)["params"]
    outputs = lambda p, z: net.apply({"params": p}, x, z)
    np.testing.assert_array_equal(outputs(params, z), outputs(params, 0 * z))
    of_code = jax.grad(lambda p: jnp.sum(jnp.sin(outputs(p, z))))(params)
    told = [layer["kernel"] for name, layer in of_code.items() if name.startswith("Dense")]
    assert len(told) == 3
    assert all(kernel.any() for kernel in told)


def test_samples_are_fixed_points_of_the_network():
    # A draw that returns a function of the outputs: the image must then satisfy x = tanh(net(x)).
    net, shape = MaskedMLP((3, 2, 2), 2, (12,)), (4, 3, 2, 2)
    z = jax.random.normal(jax.random.key(1), (4, 3))
    variables = randomised(net, jnp.zeros(shape), z)
    draw = lambda outputs, rng: jnp.tanh(outputs)
    x = jax.jit(lambda v, key: net.sample(v, shape, z, key, draw))(variables, jax.random.key(2))
    np.testing.assert_allclose(x, jnp.tanh(net.apply(variables, x, z)), atol=1e-5)
    assert np.std(x) > 0.1


def test_samples_have_the_frequencies_of_the_model():
    net, n = MaskedMLP((2, 2, 1), 1, (8,)), 20_000
    images = jnp.float32(list(itertools.product([0, 1], repeat=4))).reshape(16, 2, 2, 1)
    variables = randomised(net, images)
    logits = net.apply(variables, images)
    log_p = -jnp.sum(jnp.logaddexp(0, jnp.where(images == 1, -logits, logits)), axis=(1, 2, 3))
    draw = lambda outputs, rng: jnp.float32(jax.random.bernoulli(rng, jax.nn.sigmoid(outputs)))
    sample = jax.jit(lambda v, key: net.sample(v, (n, 2, 2, 1), None, key, draw))
    drawn = np.asarray(sample(variables, jax.random.key(0))).reshape(n, 4)
    counts = np.bincount(np.int64(drawn @ [8, 4, 2, 1]), minlength=16)
    p = np.exp(np.float64(log_p))
    assert np.all(np.abs(counts / n - p) < 5 * np.sqrt(p * (1 - p) / n))


@pytest.mark.parametrize("bias", [np.float32([1, -2]), np.arange(12, dtype=np.float32)])
def test_out_bias_per_channel_or_per_pixel(bias):
    bias = bias if bias.size == 2 else bias.reshape(2, 3, 2)
    net, x = MaskedMLP((2, 3, 1), 2, (6,), out_bias=bias), jnp.zeros((1, 2, 3, 1))
    out, _ = net.init_with_output(jax.random.key(0), x)
    np.testing.assert_array_equal(out, np.broadcast_to(bias, (1, 2, 3, 2)))


def test_another_image_shape_is_refused():
    net = MaskedMLP((2, 3, 1), 1, (4,))
    with pytest.raises(ValueError, match=r"image_shape is \(2, 3, 1\), x is \(3, 2, 1\)"):
        net.init(jax.random.key(0), jnp.zeros((1, 3, 2, 1)))
