"""Figures: pixels where they should be, the same bytes for the same key."""

import io

import jax
import matplotlib.colors
import numpy as np
import pytest
from PIL import Image

from jaxae.data import Options, from_arrays
from jaxae.evaluation import (
    draw_all,
    draw_daydream,
    draw_interpolations,
    draw_latent_scatter,
    draw_mixtures,
    draw_reconstructions,
    draw_restorations,
    draw_samples,
    draw_training_curves,
    image_grid,
)
from jaxae.evaluation.canvas import PARTS, waveforms
from jaxae.evaluation.plots import _principal
from jaxae.training.state import Model

RECORDS = [
    {"step": 10, "train/loss": 300.0, "train/rate": 1.0, "seconds": 1.0, "steps_per_s": 9.0},
    {"step": 20, "train/loss": 20.0, "train/rate": 2.0, "seconds": 2.0, "steps_per_s": 9.0},
    {"step": 20, "test/loss": 21.0, "test/loss_se": 0.1},
    {"step": 30, "train/loss": 15.0, "train/rate": 3.0, "seconds": 3.0, "steps_per_s": 9.0},
]


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_grid_puts_each_pixel_where_it_belongs(tmp_path):
    images = np.linspace(0, 1, 3 * 4 * 4).reshape(3, 4, 4, 1)
    path = image_grid(images, 2, tmp_path / "g.png", title="Three")
    seen = pixels(path)
    # 84 / 4 = 21 screen pixels for each; margin 24, title 30, gap 4.
    assert seen.shape == (24 + 30 + 2 * 84 + 4 + 24, 24 + 2 * 84 + 4 + 24, 3)
    for number, (row, column) in enumerate([(0, 0), (0, 1), (1, 0)]):
        y, x = 54 + 88 * row, 24 + 88 * column
        tile = seen[y : y + 84, x : x + 84]
        expected = np.rint(255 * images[number, :, :, 0]).repeat(21, 0).repeat(21, 1)
        np.testing.assert_array_equal(tile, np.repeat(expected[..., None], 3, -1))
    assert (seen[54 + 88 + 10, 24 + 88 + 10] == 255).all()  # nothing in the fourth place


