import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jaxae.nets import GatedPixelCNN
from jaxae.nets.made import sample_by_passes
from jaxae.nets.pixelcnn import CausalConv


def randomised(net, x, z=None, seed=0):
    """Variables with every parameter random, biases included, small enough to keep gates open."""
    inputs = (x,) if z is None else (x, z)
    shapes = jax.eval_shape(net.init, jax.random.key(0), *inputs)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: jnp.float32(0.3 * rng.normal(size=s.shape)), shapes)


def jacobian(net, x, z=None):
    """|d output / d input| at every pair of pixels: [H*W, H*W]."""
    params = randomised(net, x)["params"]
    # Keep every ReLU of the head open, so that what passes the stacks is seen.
    for name in (f"layer_{net.layers - 1}", "head"):
        layer = params[name].get("mix", params[name])
        layer["bias"] = layer["bias"] + 4
    variables = {"params": params}
    height, width, colours = x.shape[1:]
    of_image = lambda image: net.apply(variables, image[None], z)[0]
    full = jax.jit(jax.jacrev(of_image))(x[0])
    sizes = (height * width, -1, height * width, colours)
    return np.abs(np.asarray(full)).reshape(sizes).sum(axis=(1, 3))


@pytest.mark.parametrize(
    ("shape", "first_kernel", "kernel", "form"),
    [((4, 5, 1), 7, 3, "patches"), ((5, 3, 2), 3, 5, "patches"), ((3, 4, 1), 5, 3, "lax")],
)
def test_every_earlier_pixel_and_no_other(shape, first_kernel, kernel, form):
    # The kernels reach over the whole image: a blind spot would be a zero below the diagonal.
    net = GatedPixelCNN(2, 4, 3, first_kernel, kernel, form=form)
    x = jax.random.normal(jax.random.key(1), (1, *shape))
    seen = jacobian(net, x) != 0
    pixels = shape[0] * shape[1]
    np.testing.assert_array_equal(seen, np.tril(np.ones((pixels, pixels), bool), -1))


def test_one_layer_sees_its_kernel():
    # Seven columns of four rows above (the kernel's four, one row down), three pixels to the left.
    net, x = GatedPixelCNN(2, 3, 1), jax.random.normal(jax.random.key(1), (1, 9, 9, 1))
    seen = jacobian(net, x).reshape(9, 9, 9, 9)[6, 4] != 0
    want = np.zeros((9, 9), bool)
    want[2:6, 1:8] = True
    want[6, 1:4] = True
    np.testing.assert_array_equal(seen, want)


def test_probabilities_of_all_images_sum_to_one():
    net = GatedPixelCNN(1, 3, 2, 3, 3)
    images = jnp.float32(list(itertools.product([0, 1], repeat=6))).reshape(64, 2, 3, 1)
    z = jnp.broadcast_to(jnp.float32([[0.7, -1.0]]), (64, 2))
    logits = jax.jit(net.apply)(randomised(net, images, z), images, z)
    log_p = -jnp.sum(jnp.logaddexp(0, jnp.where(images == 1, -logits, logits)), axis=(1, 2, 3))
    np.testing.assert_allclose(jnp.sum(jnp.exp(log_p)), 1, rtol=1e-5)
    assert np.std(log_p) > 0.1


@pytest.mark.parametrize(("kernel", "left"), [((2, 3), 1), ((1, 3), 3)])
def test_both_forms_have_the_same_values_and_gradients(kernel, left):
    x = jax.random.normal(jax.random.key(0), (2, 4, 5, 2))
    variables = randomised(CausalConv(3, kernel, left), x)

    def found(form):
        net = CausalConv(3, kernel, left, form)
        loss = lambda v, x: jnp.sum(jnp.sin(net.apply(v, x)))
        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(variables, x)

    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, found("patches"), found("lax"))


@pytest.mark.parametrize(("first_kernel", "kernel"), [(3, 3), (5, 5)])
def test_both_forms_have_the_same_gradient_by_the_image(first_kernel, kernel):
    # Small images: XLA's own gradient of a kernel that ends before the pixel is wrong here.
    x = jax.random.normal(jax.random.key(0), (2, 3, 3, 6))

    def found(form):
        net = GatedPixelCNN(4, 6, 2, first_kernel, kernel, form=form)
        variables = randomised(net, x)
        return jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(net.apply(variables, x)))))(x)

    np.testing.assert_allclose(found("lax"), found("patches"), rtol=1e-4, atol=1e-5)


def test_the_code_reaches_the_gates_of_every_layer():
    x, z = jnp.zeros((2, 3, 4, 1)), jnp.ones((2, 5))
    params = jax.eval_shape(GatedPixelCNN(1, 4, 3).init, jax.random.key(0), x, z)["params"]
    for number, name in itertools.product(range(3), ("vertical_z", "horizontal_z")):
        assert params[f"layer_{number}"][name]["kernel"].shape == (5, 8)


