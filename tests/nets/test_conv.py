import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxae.nets import ConvDecoder, ConvEncoder, Upsample
from jaxae.nets.conv import pyramid

SHAPES = [(8, 8, 1), (28, 28, 1), (9, 17, 3)]


def transposed_by_definition(x, kernel):
    """float64, tap by tap: pixel (i, j) sends kernel[a, b] to (2i + 2 - a, 2j + 2 - b)."""
    batch, height, width, _ = x.shape
    out = np.zeros((batch, 2 * height, 2 * width, kernel.shape[-1]))
    for i in range(height):
        for j in range(width):
            for a in range(4):
                for b in range(4):
                    row, column = 2 * i + 2 - a, 2 * j + 2 - b
                    if 0 <= row < 2 * height and 0 <= column < 2 * width:
                        out[:, row, column] += x[:, i, j] @ kernel[a, b]
    return out


@pytest.mark.parametrize("form", ["phases", "lax"])
@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (1, 1, 2, 3)])
def test_upsample_by_definition(form, shape):
    net, x = Upsample(3, form), np.random.default_rng(0).normal(size=shape).astype(np.float32)
    variables = net.init(jax.random.key(0), x)
    want = transposed_by_definition(x, np.asarray(variables["params"]["kernel"]))
    np.testing.assert_allclose(net.apply(variables, x), want, rtol=1e-5, atol=1e-5)


def test_both_forms_of_upsampling_have_the_same_gradients():
    x = jax.random.normal(jax.random.key(0), (2, 5, 3, 4))
    variables = Upsample(3, out_bias=0.5).init(jax.random.key(1), x)
    loss = lambda form: lambda v, x: jnp.sum(jnp.sin(Upsample(3, form).apply(v, x)))
    grad = lambda form: jax.jit(jax.grad(loss(form), argnums=(0, 1)))(variables, x)
    grads = [grad("phases"), grad("lax")]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *grads)


def test_no_form_for_the_cpu_convolves_in_its_gradient():
    x = jnp.ones((1, 4, 4, 2))
    for form, convolves in (("phases", False), ("auto", False), ("lax", True)):
        net = Upsample(3, form)
        variables = jax.eval_shape(net.init, jax.random.key(0), x)
        loss = lambda v, x, net=net: jnp.sum(jnp.square(net.apply(v, x)))
        jaxpr = jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(variables, x)
        assert ("conv_general_dilated" in str(jaxpr)) == convolves


def test_sizes_by_hand():
    assert pyramid((28, 28, 1)) == [(28, 28), (14, 14), (7, 7)]
    assert pyramid((8, 8, 1)) == [(8, 8), (4, 4)]
    assert pyramid((9, 17, 3)) == [(9, 17), (5, 9)]
    assert pyramid((218, 178, 3))[-1] == (7, 6)


@pytest.mark.parametrize("shape", SHAPES)
def test_any_image_size_there_and_back(shape):
    x, key = jnp.ones((2, *shape)), jax.random.key(0)
    encoder, decoder = ConvEncoder(4, 6), ConvDecoder(shape, 5, 4, blocks=1)
    z, enc = jax.eval_shape(encoder.init_with_output, key, x)
    y, dec = jax.eval_shape(decoder.init_with_output, key, z)
    assert z.shape == (2, 6)
    assert y.shape == (2, *shape[:2], 5)
    # The halves mirror each other: as many blocks as asked, the same widths at the same sizes.
    levels = len(pyramid(shape)) - 1
    assert enc["params"]["Conv_0"]["kernel"].shape == (4, 4, shape[2], 4)
    top = 4 * 2 ** (levels - 1)
    assert enc["params"]["Residual_1"]["Dense_0"]["bias"].shape == (top,)
    assert dec["params"]["Residual_0"]["Dense_0"]["bias"].shape == (top,)
    assert f"Upsample_{levels - 1}" in dec["params"]
    assert "Residual_1" not in dec["params"]


def test_every_pixel_matters_and_every_pixel_is_reached():
    shape = (9, 17, 3)
    x = jax.random.normal(jax.random.key(2), (1, *shape))
    encoder = ConvEncoder(4, 6, blocks=0, activation="tanh")
    decoder = ConvDecoder(shape, 2, 4, blocks=0, activation="tanh")
    z = jnp.ones((1, 6))
    enc = jax.jit(encoder.init)(jax.random.key(0), x)
    dec = jax.jit(decoder.init)(jax.random.key(1), z)
    seen = jax.jit(jax.grad(lambda x: jnp.sum(encoder.apply(enc, x))))(x)
    assert np.all(seen != 0)
    along = jax.jit(lambda z: jax.jvp(lambda z: decoder.apply(dec, z), (z,), (z,))[1])
    reached = along(z)
    assert np.all(reached != 0)


def test_the_output_starts_at_the_given_bias():
    net = ConvDecoder((8, 8, 3), 3, 4, blocks=0, out_bias=np.float32([1, 2, 3]))
    variables = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 2)))
    # At z = 0 every hidden value is 0.
    np.testing.assert_array_equal(
        net.apply(variables, jnp.zeros((1, 2))), np.broadcast_to([1.0, 2, 3], (1, 8, 8, 3))
    )


@pytest.mark.parametrize("shape", [(7, 28, 1), (28, 4, 3)])
def test_small_images_are_refused_by_name(shape):
    message = rf"image shape \({shape[0]}, {shape[1]}, {shape[2]}\) is too small"
    with pytest.raises(ValueError, match=message):
        ConvEncoder(4, 6).init(jax.random.key(0), jnp.zeros((1, *shape)))
    with pytest.raises(ValueError, match=message):
        ConvDecoder(shape, 1, 4).init(jax.random.key(0), jnp.zeros((1, 6)))