def test_signals_are_drawn_as_curves():
    """168 samples, two for each column: a ramp is a diagonal, black between the two values."""
    ramp = np.repeat(np.linspace(0, 1, 48), 4)[None, None, :168, None]
    found = waveforms(ramp)
    assert found.shape == (1, 48, 84, 1)
    np.testing.assert_array_equal(np.argmin(found[0, :, :, 0], axis=0), 47 - np.arange(84) // 2)
    np.testing.assert_array_equal((found[0, :, :, 0] == 0).sum(axis=0), 1)
    jump = np.tile([0.0, 1.0], 84)[None, None, :, None]
    np.testing.assert_array_equal(waveforms(jump), np.zeros((1, 48, 84, 1)))


def test_grid_shows_colours_and_clips(tmp_path):
    images = np.zeros((1, 1, 1, 3)) + np.array([2.0, -1.0, 0.5])
    seen = pixels(image_grid(images, 1, tmp_path / "c.png", title="x"))
    np.testing.assert_array_equal(seen[60, 30], [255, 0, 128])
    wider = image_grid(images, 1, tmp_path / "d.png", title="x", value_range=(-1.0, 3.0))
    np.testing.assert_array_equal(pixels(wider)[54 + 24 + 10, 30], [191, 0, 96])


def test_restorations_show_image_damage_and_repair(tmp_path):
    """One pixel an image: as it is, darkened and clipped, made white."""
    images = np.array([0.2, 1.0], np.float32).reshape(2, 1, 1, 1)
    restore = lambda state, x, rng: (2 * x - 1, 0 * x + 1)
    model = Model(None, None, None, restore=restore)
    path = draw_restorations(model, None, images, tmp_path / "r.png", jax.random.key(0))
    wanted = np.array([[51, 255], [0, 255], [255, 255]])  # by rows; columns are the two images
    rows = [[images[0], images[1]], [0 * images[0], images[1]], [images[0] * 0 + 1] * 2]
    grid = np.array(rows).reshape(6, 1, 1, 1)
    np.testing.assert_array_equal(np.rint(255 * grid).reshape(3, 2), wanted)
    same = image_grid(
        grid, 2, tmp_path / "g.png", title="Restorations",
        note="triples of rows: test images, corrupted, and restored by the model",
        row_labels=["image", "corrupted", "restored"], row_gap_every=3,
    )  # fmt: skip
    np.testing.assert_array_equal(pixels(path), pixels(same))


def test_mixtures_stand_where_their_two_images_cross(tmp_path):
    """One pixel an image: coarse gives x + y, fine gives x y."""
    x = np.array([0.2, 0.4], np.float32).reshape(2, 1, 1, 1)
    y = np.array([0.0, 0.2, 0.6], np.float32).reshape(3, 1, 1, 1)
    mix = lambda state, x, y, rng: jax.numpy.stack([x + y, x * y])
    model = Model(None, None, None, mix=mix)
    path = draw_mixtures(model, None, x, y, tmp_path / "m.png", jax.random.key(0))
    rows = [[1.0, 0.0, 0.2, 0.6]]
    for how in (np.add, np.multiply):
        rows += [[left, *(how(left, top) for top in (0.0, 0.2, 0.6))] for left in (0.2, 0.4)]
    same = image_grid(
        np.float32(rows).reshape(-1, 1, 1, 1), 4, tmp_path / "g.png", title="Style mixing",
        note="the image at the left, with the named part of its code from the image at the top",
        row_labels=["", "coarse", "coarse", "fine", "fine"], column_gaps=(0,),
    )  # fmt: skip
    np.testing.assert_array_equal(pixels(path), pixels(same))


def test_the_same_key_draws_the_same_bytes(linear, tmp_path):
    model, state = linear.model, linear.exact
    images = np.asarray(next(iter(linear.data.test.examples(20)))[0]["image"])
    draw = {
        "samples": lambda path, key: draw_samples(model, state, path, key, count=10),
        "back": lambda path, key: draw_reconstructions(model, state, images, path, key),
        "mix": lambda path, key: draw_interpolations(
            model, state, images[:2], images[2:4], path, key
        ),
        "dream": lambda path, key: draw_daydream(model, state, images[:3], path, key, links=4),
    }
    for name, function in draw.items():
        first = function(tmp_path / f"{name}1.png", jax.random.key(1)).read_bytes()
        again = function(tmp_path / f"{name}2.png", jax.random.key(1)).read_bytes()
        assert first == again
        assert pixels(io.BytesIO(first)).std() > 10
        other = function(tmp_path / f"{name}3.png", jax.random.key(2)).read_bytes()
        # Codes and decoded means of this model need no key.
        assert (first != other) == (name in ("samples", "dream"))


def test_interpolation_ends_at_the_reconstructions(tmp_path):
    """A decoder that copies the code: the strip runs linearly from one image to the other."""
    model = Model(None, None, None, encode=lambda s, x, r: x.reshape(-1, 1),
                  decode=lambda s, z, r: z.reshape(-1, 1, 1, 1))  # fmt: skip
    left, right = np.zeros((1, 1, 1, 1)), np.ones((1, 1, 1, 1))
    path = draw_interpolations(model, None, left, right, tmp_path / "i.png", jax.random.key(0),
                               mixtures=3)  # fmt: skip
    seen = pixels(path)[-40, :, 0]
    shades = [seen[x] for x in (30, 24 + 100 + 6, 24 + 188 + 6, 24 + 276 + 6, 24 + 376 + 6)]
    assert shades == [0, 0, 128, 255, 255]


def test_principal_components_are_those_of_the_covariance():
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(500, 3)) * [1.0, 5.0, 2.0]
    points, share = _principal(codes)
    spectrum = np.sort(np.linalg.eigvalsh(np.cov(codes.T)))[::-1]
    np.testing.assert_allclose(points.var(axis=0, ddof=1), spectrum[:2], rtol=1e-9)
    np.testing.assert_allclose(share, spectrum[:2] / spectrum.sum(), rtol=1e-9)
    assert np.corrcoef(points[:, 0], codes[:, 1])[0, 1] > 0.99  # the largest entry is positive


