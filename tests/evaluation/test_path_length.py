"""Perceptual path length against its closed form for linear and for circular generators."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxae.evaluation import perceptual_path_length

MIXER = np.float32([[2.0, 0.0, 0.5], [0.0, 1.0, -1.0]])  # G(w) = A w
DEVIATIONS = np.float32([1.0, 0.5, 2.0])
squared = lambda x, y: jnp.sum(jnp.square(x - y), axis=-1)


def draw(rng, n):
    return jax.random.normal(rng, (n, 3)) * DEVIATIONS[None]


@pytest.mark.parametrize(("at", "step"), [("full", 0.01), ("full", 0.1), ("end", 0.05)])
def test_a_linear_generator_has_twice_the_trace(at, step):
    """E |A (w - w')|^2 = 2 tr(A Cov A'), for every step and place."""
    found = perceptual_path_length(
        draw, lambda w, rng: w @ MIXER.T, squared, jax.random.key(0), pairs=20_000, at=at,
        step=step, trim=0.0, batch_size=5000,
    )  # fmt: skip
    covariance = 2 * MIXER @ np.diag(DEVIATIONS**2) @ MIXER.T
    # |.|^2 of a normal vector with this covariance has the variance 2 tr(covariance^2).
    error = np.sqrt(2 * np.trace(covariance @ covariance) / 20_000)
    assert abs(found - np.trace(covariance)) < 5 * error


def test_extremes_are_trimmed_and_noise_is_the_same_on_both_sides():
    """Distances 1 .. 100, of which the largest two are absurd."""
    values = jnp.arange(1.0, 101.0).at[98:].set(1e9)
    synthesise = lambda w, rng: w + 100 * jax.random.normal(rng, w.shape)
    seen = []

    def distance(x, y):
        seen.append(jnp.max(jnp.abs(x - y)))
        return values

    found = perceptual_path_length(
        draw, synthesise, distance, jax.random.key(0), pairs=100, step=0.5, trim=0.02,
        batch_size=100,
    )  # fmt: skip
    assert found == pytest.approx(4 * np.mean(np.arange(3, 99)))
    assert max(seen) < 50  # of the codes alone; noise would be hundreds apart


def test_on_the_sphere_steps_are_shares_of_the_angle():
    """G(z) = z, orthogonal ends: each step of t moves by an angle of t pi / 2."""
    ends = [jnp.float32([[3.0, 0.0]]), jnp.float32([[0.0, 0.1]])]
    found = perceptual_path_length(
        lambda rng, n: ends.pop(0), lambda z, rng: z, squared, jax.random.key(0), pairs=1, at="end",
        path="sphere", step=0.5, trim=0.0, batch_size=1,
    )  # fmt: skip
    chord = 2 * np.sin(np.pi / 8)
    assert found == pytest.approx(chord**2 / 0.25, rel=1e-5)


@pytest.mark.parametrize("wrong", [{"pairs": 0}, {"step": 0.0}, {"trim": 0.5}])
def test_what_cannot_be_measured_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        perceptual_path_length(draw, lambda w, rng: w, squared, jax.random.key(0), **wrong)


def constant(*codes):
    """A draw whose ends are these codes, the left one and the right one, over and over."""

    def draw(rng, n):
        return jnp.where(jax.random.bernoulli(rng, 0.5, (n, 1)), *(
            jnp.float32(code)[None] for code in codes
        ))  # fmt: skip

    return draw


@pytest.mark.parametrize("path", ["line", "sphere"])
def test_equal_codes_and_constant_images_have_no_length(path):
    measured = lambda draw, synthesise: perceptual_path_length(
        draw, synthesise, squared, jax.random.key(0), pairs=20, path=path, batch_size=20, step=0.1
    )  # fmt: skip
    assert measured(constant([3.0, 4.0], [3.0, 4.0]), lambda w, rng: w) == pytest.approx(
        0, abs=1e-9
    )
    assert measured(draw, lambda w, rng: jnp.zeros((len(w), 2))) == 0


def test_codes_between_which_there_is_no_one_arc_are_refused():
    """Codes of one number with both signs; zeros. On a line they have a length."""
    for codes in (([1.0], [-2.0]), ([0.0, 0.0], [1.0, 0.0])):
        ask = lambda path, codes=codes: perceptual_path_length(
            constant(*codes), lambda w, rng: w, squared, jax.random.key(0), pairs=50, path=path,
            batch_size=50, trim=0.0, step=0.1,
        )  # fmt: skip
        with pytest.raises(ValueError, match="opposite codes or a code of zeros; use path=line"):
            ask("sphere")
        assert np.isfinite(ask("line"))


def test_a_second_call_compiles_nothing(compilations):
    synthesise = lambda w, rng: jnp.tanh(w)
    ask = lambda seed: perceptual_path_length(
        draw, synthesise, squared, jax.random.key(seed), pairs=8, batch_size=8
    )  # fmt: skip
    ask(0)
    assert compilations(lambda: ask(1)) == 0
