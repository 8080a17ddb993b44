"""The lines metrics against closed forms and numbers that the official definitions give."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA

from jaxae.data import Options, from_arrays, line_angles, render_lines
from jaxae.evaluation import interpolate, line_scores, score_interpolations, summarise
from jaxae.training.state import Model

ANGLES = 2 * np.pi * np.arange(10_000) / 10_000
MIX = np.linspace(0, 1, 16)
START, END = 5 * np.pi / 7, 3 * np.pi / 2  # the pair of the paper's figure
PAIRS = 64


@pytest.fixture(scope="module")
def reference():
    return render_lines(ANGLES)


@pytest.fixture(scope="module")
def scored(reference):
    return lambda decoded: summarise(score_interpolations(decoded, reference, ANGLES))


def mixed(left, right):
    share = MIX[None, :, None, None]
    return (1 - share) * left[:, None] + share * right[:, None]


def swept(left, right):
    """Lines at evenly spaced angles."""
    angles = left[:, None] + (right - left)[:, None] * MIX
    return render_lines(angles.reshape(-1)).reshape(*angles.shape, 32, 32)


def test_the_pair_of_the_paper(scored):
    left, right = np.array([START]), np.array([END])
    ends = render_lines(left), render_lines(right)
    pixels = scored(mixed(*ends))
    assert pixels["mean_distance"] == pytest.approx(7.2174e-3, rel=0.01)
    assert pixels["official_smoothness"] == pytest.approx(0.9209, abs=0.005)
    even = scored(swept(left, right))
    assert even["mean_distance"] < 1e-6
    assert even["smoothness"] < 1e-3
    long_way = scored(swept(left, right - 2 * np.pi))
    assert long_way["mean_distance"] < 1e-6
    assert long_way["smoothness"] < 1e-3
    abrupt = scored(np.stack([ends[0]] * 8 + [ends[1]] * 8, axis=1))
    assert abrupt["smoothness"] == pytest.approx(14 / 15, abs=1e-9)


def test_random_pairs(scored):
    left, right = np.split(line_angles(2 * PAIRS, seed=11), 2)
    shortest = left + (right - left + np.pi) % (2 * np.pi) - np.pi
    oracle = scored(swept(left, shortest))
    assert oracle["mean_distance"] < 1e-6
    assert oracle["smoothness"] < 2e-3
    pixels = scored(mixed(render_lines(left), render_lines(right)))
    assert pixels["mean_distance"] == pytest.approx(6.33e-3, rel=0.1)
    assert pixels["smoothness"] == pytest.approx(0.893, abs=0.02)
    assert pixels["undefined"] == 0


def test_a_constant_output_has_no_smoothness(reference, scored):
    lines = render_lines(line_angles(5, seed=2))
    found = scored(np.repeat(lines[:, None], 16, axis=1))
    assert found["mean_distance"] < 1e-6
    assert np.isnan(found["smoothness"])
    assert np.isnan(found["official_smoothness"])
    assert (found["undefined"], found["interpolations"]) == (5, 5)
    empty = scored(np.full((3, 16, 32, 32), -1.0))
    assert empty["undefined"] == 3
    assert empty["mean_distance"] == pytest.approx(30.7e-3, abs=0.3e-3)
    average = scored(np.broadcast_to(reference.mean(0), (3, 16, 32, 32)))
    assert average["mean_distance"] == pytest.approx(29.6e-3, abs=0.3e-3)


def test_what_has_no_score_counts_as_perfect_in_the_official_one(scored):
    ends = render_lines(np.array([0.3])), render_lines(np.array([2.0]))
    abrupt = np.stack([ends[0]] * 8 + [ends[1]] * 8, axis=1)
    constant = np.repeat(ends[0][:, None], 16, axis=1)
    found = scored(np.concatenate([abrupt, constant, constant, constant]))
    assert found["official_smoothness"] == pytest.approx(14 / 15 / 4)
    assert found["smoothness"] == pytest.approx(14 / 15)
    assert (found["undefined"], found["interpolations"]) == (3, 4)


def test_noise_and_contrast(scored):
    left, right = np.array([START]), np.array([END])
    lines = swept(left, right)
    noisy = lines + np.random.default_rng(0).normal(0, 0.05, lines.shape)
    assert scored(noisy)["mean_distance"] == pytest.approx(1.27e-3, abs=0.05e-3)
    pale = (lines + 1) * 0.9 - 1
    assert scored(pale)["mean_distance"] == pytest.approx(0.45e-3, abs=0.1e-3)


def by_the_definition(decoded, reference, angles):
    """One interpolation, image by image."""
    distances, found = [], []
    for image in decoded:
        cosines = [
            1 - np.vdot(image, line) / np.linalg.norm(image) / np.linalg.norm(line)
            for line in reference
        ]
        distances.append(min(cosines))
        found.append(angles[int(np.argmin(cosines))])
    for n in range(1, len(found)):
        while found[n] - found[n - 1] > np.pi:
            found[n] -= 2 * np.pi
        while found[n] - found[n - 1] < -np.pi:
            found[n] += 2 * np.pi
    steps = [abs(b - a) for a, b in itertools.pairwise(found)]
    whole = abs(found[-1] - found[0])
    return distances, max(steps) / whole - 1 / (len(found) - 1) if whole >= 1e-4 else np.nan


def test_any_image_by_the_definition():
    rng = np.random.default_rng(5)
    angles = 2 * np.pi * np.arange(24) / 24
    reference = rng.normal(size=(24, 4, 3))
    decoded = rng.normal(size=(7, 5, 4, 3))
    found = score_interpolations(decoded, reference, angles)
    for pair in range(7):
        distances, smoothness = by_the_definition(decoded[pair], reference, angles)
        np.testing.assert_allclose(found.distance[pair], distances, rtol=1e-12)
        np.testing.assert_allclose(found.smoothness[pair], smoothness, rtol=1e-12)


def test_a_linear_autoencoder_decodes_mixtures_to_mixtures(reference, scored):
    """PCA with 64 components scores exactly as the mixture of what it makes of the ends."""
    lines = render_lines(line_angles(2 * PAIRS, seed=1))
    pca = PCA(64, random_state=0).fit(reference[::5].reshape(2000, -1))
    mean, axes = (jnp.asarray(a, jnp.float32) for a in (pca.mean_, pca.components_))

    def encode(state, x, rng):
        return (2 * x.reshape(x.shape[0], -1) - 1 - mean[None]) @ axes.T

    def decode(state, z, rng):
        return (z @ axes + mean[None]).reshape(-1, 32, 32, 1) / 2 + 0.5

    images = np.float32((lines[..., None] + 1) / 2)
    data = from_arrays(images, None, images, None, Options(), levels=0)
    model = Model(None, None, None, encode=encode, decode=decode)
    found = line_scores(model, None, data.test, reference, ANGLES, jax.random.key(0), pairs=PAIRS)
    seen = pca.inverse_transform(pca.transform(lines.reshape(2 * PAIRS, -1))).reshape(-1, 32, 32)
    wanted = scored(mixed(seen[:PAIRS], seen[PAIRS:]))
    for name in ("mean_distance", "smoothness"):
        assert found[name] == pytest.approx(wanted[name], rel=2e-3), name
    # What 64 components leave out, a squared error of 0.0011, comes on top of 6.3e-3.
    assert 6.3e-3 < found["mean_distance"] < 7.3e-3
    assert found["smoothness"] == pytest.approx(0.89, abs=0.03)
    with pytest.raises(ValueError, match="pairs=65 needs 130 images"):
        line_scores(model, None, data.test, reference, ANGLES, jax.random.key(0), pairs=65)


def test_interpolations_run_from_left_to_right():
    model = Model(None, None, None, encode=lambda s, x, r: x.reshape(x.shape[0], -1),
                  decode=lambda s, z, r: z.reshape(-1, 2, 1, 1))  # fmt: skip
    left, right = np.zeros((1, 2, 1, 1)), np.array([4.0, 8.0]).reshape(1, 2, 1, 1)
    found = interpolate(model, None, left, right, jax.random.key(0), mixtures=5)
    np.testing.assert_allclose(found[0, :, 0, 0, 0], [0, 1, 2, 3, 4])
    np.testing.assert_allclose(found[0, :, 1, 0, 0], [0, 2, 4, 6, 8])
    with pytest.raises(ValueError, match="must have encode and decode"):
        interpolate(model._replace(decode=None), None, left, right, jax.random.key(0))


def test_what_cannot_be_scored_is_refused():
    lines, angles = np.ones((6, 4)), np.arange(6)
    with pytest.raises(ValueError, match="angles"):
        score_interpolations(np.ones((2, 3, 5)), lines, angles)
    with pytest.raises(ValueError, match="at least 2"):
        score_interpolations(np.ones((2, 1, 4)), lines, angles)
    with pytest.raises(ValueError, match="NaN"):
        score_interpolations(np.full((2, 3, 4), np.nan), lines, angles)
