"""What models say of their images is so; like is compared with like; bits only where they are."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jaxae.data import Options, from_arrays
from jaxae.evaluation import assess_run, bits_offset, comparable, images_of, reconstruction
from jaxae.models import vaegan
from jaxae.training.state import Model

LEVELS = np.arange(17, dtype=np.uint8).repeat(4).reshape(17, 2, 2)


def levels_as(levels=17, **options):
    images = LEVELS % levels
    return from_arrays(images, None, images, None, Options(**options), levels=levels)


# variant -> the fields that decide whether pixels are drawn, and whether they are.
STATED = {
    "vae": ({}, False),
    "nvae": ({}, False),
    "acn": ({}, True),
    "acn made": ({"decoder": "made"}, True),
    "acn unique": ({}, False),
    "vqvae": ({}, False),
    "vqvae made": ({"decoder": "made", "widths": (16,)}, True),
}


@pytest.mark.parametrize("variant", STATED)
def test_draws_of_bits_are_bits_and_means_lie_between(variant):
    """Of every kind of decoder with a Bernoulli: the declaration against the pixels themselves."""
    fields, draws = STATED[variant]
    data = tiny.images(binarise="dynamic")
    model = tiny.make(variant.removesuffix(" made"), data, **fields)
    assert (model.draws, model.likelihood) == (draws, "bernoulli")
    state = jax.jit(model.init)(jax.random.key(0))
    code = jax.eval_shape(model.encode, state, jnp.zeros((2, 8, 8, 1)), jax.random.key(1))
    one, other = (
        np.asarray(jax.jit(model.decode)(state, jnp.ones(code.shape), jax.random.key(seed)))
        for seed in (1, 2)
    )
    drawn = np.asarray(jax.jit(model.sample, static_argnums=2)(state, jax.random.key(3), 2))
    for images in (one, drawn):
        assert np.isin(images, (0, 1)).all() == draws
        assert images.min() < images.max()
    assert (one != other).any() == draws


def test_generators_held_against_the_data_draw_and_decoders_of_squared_errors_do_not():
    data = tiny.images(binarise="dynamic")
    drawing = {name: tiny.make(name, data).draws for name in tiny.FIRST if name != "vqvae audio"}
    assert {name for name, draws in drawing.items() if draws} == {
        "acn", "alae", "ali", "gan", "iae", "vaegan",
    }  # fmt: skip
    assert tiny.make("vqvae audio", tiny.images()).draws
    for variant, draws in (("vae", False), ("vae_dis_l", False), ("gan", True)):
        config = vaegan.Config(variant=variant, widths=(4,))
        assert vaegan.make(config, data.spec).draws == draws


def test_what_a_models_images_are_compared_with():
    images = lambda model, data: images_of(comparable(model, data).test, 17)
    mean, draw = (Model(None, None, None, draws=draws) for draws in (False, True))
    bernoulli = draw._replace(likelihood="bernoulli")
    grey = LEVELS[..., None] / np.float32(16)
    bits, plain = levels_as(binarise="dynamic"), levels_as()
    np.testing.assert_allclose(images(mean, bits), grey, rtol=1e-6)
    np.testing.assert_array_equal(images(draw, bits), images_of(bits.test, 17))
    np.testing.assert_array_equal(images(bernoulli, bits), images_of(bits.test, 17))
    np.testing.assert_allclose(images(draw, plain), grey, rtol=1e-6)
    drawn = images(bernoulli, plain)
    assert np.isin(drawn, (0, 1)).all()
    np.testing.assert_array_equal(drawn, images_of(levels_as(binarise="fixed").test, 17))
    assert (drawn[grey == 1] == 1).all()
    assert (drawn[grey == 0] == 0).all()
    spread = levels_as(dequantise=True)
    np.testing.assert_array_equal(images(draw, spread), images_of(spread.test, 17))
    assert comparable(bernoulli, spread).spec.levels == 2
    assert np.isin(images(bernoulli, spread), (0, 1)).all()


def test_reconstructions_of_bits_are_held_against_their_own_kind():
    """A decoder that knows the grey levels, and one that gives the bits back: no error each."""
    bits = levels_as(binarise="dynamic")
    as_code = lambda state, x, rng: x.reshape(len(x), -1)
    back = lambda state, z, rng: z.reshape(-1, 2, 2, 1)
    model = Model(None, None, None, encode=as_code, decode=back)
    measured = lambda model: reconstruction(model, None, bits, batch_size=17, rng=jax.random.key(0))
    drawn = measured(model._replace(draws=True))
    assert (drawn["mse"], drawn["of"], drawn["against"]) == (0, "draw", "bits")
    # Of a pixel of level p: a bit against p has p (1 - p) on average, the half always 1/4 or so.
    grey, halves = LEVELS / 16.0, lambda state, z, rng: jnp.full((len(z), 2, 2, 1), 0.5)
    mean = measured(model._replace(decode=halves))
    assert (mean["of"], mean["against"]) == ("mean", "grey")
    assert mean["mse"] == pytest.approx(np.square(grey - 0.5).mean(), rel=1e-6)


@pytest.mark.parametrize(
    ("likelihood", "options", "bits"),
    [
        ("bernoulli", {"binarise": "dynamic"}, 0.0),
        ("bernoulli", {"levels": 2}, 0.0),
        ("bernoulli", {}, "levels between 0 and 1"),
        ("bernoulli", {"dequantise": True}, "levels between 0 and 1"),
        ("gaussian", {}, "not dequantised"),
        ("gaussian", {"binarise": "fixed"}, "not dequantised"),
        ("gaussian_learned", {"standardise": True}, "not dequantised"),
        ("gaussian", {"dequantise": True}, math.log2(17)),
        # (v + u) / 17 has variance (288 / 12 + 1 / 12) / 289 for v in 0..16.
        ("gaussian_learned", {"dequantise": True, "standardise": True},
         math.log2(17 * math.sqrt((288 / 12 + 1 / 12) / 289))),
        ("logistic_mixture", {}, 0.0),
        ("categorical", {}, 0.0),
        (None, {}, "states no likelihood"),
    ],
)  # fmt: skip
def test_bits_of_a_code_only_where_there_is_one(likelihood, options, bits):
    found, why = bits_offset(likelihood, levels_as(**options))
    if isinstance(bits, str):
        assert found is None
        assert bits in why
    else:
        assert found == pytest.approx(bits, abs=1e-5)
        assert why is None


@pytest.mark.parametrize(
    ("fields", "options", "given"),
    [
        ({}, {"binarise": "dynamic"}, True),
        ({}, {}, False),
        ({"likelihood": "gaussian"}, {"dequantise": True}, True),
        ({"likelihood": "gaussian"}, {}, False),
        ({"likelihood": "logistic_mixture", "mixtures": 2}, {}, True),
    ],
)
def test_a_vae_is_told_in_bits_per_dimension_only_where_these_are_a_code(fields, options, given):
    data = tiny.images(**options)
    model = tiny.make("vae", data, **fields)
    state = jax.jit(model.init)(jax.random.key(0))
    found = assess_run(
        model._replace(encode=None), state, None, data, rng=jax.random.key(0), batch_size=11,
        iwae_samples=1, images=0,
    )["likelihood"]  # fmt: skip
    assert ("elbo_bits_per_dim" in found, "iwae_bits_per_dim" in found) == (given, given)
    assert ("why_no_bits_per_dim" in found) != given
    if given:
        offset = math.log2(17) if "dequantise" in options else 0
        expected = offset - found["elbo_nats"] / 64 / math.log(2)
        assert found["elbo_bits_per_dim"] == pytest.approx(expected, rel=1e-4)
