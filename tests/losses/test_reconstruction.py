"""Reconstruction losses: values by hand, and the logistic mixture as a distribution."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxae import losses

LOGITS = np.float32([0.1, -0.4, 0.8, 0.3])


def grid(levels):
    return (np.arange(levels) / (levels - 1)).astype(np.float32)


nll_of_pixels = jax.jit(
    lambda params, x, levels: losses.logistic_mixture_nll(params, x, levels, event_ndim=1),
    static_argnums=2,
)


draw = jax.jit(losses.logistic_mixture_sample, static_argnums=(2, 3))


def total_mass(params, levels, channels):
    """Sum of the probabilities of all values of one pixel."""
    every = np.array(list(itertools.product(grid(levels), repeat=channels)), np.float32)
    params = np.broadcast_to(np.float32(params), (len(every), len(params)))
    nll = nll_of_pixels(params, every, levels)
    return np.exp(-np.float64(nll)).sum()


def test_values_by_hand():
    one = np.ones((1, 2), np.float32)
    undecided = losses.bernoulli_nll(0 * one, one, event_ndim=1)
    np.testing.assert_allclose(undecided, [2 * math.log(2)], rtol=1e-6)
    # Odds of 3 to 1: the likely outcome costs ln 4/3, the other ln 4.
    logits = np.float32([[math.log(3), math.log(3)]])
    np.testing.assert_allclose(
        losses.bernoulli_nll(logits, np.float32([[1, 0]]), event_ndim=1),
        [math.log(4 / 3) + math.log(4)],
        rtol=1e-6,
    )
    np.testing.assert_allclose(losses.half_squared_error(one, -2 * one, event_ndim=1), [9.0])
    np.testing.assert_allclose(
        losses.gaussian_nll(one, -one, math.log(2), event_ndim=1),
        [2 * (0.5 + math.log(2) + 0.5 * math.log(2 * math.pi))],
        rtol=1e-6,
    )


def test_a_certain_prediction_has_zero_nll_if_right_and_its_logit_if_wrong():
    logits, targets = np.float32([1e4, -1e4, 1e4, 30]), np.float32([1, 0, 0, 1])
    nll = losses.bernoulli_nll(logits, targets, event_ndim=0)
    np.testing.assert_allclose(nll, [0, 0, 1e4, math.exp(-30)], rtol=1e-6)


def test_event_ndim_says_which_axes_are_summed():
    x, mean = np.zeros((4, 3, 2, 5), np.float32), np.ones((4, 3, 2, 5), np.float32)
    for event_ndim, size in ((0, 1), (1, 5), (2, 10), (3, 30), (4, 120)):
        error = losses.half_squared_error(x, mean, event_ndim)
        np.testing.assert_array_equal(error, np.full(x.shape[: 4 - event_ndim], size / 2))
    with pytest.raises(ValueError, match="event_ndim"):
        losses.half_squared_error(x[0, 0], mean[0, 0])


@pytest.mark.parametrize("levels", [2, 3, 17, 32, 256])
def test_mass_of_a_logistic_sums_to_one_whatever_its_centre_and_scale(levels):
    # The edge cases of papers that take 254 of 255 for the edge, and extremes of either sign.
    settings = [(0, -3), (0.9, -2), (0.99, -4), (0.95, -1), (-1.2, -2), (0, -7), (0, 0)]
    settings += itertools.product([-1e4, -1, 0.3, 1, 1e4], [-1e4, -7, 3, 7, 1e4])
    for centre, log_scale in settings:
        assert abs(total_mass([0, centre, log_scale], levels, 1) - 1) < 1e-5, (centre, log_scale)


@pytest.mark.parametrize(("levels", "channels"), [(2, 3), (4, 3), (3, 4), (16, 2)])
def test_mass_of_coloured_mixtures_sums_to_one(levels, channels):
    generator = np.random.default_rng(levels)
    for spread in (1, 5):
        params = spread * generator.normal(size=losses.logistic_mixture_width(channels, 3))
        assert abs(total_mass(params, levels, channels) - 1) < 1e-5


def test_extremes_of_any_signs_have_a_finite_gradient():
    generator = np.random.default_rng(5)
    signs = generator.choice(np.float32([-1, 1]), size=(200, 20))
    x = grid(256)[generator.choice([0, 1, 128, 254, 255], size=(200, 3))]
    value_and_grad = jax.jit(jax.value_and_grad(lambda p: jnp.sum(nll_of_pixels(p, x, 256))))
    for size in (1e4, 30.0):
        value, gradient = value_and_grad(size * signs)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def test_log_scales_are_clipped():
    x, at = np.float32([[0.5]]), lambda log_scale: jnp.array([[0.0, 0.1, log_scale]])
    for beyond, bound in ((-9.0, -7.0), (9.0, 7.0)):
        loss = jax.jit(jax.value_and_grad(lambda p: nll_of_pixels(p, x, 256)[0]))
        value, gradient = loss(at(beyond))
        assert value == loss(at(bound))[0] != loss(at(0.99 * bound))[0]
        assert gradient[0, 2] == 0.0


def test_width_is_a_hundred_for_ten_colour_components():
    assert losses.logistic_mixture_width(3, 10) == 100
    assert losses.logistic_mixture_width(1, 1) == 3


def test_far_tails_keep_their_digits():
    # sigmoid(u) - sigmoid(l) -> exp(-l) - exp(-u) far above the centre, and mirrored below it.
    centre, scale, half, x = -40.0, math.exp(-1), 1 / 255, grid(256)[1:-1]
    y = 2 * np.float64(x) - 1
    tail = (y - centre) / scale - math.log(2 * math.sinh(half / scale))
    for sign, pixels in ((1, x), (-1, 1 - x)):
        params = np.tile(np.float32([0, sign * centre, -1]), (len(x), 1))
        nll = nll_of_pixels(params, pixels[:, None], 256)
        np.testing.assert_allclose(nll, tail, rtol=1e-6)


def test_colour_couplings_by_hand():
    # One component; green's centre moves with red, blue's with red and green.
    red, green, blue = np.float32([1.0, 0.5, 0.0])
    a, b, c = np.arctanh([0.5, -0.25, 0.75])
    params = np.float32([[0, 0.1, 0.2, 0.3, -1, -2, 0, a, b, c]])
    centres = [0.1, 0.2 + 0.5 * 1, 0.3 - 0.25 * 1 + 0.75 * 0]
    scales = np.exp([-1, -2, 0])
    cdf = lambda y, i: stats.logistic.cdf(y, centres[i], scales[i])
    mass = (1 - cdf(0.5, 0)) * (cdf(0.5, 1) - cdf(-0.5, 1)) * cdf(-0.5, 2)
    nll = nll_of_pixels(params, np.array([[red, green, blue]]), 3)
    np.testing.assert_allclose(nll, [-math.log(mass)], rtol=1e-5)
    # The mean replaces the earlier channels by their centres: 0.1, 0.25, 0.3 - 0.025 + 0.1875.
    np.testing.assert_allclose(
        jax.jit(losses.logistic_mixture_mean, static_argnums=1)(params, 3),
        [[(0.1 + 1) / 2, (0.25 + 1) / 2, (0.4625 + 1) / 2]],
        rtol=1e-6,
    )


def test_mean_weighs_components_and_stays_in_range():
    # Weights 3/4 and 1/4; the second centre is far outside and counts as the range's end.
    params = np.float32([[math.log(3), 0, -0.5, 40, 0, 0]])
    np.testing.assert_allclose(
        losses.logistic_mixture_mean(params, 1), [[(0.75 * -0.5 + 0.25 * 1 + 1) / 2]], rtol=1e-6
    )


def test_the_nll_of_an_image_is_the_sum_over_its_pixels():
    generator = np.random.default_rng(1)
    params = generator.normal(size=(2, 3, 4, 20)).astype(np.float32)
    x = (generator.integers(0, 8, size=(2, 3, 4, 3)) / 7).astype(np.float32)
    pixels = nll_of_pixels(params, x, 8)
    assert pixels.shape == (2, 3, 4)
    np.testing.assert_allclose(
        jax.jit(losses.logistic_mixture_nll, static_argnums=2)(params, x, 8),
        np.sum(pixels, axis=(1, 2)),
        rtol=1e-5,
    )


@pytest.mark.parametrize(("levels", "channels"), [(3, 3), (7, 1)])
def test_samples_have_the_enumerated_frequencies(levels, channels):
    generator, n = np.random.default_rng(2), 100_000
    params = generator.normal(size=losses.logistic_mixture_width(channels, 2)).astype(np.float32)
    many = jnp.broadcast_to(params, (n, params.size))
    sample = np.asarray(draw(many, jax.random.key(0), channels, levels))
    assert sample.shape == (n, channels)
    index = np.round(sample * (levels - 1)).astype(int)
    np.testing.assert_allclose(sample, grid(levels)[index], rtol=1e-6)

    every = np.array(list(itertools.product(range(levels), repeat=channels)))
    nll = nll_of_pixels(many[: len(every)], (every / (levels - 1)).astype(np.float32), levels)
    p = np.exp(-np.float64(nll))
    code = index @ levels ** np.arange(channels)[::-1]
    frequencies = np.bincount(code, minlength=len(every)) / n
    assert np.all(np.abs(frequencies - p) < 5 * np.sqrt(p * (1 - p) / n) + 1 / n)


def test_samples_of_extreme_parameters_are_on_the_grid():
    width = losses.logistic_mixture_width(3, 2)
    for fill, key in zip((-1e4, 1e4), jax.random.split(jax.random.key(1)), strict=True):
        sample = draw(jnp.full((4, width), fill), key, 3, 256)
        assert np.isin(np.asarray(sample), grid(256)).all()


def test_misused_logistic_mixtures_are_refused():
    x, params = np.zeros((2, 3), np.float32), np.zeros((2, 20), np.float32)
    with pytest.raises(ValueError, match="params must have a multiple of 10"):
        losses.logistic_mixture_nll(params[:, :19], x, 4, event_ndim=1)
    with pytest.raises(ValueError, match="levels"):
        losses.logistic_mixture_nll(params, x, 1, event_ndim=1)
    with pytest.raises(ValueError, match="event_ndim"):
        losses.logistic_mixture_nll(params, x, 4)
    with pytest.raises(ValueError, match="event_ndim"):
        losses.logistic_mixture_nll(params, x, 4, event_ndim=0)
    with pytest.raises(ValueError, match="params"):
        losses.logistic_mixture_mean(params, 3 + 1)
    with pytest.raises(TypeError, match="params"):
        losses.logistic_mixture_sample(params.astype(int), jax.random.key(0), 3, 4)


@pytest.mark.parametrize("log_scale", [-43.0, -44.5, -50.0, -100.0, -1e4])
def test_a_pixel_that_never_changes_may_have_any_scale(log_scale):
    x, wanted = jnp.float32([0.3]), log_scale + 0.5 * math.log(2 * math.pi)
    nll = jax.value_and_grad(
        lambda x, mean, s: losses.gaussian_nll(x, mean, s, 1), argnums=(0, 1, 2)
    )
    for scale in (jnp.float32(log_scale), jnp.float32([log_scale])):
        for via in (nll, jax.jit(nll)):
            value, (of_x, of_mean, of_scale) = via(x, x, scale)
            np.testing.assert_allclose(value, wanted, rtol=1e-6)
            assert not of_x.any()
            assert not of_mean.any()
            np.testing.assert_array_equal(of_scale, np.ones_like(scale))
    # A number that the compiler knows.
    known = jax.jit(lambda x: losses.gaussian_nll(x, x, log_scale, 1))
    np.testing.assert_allclose(known(x), wanted, rtol=1e-6)


def test_single_precision_may_stand_beside_a_number_of_double():
    x = np.float32([0.3])
    jax.config.update("jax_enable_x64", True)
    try:
        nll = losses.gaussian_nll(x, x, -100.0, 1)
    finally:
        jax.config.update("jax_enable_x64", False)
    assert nll.dtype == np.float32
    np.testing.assert_allclose(nll, -100 + 0.5 * math.log(2 * math.pi), rtol=1e-6)


def test_a_certain_prediction_has_zero_nll_if_right():
    logits, targets = jnp.float32([np.inf, -np.inf, 0.0]), jnp.float32([1, 0, 1])
    nll = jax.value_and_grad(lambda logits: losses.bernoulli_nll(logits, targets, 1))
    value, gradient = nll(logits)
    np.testing.assert_allclose(value, math.log(2), rtol=1e-6)
    np.testing.assert_array_equal(gradient, [0, 0, -0.5])
    np.testing.assert_array_equal(losses.bernoulli_nll(logits, 1 - targets, 0)[:2], [np.inf] * 2)


def test_what_lies_between_levels_is_the_nearest():
    x, nearest = np.float32([[0.16], [0.17], [0.9]]), np.float32([[0], [1 / 3], [1]])
    params, logits = np.tile(np.float32([0, 0.2, -1]), (3, 1)), np.tile(LOGITS, (3, 1, 1))
    for found, wanted in (
        (nll_of_pixels(params, x, 4), nll_of_pixels(params, nearest, 4)),
        (losses.categorical_nll(logits, x, 1), losses.categorical_nll(logits, nearest, 1)),
    ):
        np.testing.assert_array_equal(found, wanted)
        assert len(set(np.asarray(found).tolist())) == 3


def test_samples_of_half_precision_are_on_the_grid():
    params = jnp.zeros((50, losses.logistic_mixture_width(1, 2)), jnp.bfloat16)
    levels = 255 * np.asarray(draw(params, jax.random.key(4), 1, 256))
    assert np.abs(levels - np.rint(levels)).max() < 1e-4  # bfloat16 is off by up to 1/2


def test_the_mean_of_a_mixture_stays_on_the_grids_range():
    """Centres far outside: the mean is an end of [0, 1], whichever."""
    for centre, end in ((-7.0, 0.0), (7.0, 1.0)):
        params = jnp.float32([0.0, centre, -3.0])  # one component: logit, centre, log-scale
        np.testing.assert_allclose(losses.logistic_mixture_mean(params, 1), [end], atol=1e-6)
