"""Images of one's own: layouts, sizes, colours, lazy decoding, and hostile files."""

import numpy as np
import pytest
from PIL import Image

from jaxae.data import DataError, DataWarning, Options, load, pictures


def write(path, value, size=(4, 3)):
    """A lossless image of one value: an integer is grey, a triple a colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(value, int) else "RGB", size, value).save(path)


@pytest.fixture
def halves(tmp_path):
    """train/ and test/ with classes b and a, nested, of 5 + 3 and 2 + 1 images."""
    for k in range(5):
        write(tmp_path / "train" / "b" / f"{k}.png", 10 + k)
    for k in range(3):
        write(tmp_path / "train" / "a" / "deep" / f"{k}.bmp", 20 + k)
    write(tmp_path / "test" / "a" / "0.png", 30)
    write(tmp_path / "test" / "b" / "0.png", 31)
    write(tmp_path / "test" / "b" / "1.png", 32)
    return tmp_path


def values(split):
    return [int(image.flat[0]) for image in split.arrays["image"]]


def test_train_and_test_folders_with_classes(halves):
    write(halves / "train" / "b" / ".hidden.png", 99)
    data = load(f"folder:{halves}")
    assert values(data.train) == [20, 21, 22, 10, 11, 12, 13, 14]
    np.testing.assert_array_equal(data.train.labels, [0] * 3 + [1] * 5)
    assert data.class_names == ("a", "b")
    assert values(data.test) == [30, 31, 32]
    np.testing.assert_array_equal(data.test.labels, [0, 1, 1])
    assert data.spec.image_shape == (3, 4, 1)
    assert (data.spec.levels, data.spec.classes) == (256, 2)
    assert data.validation is None


@pytest.mark.parametrize("name", ["val", "Valid", "validation"])
def test_three_folders_are_three_splits(halves, name):
    before = load(f"folder:{halves}")
    write(halves / name / "b" / "0.png", 98)
    write(halves / name / "a" / "x" / "1.png", 97)
    data = load(f"folder:{halves}")
    assert values(data.validation) == [97, 98]
    np.testing.assert_array_equal(data.validation.labels, [0, 1])
    assert not data.validation.labelled.any()
    for ours, wanted in ((data.train, before.train), (data.test, before.test)):
        assert values(ours) == values(wanted)
    np.testing.assert_array_equal(data.spec.mean, before.spec.mean)
    assert data.eval_split is data.validation
    assert before.eval_split is before.test
    assert data.digest != before.digest
    with pytest.raises(DataError, match="validation=1, but the set has 2 validation images of"):
        load(f"folder:{halves}", Options(validation=1))
    write(halves / name / "new" / "0.png", 1)
    with pytest.raises(DataError, match=r"0\.png: there are no training images of class 'new'"):
        load(f"folder:{halves}")


@pytest.mark.parametrize(
    ("first", "second"),
    [("train", "val"), ("train", "valid"), ("Train", "Test"), ("TRAIN", "Validation")],
)
def test_other_names_of_the_two_halves(halves, first, second):
    (halves / "train").rename(halves / first)
    (halves / "test").rename(halves / second)
    data = load(f"folder:{halves}")
    assert values(data.train) == [20, 21, 22, 10, 11, 12, 13, 14]
    np.testing.assert_array_equal(data.train.labels, [0] * 3 + [1] * 5)
    np.testing.assert_array_equal(data.test.labels, [0, 1, 1])
    assert data.validation is None  # what is measured on chooses nothing


def test_without_test_folder_a_tenth_is_held_out_by_path(tmp_path):
    for k in range(20):
        write(tmp_path / "one" / f"{'ab'[k % 2]}" / f"{k}.png", k)
    data = load(f"folder:{tmp_path / 'one'}")
    assert (data.train.size, data.test.size) == (18, 2)
    assert sorted(values(data.train) + values(data.test)) == list(range(20))
    np.testing.assert_array_equal(data.train.labels, np.array(values(data.train)) % 2)
    (tmp_path / "one").rename(tmp_path / "other")
    assert values(load(f"folder:{tmp_path / 'other'}").test) == values(data.test)


def test_the_last_image_of_a_class_is_not_held_out(tmp_path):
    """Each of ten flat images is once the only one of its class: it always stays."""
    for alone in range(10):
        root = tmp_path / str(alone)
        for k in range(10):
            write(root / ("z" if k == alone else "a") / f"{k}.png", k)
        data = load(f"folder:{root}")
        assert (data.train.size, data.test.size, data.class_names) == (9, 1, ("a", "z"))
        np.testing.assert_array_equal(data.test.labels, [0])


@pytest.mark.parametrize("inner", ["", "train"])
def test_flat_images_have_no_labels(tmp_path, inner):
    for k in range(4):
        write(tmp_path / inner / f"{k}.png", k)
    data = load(f"folder:{tmp_path}")
    assert data.train.labels is None
    assert data.spec.classes == 0
    assert (data.train.size, data.test.size) == (3, 1)


def test_one_class_folder_gives_no_labels_and_says_so(tmp_path):
    for k in range(4):
        write(tmp_path / "only" / f"{k}.png", k)
    with pytest.warns(DataWarning, match="every image lies in the one class folder 'only', so"):
        data = load(f"folder:{tmp_path}")
    assert data.train.labels is None
    assert data.spec.classes == 0


def test_images_outside_the_splits_are_counted(halves):
    write(halves / "extra" / "b" / "1.png", 1)
    write(halves / "0.png", 1)
    with pytest.warns(DataWarning, match=r"2 images lie in no folder.* the first is .*/0\.png$"):
        data = load(f"folder:{halves}")
    assert (data.train.size, data.test.size) == (8, 3)


def test_files_that_are_skipped_are_counted_in_one_warning(halves):
    for name in ("b/notes.txt", "b/Thumbs.db", "a/deep/photo.heic"):
        (halves / "train" / name).write_text("no image")
    (halves / "train" / ".DS_Store").write_text("hidden")
    with pytest.warns(DataWarning) as told:
        data = load(f"folder:{halves}")
    (message,) = {str(warning.message) for warning in told}
    assert len(told) == 1
    assert "3 files without the ending of an image" in message
    assert message.endswith(f"the first is {halves / 'train' / 'a' / 'deep' / 'photo.heic'}")
    assert "\n" not in message
    assert data.train.size == 8


def test_what_files_hold_beyond_what_is_read_is_told_once_for_each_kind(tmp_path):
    frames = [Image.new("L", (4, 3), value) for value in (10, 20, 30)]
    for name in ("a.gif", "b.gif", "c.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    for name in ("d.jpg", "e.jpg"):
        Image.new("CMYK", (4, 3)).save(tmp_path / name)
    with pytest.warns(DataWarning) as told:
        load(f"folder:{tmp_path}")
    messages = sorted(str(warning.message) for warning in told)
    assert messages == [
        f"{tmp_path}: 2 of 5 images are CMYK and are converted to RGB without a colour profile; "
        f"the first is {tmp_path / 'd.jpg'}",
        f"{tmp_path}: 3 of 5 images have several frames or pages, of which only the first is read; "
        f"the first is {tmp_path / 'a.gif'}",
    ]


def test_photographs_are_upright_and_of_one_size(tmp_path):
    """Both show the same: one is stored upright, the other lies and says so."""
    upright = np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8)
    lies = Image.Exif()
    lies[274] = 6
    Image.fromarray(upright).save(tmp_path / "a.png")
    Image.fromarray(np.rot90(upright)).save(tmp_path / "b.png", exif=lies)
    for resident_mib in (0, 1):
        data = load(f"folder:{tmp_path}", Options(resident_mib=resident_mib))
        assert data.spec.image_shape == (6, 4, 3)
        for split in (data.train, data.test):
            np.testing.assert_array_equal(split.gather([0])["image"][0], upright)


def test_train_alone_holds_the_classes(tmp_path):
    for k in range(4):
        write(tmp_path / "train" / "ab"[k % 2] / f"{k}.png", k)
    assert load(f"folder:{tmp_path}").spec.classes == 2


def test_streamed_folder_gives_the_same_batches(halves):
    for path in halves.rglob("*.*"):
        pixels = np.random.default_rng(len(path.name)).integers(0, 256, (12, 9, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    resident = load(f"folder:{halves}", Options(image_size=8))
    streamed = load(f"folder:{halves}", Options(image_size=8, resident_mib=0))
    assert resident.train.resident
    assert not streamed.train.resident
    np.testing.assert_array_equal(resident.spec.mean, streamed.spec.mean)
    for step in range(3):
        a, b = (data.train.batch(0, step, 4) for data in (resident, streamed))
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])
    for (a, _), (b, _) in zip(resident.test.examples(4), streamed.test.examples(4), strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])


def test_colours(tmp_path):
    write(tmp_path / "grey.png", 100)
    write(tmp_path / "red.png", (250, 0, 0))
    data = load(f"folder:{tmp_path}")
    assert data.spec.image_shape == (3, 4, 3)
    pixels = {
        tuple(p) for s in (data.train, data.test) for p in s.arrays["image"][:, 0, 0].tolist()
    }
    assert pixels == {(100, 100, 100), (250, 0, 0)}
    grey = load(f"folder:{tmp_path}", Options(colour="grey"))
    # ITU-R 601: a red of 250 is 0.299 * 250 = 74.75 bright.
    assert sorted(values(grey.train) + values(grey.test)) == [75, 100]
    (tmp_path / "red.png").unlink()
    write(tmp_path / "dark.png", 1)
    assert load(f"folder:{tmp_path}").spec.image_shape[-1] == 1
    assert load(f"folder:{tmp_path}", Options(colour="rgb")).spec.image_shape[-1] == 3


@pytest.mark.parametrize("size", [(40, 20), (20, 40)])
def test_resizing_is_of_the_whole_image_before_the_crop(tmp_path, size):
    """Pillow's own two steps: the image at half its size, then the middle of that."""
    pixels = np.random.default_rng(0).integers(0, 256, size[::-1], np.uint8)
    image = Image.fromarray(pixels)
    for name in ("a.png", "b.png"):
        image.save(tmp_path / name)
    small = image.resize((size[0] // 2, size[1] // 2), Image.Resampling.BICUBIC)
    left, top = (small.width - 10) // 2, (small.height - 10) // 2
    want = np.asarray(small.crop((left, top, left + 10, top + 10)), int)
    ours = load(f"folder:{tmp_path}", Options(image_size=10)).train.arrays["image"][0, ..., 0]
    np.testing.assert_allclose(ours, want, atol=1)  # Pillow rounds between the two directions


def test_sizes_that_differ_name_two_files(tmp_path):
    write(tmp_path / "a.png", 1, (4, 4))
    write(tmp_path / "b.png", 1, (5, 4))
    with pytest.raises(DataError, match=r"a\.png is 4x4.*b\.png is 5x4.*--image-size"):
        load(f"folder:{tmp_path}")
    assert load(f"folder:{tmp_path}", Options(image_size=4)).spec.image_shape == (4, 4, 1)


def truncated(content):
    return content[: len(content) // 2]


def flipped(content):
    """A bit of the compressed pixels, which the checksums of PNG cover."""
    place = content.index(b"IDAT") + 10
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


@pytest.mark.parametrize("damage", [truncated, flipped, lambda c: b"", lambda c: b"%!PS-Adobe"])
@pytest.mark.parametrize("resident_mib", [0, 1])
def test_a_corrupt_image_is_named(tmp_path, damage, resident_mib):
    for k in range(12):
        pixels = np.random.default_rng(k).integers(0, 256, (9, 9), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    bad = tmp_path / "3.png"
    bad.write_bytes(damage(bad.read_bytes()))
    with pytest.raises(DataError, match=r"3\.png cannot be read as an image"):
        load(f"folder:{tmp_path}", Options(resident_mib=resident_mib))


def test_oversized_images_are_refused_before_decoding(tmp_path, monkeypatch):
    write(tmp_path / "a.png", 1, (10, 10))
    write(tmp_path / "b.png", 1, (10, 11))
    monkeypatch.setattr(pictures, "MAX_PIXELS", 100)
    monkeypatch.setattr(Image.Image, "load", None)
    with pytest.raises(DataError, match=r"b\.png has 10x11 pixels, more than the maximum of 100"):
        load(f"folder:{tmp_path}")


def test_links_that_lead_out_are_skipped_with_a_warning(tmp_path):
    write(tmp_path / "secret" / "private.png", 200)
    inside = tmp_path / "images"
    for k in range(3):
        write(inside / f"{k}.png", k)
    (inside / "3.png").symlink_to(inside / "0.png")
    (inside / "x.png").symlink_to(tmp_path / "secret" / "private.png")
    (inside / "y").symlink_to(tmp_path / "secret")
    (inside / "z").symlink_to(inside)
    with pytest.warns(UserWarning, match=r"3 symbolic links .* the first is .*x\.png"):
        data = load(f"folder:{inside}")
    assert sorted(values(data.train) + values(data.test)) == [0, 0, 1, 2]


def test_folders_that_do_not_fit_are_refused(tmp_path, halves):
    with pytest.raises(DataError, match="there is no such folder"):
        load(f"folder:{tmp_path / 'nowhere'}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds 0 images; at least two"):
        load(f"folder:{tmp_path / 'empty'}")
    write(halves / "test" / "new" / "0.png", 1)
    with pytest.raises(DataError, match=r"0\.png: there are no training images of class 'new'"):
        load(f"folder:{halves}")
    write(halves / "train" / "stray.png", 1)
    with pytest.raises(DataError, match=r"stray\.png is in no class folder"):
        load(f"folder:{halves}")