@pytest.mark.parametrize("labels", [None, np.arange(40) % 3, np.arange(40) % 20])
@pytest.mark.parametrize("size", [2, 5])
def test_scatter(tmp_path, labels, size):
    codes = np.random.default_rng(0).normal(size=(40, size))
    seen = pixels(draw_latent_scatter(codes, labels, tmp_path / "s.png"))
    assert seen.shape == (720, 720, 3)
    assert len(np.unique(seen.reshape(-1, 3), axis=0)) > 50
    if labels is not None:
        names = [f"class {i}" for i in range(max(labels) + 1)]
        named = pixels(draw_latent_scatter(codes, labels, tmp_path / "n.png", names))
        assert (named != seen).any()
    with pytest.raises(ValueError, match="two dimensions"):
        draw_latent_scatter(codes[:, :1], labels, tmp_path / "no.png")


def test_training_curves_of_one_seed_and_of_two(tmp_path):
    one = draw_training_curves(RECORDS, tmp_path / "one.png", {"loss": "nats"})
    assert pixels(one).shape == (340, 710, 3)  # two panels: loss and rate
    double = [{k: v if k == "step" else [v, 1.1 * v] for k, v in r.items()} for r in RECORDS]
    two = draw_training_curves(double, tmp_path / "two.png")
    assert one.read_bytes() != two.read_bytes()
    other = [{k.replace("test/", "validation/"): v for k, v in r.items()} for r in RECORDS]
    held = draw_training_curves(other, tmp_path / "held.png", {"loss": "nats"})
    for path, colour in ((one, PARTS["test"]), (held, PARTS["validation"])):
        drawn = np.uint8(matplotlib.colors.to_rgba_array(colour)[0, :3] * 255 + 0.5)
        for part in ("train", "test", "validation"):
            here = np.uint8(matplotlib.colors.to_rgba_array(PARTS[part])[0, :3] * 255 + 0.5)
            shown = (pixels(path) == here).all(-1).any()
            assert shown == (part == "train" or (here == drawn).all())
    with pytest.raises(ValueError, match="no train/, validation/ or test/ metric"):
        draw_training_curves([{"step": 1}], tmp_path / "none.png")


def test_all_that_a_model_can_show(linear, tmp_path):
    paths = draw_all(linear.model, linear.exact, linear.data, RECORDS, tmp_path, jax.random.key(0))
    names = ["samples", "reconstructions", "interpolations", "daydream", "latent_scatter"]
    assert [path.stem for path in paths] == [*names, "training_curves"]
    assert all(pixels(path).std() > 5 for path in paths)
    bare = Model(None, None, None)
    assert draw_all(bare, linear.exact, linear.data, [], tmp_path / "b", jax.random.key(0)) == []


def test_colour_images_outside_the_unit_range(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), np.uint8)
    data = from_arrays(images, None, images, None, Options(standardise=True))
    model = Model(
        None, None, None,
        encode=lambda s, x, r: x.reshape(-1, 192),
        decode=lambda s, z, r: z.reshape(-1, 8, 8, 3),
    )  # fmt: skip
    paths = draw_all(model, None, data, [], tmp_path, jax.random.key(0))
    assert [p.stem for p in paths] == ["reconstructions", "interpolations", "latent_scatter"]
    # The decoder copies, so both rows of a pair show the original's pixels, up to rounding.
    seen = pixels(paths[0])
    left, top = 24 + 8 * 7 + 10, 24 + 30 + 24
    original = images[0].repeat(10, 0).repeat(10, 1).astype(int)  # 84 / 8, rounded
    for y in (top, top + 84):
        shown = seen[y : y + 80, left : left + 80].astype(int)
        assert np.abs(shown - original).max() <= 1
