"""StyleALAE's parts by hand: styles, readings, levels, style mixing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from scipy.signal import correlate2d

from jaxae.models import alae
from jaxae.models.alae import style as alae_style

SHAPE = (8, 8, 1)
SMALL = {"network": "style", "latent": 3, "conv_width": 2, "conv_most": 4, "map_layers": 2}
DATA = tiny.images()
key = lambda: jax.random.key(5)


@tiny.x64()
def test_styles_decide_mean_and_deviation():
    x = 3 + 2 * jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    style = jnp.float64([[0.5, -3.0, 0.0, 1.0, 2.0, -1.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    y = np.asarray(alae_style.adaptive_instance_norm(x, style, 0.0))
    np.testing.assert_allclose(y.mean((1, 2)), style[:, 3:], rtol=0, atol=1e-12)
    np.testing.assert_allclose(y.std((1, 2)), np.abs(1 + style[:, :3]), rtol=1e-12)


@pytest.mark.parametrize(
    ("side", "width", "most", "wanted"),
    [
        (1024, 16, 512, [512, 512, 512, 512, 256, 128, 64, 32, 16]),  # FFHQ
        (256, 64, 512, [512, 512, 512, 512, 256, 128, 64]),  # CelebA-HQ
        (32, 64, 256, [256, 256, 128, 64]),
        (8, 2, 4, [4, 2]),
    ],
)
def test_channels_by_level(side, width, most, wanted):
    assert alae_style.level_channels((side, side, 3), width, most) == wanted
    noise = alae_style.noise_shapes((side, side, 3))
    assert len(noise) == 2 * len(wanted)
    assert noise[0] == (4, 4, 1)
    assert noise[-1] == (side, side, 1)


def test_the_encoders_code_is_the_sum_of_its_readings():
    encoder = alae_style.StyleEncoder(SHAPE, 2, 4, 3)
    x = jax.random.uniform(jax.random.key(1), (2, *SHAPE))
    params = encoder.init(jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda v: v + 0.1, params)  # biases too
    hidden = np.asarray(encoder.apply({"params": params}, x, hidden=True), np.float64)

    # Two readings of 2 channels, then of 4, 4 and 4, each as means and deviations.
    ends, w = np.cumsum([0, 4, 8, 8, 8]), 0.0
    for i in range(4):
        layer = jax.tree.map(lambda v: np.asarray(v, np.float64), params[f"EqualDense_{i}"])
        reading = hidden[:, ends[i] : ends[i + 1]]
        w = w + reading @ layer["kernel"] / np.sqrt(reading.shape[1]) + layer["bias"]
    np.testing.assert_allclose(encoder.apply({"params": params}, x), w, rtol=1e-4, atol=1e-5)

    # The first reading, by scipy's correlation.
    leaky = lambda v: np.where(v > 0, v, 0.2 * v)
    stored = [np.asarray(params[f"EqualConv_{i}"]["kernel"], np.float64) for i in (0, 1)]
    from_pixels, three = (k * np.sqrt(2 / np.prod(k.shape[:3])) for k in stored)
    seen = leaky(np.asarray(x, np.float64) @ from_pixels[0, 0] + 0.1)
    for b in range(2):
        for out in range(2):
            parts = [correlate2d(seen[b, :, :, c], three[:, :, c, out], "same") for c in (0, 1)]
            plane = leaky(sum(parts) + 0.1)
            found = hidden[b, [out, 2 + out]]
            np.testing.assert_allclose(found, [plane.mean(), plane.std()], rtol=1e-4)


def test_the_generator_starts_at_its_styles():
    """Where every style is (0, b), a level is b everywhere but for what its convolution shapes."""
    generator = alae_style.StyleGenerator(SHAPE, 2, 4, 1.0)
    noise = [jnp.zeros((1, *shape)) for shape in alae_style.noise_shapes(SHAPE)]
    styles = jnp.zeros((1, 4, 3))
    params = generator.init(jax.random.key(0), styles, *noise)["params"]
    assert params["start"].shape == (1, 4, 4, 4)
    assert np.all(params["start"] == 1)
    image = generator.apply({"params": params}, styles, *noise)
    # The flat start is normalised to zeros, which stay zeros through every level.
    np.testing.assert_array_equal(image, np.zeros((1, *SHAPE)))
    loud = [n.at[0, 0, 0].set(1.0) for n in noise]
    np.testing.assert_array_equal(  # noise has no strength at the start
        generator.apply({"params": params}, styles, *loud), image
    )


def test_an_image_by_hand():
    """Convolution, noise, bias, rectifier, normalisation, style; twice at each of two levels."""
    generator = alae_style.StyleGenerator(SHAPE, 2, 4, last_gain=0.5, out_bias=0.3)
    styles = jax.random.normal(jax.random.key(1), (2, 4, 3))
    noise = [jax.random.normal(jax.random.key(2 + i), (2, *shape))
             for i, shape in enumerate(alae_style.noise_shapes(SHAPE))]  # fmt: skip
    params = generator.init(jax.random.key(0), styles, *noise)["params"]
    rng = np.random.default_rng(0)  # so that no strength, no bias and no start is flat
    params = jax.tree.map(lambda v: v + rng.normal(0, 0.5, v.shape).astype(np.float32), params)
    p = jax.tree.map(lambda v: np.asarray(v, np.float64), params)
    binomial = np.outer([1, 2, 1], [1, 2, 1]) / 16

    def planes(x, kernel):
        one = lambda o: sum(correlate2d(x[..., i], kernel[:, :, i, o], "same")
                            for i in range(x.shape[-1]))  # fmt: skip
        return np.stack([one(o) for o in range(kernel.shape[-1])], -1)

    def convolved(x, number):
        kernel = p[f"EqualConv_{number}"]["kernel"]
        return planes(x, kernel * np.sqrt(2 / np.prod(kernel.shape[:3])))

    def painted(x, number, b):
        x = x + np.asarray(noise[number][b]) * p[f"noise_{number}"] + p[f"bias_{number}"]
        x = np.where(x > 0, x, 0.2 * x)
        x = (x - x.mean((0, 1))) / x.std((0, 1))
        layer = p[f"EqualDense_{number}"]
        style = np.asarray(styles[b, number]) @ layer["kernel"] / np.sqrt(3) + layer["bias"]
        scale, shift = np.split(style, 2)
        return x * (1 + scale) + shift

    found = generator.apply({"params": params}, styles, *noise)
    for b in range(2):
        x = painted(p["start"][0], 0, b)
        x = painted(convolved(x, 0), 1, b)
        x = convolved(x.repeat(2, axis=0).repeat(2, axis=1), 1)
        blurred = np.stack([correlate2d(x[..., c], binomial, "same") for c in range(2)], -1)
        x = painted(convolved(painted(blurred, 2, b), 2), 3, b)
        last = p["EqualConv_3"]
        wanted = x @ last["kernel"][0, 0] * 0.5 / np.sqrt(2) + last["bias"]
        np.testing.assert_allclose(found[b], wanted, rtol=1e-3, atol=1e-4)


def test_mixing_replaces_the_coarse_or_the_fine_styles():
    model = alae.make(alae.Config(**SMALL), DATA.spec)
    config = alae.Config(**SMALL)
    state = jax.jit(model.init)(key())
    x, y = (jax.random.uniform(jax.random.key(i), (2, *SHAPE)) for i in (1, 2))
    mix = jax.jit(model.mix)
    found = mix(state, x, y, key())
    assert found.shape == (2, 2, *SHAPE)  # two levels, two images
    generator = alae.model.build_networks(config, DATA.spec).networks["gen"]
    noise = [jnp.zeros((2, *shape)) for shape in alae_style.noise_shapes(SHAPE)]
    w_x, w_y = (model.encode(state, image, key()) for image in (x, y))
    for theirs, images in zip(((w_y, w_x), (w_x, w_y)), found, strict=True):
        styles = jnp.stack([theirs[0], theirs[0], theirs[1], theirs[1]], axis=1)
        wanted = generator.apply({"params": state.params["gen"]}, styles, *noise)
        np.testing.assert_allclose(images, jax.nn.sigmoid(wanted), atol=1e-5)
    back = model.decode(state, w_x, key())
    for images in mix(state, x, x, key()):
        np.testing.assert_allclose(images, back, atol=1e-5)


def test_dense_networks_have_no_styles_to_mix():
    assert alae.make(alae.Config(), DATA.spec).mix is None