@pytest.mark.parametrize("map_channels", [0, 2])
def test_a_zero_init_code_has_no_effect_at_first_but_a_gradient(map_channels):
    net = GatedPixelCNN(2, 4, 3, 3, map_channels=map_channels, zero_init_condition=True)
    x, z = jax.random.normal(jax.random.key(1), (2, 4, 3, 1)), 5 * jnp.ones((2, 3))
    params = jax.jit(net.init)(jax.random.key(0), x, z)["params"]
    outputs = jax.jit(lambda p, z: net.apply({"params": p}, x, z))
    np.testing.assert_array_equal(outputs(params, z), outputs(params, 0 * z))
    of_code = jax.jit(jax.grad(lambda p: jnp.sum(jnp.sin(outputs(p, z)))))(params)
    for number, name in itertools.product(range(3), ("vertical_z", "horizontal_z")):
        unused = (number, name) == (2, "vertical_z")  # nothing comes after the last v
        assert of_code[f"layer_{number}"][name]["kernel"].any() != unused


@pytest.mark.parametrize("map_channels", [0, 2])
def test_cached_samples_are_fixed_points_of_the_network(map_channels):
    # A draw that returns a function of the outputs: the image must then satisfy x = tanh(net(x)).
    net, shape = GatedPixelCNN(2, 4, 3, 5, map_channels=map_channels), (3, 6, 5, 2)
    z = jax.random.normal(jax.random.key(1), (3, 4))
    variables = randomised(net, jnp.zeros(shape), z)
    sample = jax.jit(lambda v, z, key: net.sample(v, shape, z, key, lambda o, _: jnp.tanh(o)))
    x = sample(variables, z, jax.random.key(2))
    np.testing.assert_allclose(x, jnp.tanh(jax.jit(net.apply)(variables, x, z)), atol=1e-5)
    assert np.std(x) > 0.1


def test_cached_and_naive_sampling_draw_the_same_pixels():
    net, shape = GatedPixelCNN(1, 4, 2, 3), (4, 5, 4, 1)
    variables = randomised(net, jnp.zeros(shape))
    bernoulli = lambda outputs, rng: jnp.float32(
        jax.random.uniform(rng, outputs.shape) < jax.nn.sigmoid(outputs)
    )
    cached = jax.jit(lambda v, key: net.sample(v, shape, None, key, bernoulli))
    apply = lambda v: lambda x: net.apply(v, x)
    naive = jax.jit(lambda v, key: sample_by_passes(apply(v), shape, key, bernoulli))
    drawn = cached(variables, jax.random.key(3))
    np.testing.assert_array_equal(drawn, naive(variables, jax.random.key(3)))
    assert 0.1 < np.mean(drawn) < 0.9


def test_samples_have_the_frequencies_of_the_model():
    net, n = GatedPixelCNN(1, 3, 2, 3), 20_000
    images = jnp.float32(list(itertools.product([0, 1], repeat=4))).reshape(16, 2, 2, 1)
    variables = randomised(net, images, seed=2)
    logits = jax.jit(net.apply)(variables, images)
    log_p = -jnp.sum(jnp.logaddexp(0, jnp.where(images == 1, -logits, logits)), axis=(1, 2, 3))
    bernoulli = lambda outputs, rng: jnp.float32(jax.random.bernoulli(rng, jax.nn.sigmoid(outputs)))
    sample = jax.jit(lambda v, key: net.sample(v, (n, 2, 2, 1), None, key, bernoulli))
    drawn = np.asarray(sample(variables, jax.random.key(0))).reshape(n, 4)
    counts = np.bincount(np.int64(drawn @ [8, 4, 2, 1]), minlength=16)
    p = np.exp(np.float64(log_p))
    assert np.all(np.abs(counts / n - p) < 5 * np.sqrt(p * (1 - p) / n))


@tiny.x64()
def test_dropout_acts_in_training_only():
    net, x = GatedPixelCNN(1, 4, 2, 3, dropout=0.5), jnp.ones((1, 3, 4, 1))
    variables = tiny.in_float64(randomised(net, x))
    apply = jax.jit(
        lambda train, key: net.apply(variables, x, None, train, rngs={"dropout": key}),
        static_argnums=0,
    )
    one, two = apply(True, jax.random.key(1)), apply(True, jax.random.key(2))
    assert not np.allclose(one, two)
    without = jax.jit(GatedPixelCNN(1, 4, 2, 3).apply)(variables, x)
    np.testing.assert_allclose(apply(False, jax.random.key(3)), without, 1e-12, 1e-12)


def test_out_bias_is_the_output_where_the_head_is_silent():
    net = GatedPixelCNN(2, 4, 1, 3, out_bias=np.float32([1.5, -2.0]))
    variables = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 3, 3, 1)))
    # On a zero image every feature is zero at the start.
    want = np.broadcast_to([1.5, -2.0], (1, 3, 3, 2))
    np.testing.assert_array_equal(net.apply(variables, jnp.zeros((1, 3, 3, 1))), want)


@pytest.mark.parametrize("fields", [{"kernel": 4}, {"first_kernel": 1}, {"layers": 0}])
def test_shapes_without_an_order_are_refused(fields):
    net = GatedPixelCNN(**({"channels": 1, "width": 4, "layers": 2} | fields))
    with pytest.raises(ValueError, match="at least one layer and odd kernels of at least 3"):
        net.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)))
