"""Arrays of one's own: which axis holds the colours, what a pixel's number means, whose memory."""

import jax
import numpy as np
import pytest

from jaxae.data import DataError, Options, from_arrays, load, source
from jaxae.data.assemble import assemble
from jaxae.data.source import Raw
from jaxae.training.state import Spec

RNG = np.random.default_rng(0)


def seen(data):
    """Training images as a model sees them, in their own order."""
    batch, _ = next(data.train.examples(data.train.size))
    return np.asarray(batch["image"])


def bare(shape):
    return np.zeros(shape, np.uint8)


# --- the axis of the colours ---


@pytest.mark.parametrize("shape", [(4, 1, 28, 28), (4, 3, 32, 32), (4, 4, 9, 7), (4, 2, 5, 5)])
def test_channels_first_are_refused_with_what_helps(shape):
    images = RNG.integers(0, 256, shape, np.uint8)
    with pytest.raises(DataError, match=r"channels first.*images\.transpose\(0, 2, 3, 1\)"):
        from_arrays(images)
    for field in ("test_images", "validation_images"):
        with pytest.raises(DataError, match=rf"{field} .*channels first"):
            from_arrays(images.transpose(0, 2, 3, 1), **{field: images})
    assert from_arrays(images.transpose(0, 2, 3, 1)).spec.image_shape == (*shape[2:], shape[1])


@pytest.mark.parametrize("shape", [(4, 1, 4, 4), (4, 3, 4, 4), (4, 1, 2, 2)])
def test_a_shape_that_could_be_read_either_way_has_to_be_told(shape):
    _, first, _, last = shape
    with pytest.raises(DataError, match=f"{last} channels or {first}: .*give channels={last}; "):
        from_arrays(bare(shape))
    assert from_arrays(bare(shape), channels=last).spec.image_shape == shape[1:]
    with pytest.raises(DataError, match=f"not have channels={first} last: .*transpose"):
        from_arrays(bare(shape), channels=first)


@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (4, 3, 9, 3), (4, 1, 9, 1), (4, 1, 2, 1)])
def test_channels_that_are_last_are_taken(shape):
    assert from_arrays(bare(shape)).spec.image_shape == shape[1:]


def test_many_channels_have_to_be_told():
    with pytest.raises(DataError, match=r"have 5 channels, .*give channels=5"):
        from_arrays(bare((4, 8, 8, 5)))
    assert from_arrays(bare((4, 8, 8, 5)), channels=5).spec.image_shape == (8, 8, 5)
    assert from_arrays(bare((4, 1, 8, 7)), channels=7).spec.image_shape == (1, 8, 7)
    with pytest.raises(DataError, match=r"\(4, 8, 8, 5\) do not have channels=3 last$"):
        from_arrays(bare((4, 8, 8, 5)), channels=3)


# --- the meaning of a number ---


def test_bool_images_are_bits():
    bits = RNG.random((6, 3, 2)) < 0.5
    data = from_arrays(bits, test_images=bits)
    assert data.spec.levels == 2
    np.testing.assert_array_equal(seen(data)[..., 0], np.float32(bits))
    with pytest.raises(DataError, match="are bool and take 2 levels, not levels=17"):
        from_arrays(bits, levels=17)


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint16])
def test_integers_of_any_type_with_levels(kind):
    values = RNG.integers(0, 17, (6, 3, 2))
    data = from_arrays(values.astype(kind), test_images=values.astype(kind), levels=17)
    assert data.spec.levels == 17
    np.testing.assert_allclose(seen(data)[..., 0], values / 16, rtol=2e-7)


@pytest.mark.parametrize("wrong", [-1, 17, 300])
def test_integers_outside_the_levels_are_refused_not_wrapped(wrong):
    values = np.full((6, 3, 2), wrong)
    with pytest.raises(DataError, match=f"hold {wrong} and {wrong}; 17 levels are 0..16"):
        from_arrays(values, levels=17)


@pytest.mark.parametrize(
    ("kind", "peak"), [(np.uint16, 65_535), (np.int32, 4095), (np.float64, 255), (np.uint8, 200)]
)
def test_the_peak_is_white_and_pixels_are_continuous(kind, peak):
    values = RNG.integers(0, peak + 1, (6, 3, 2)).astype(kind)
    data = from_arrays(values, test_images=values, validation_images=values, peak=peak)
    assert data.spec.levels == 0
    np.testing.assert_allclose(seen(data)[..., 0], values.astype(np.float64) / peak, rtol=2e-7)


@pytest.mark.parametrize(
    ("images", "words", "match"),
    [
        (np.full((4, 2, 2), 256), {"peak": 255}, r"hold 256 and 256, not 0\.\.255 \(peak\)"),
        (np.full((4, 2, 2), -1), {"peak": 255}, "hold -1 and -1"),
        (np.full((4, 2, 2), np.nan), {"peak": 255}, "hold nan"),
        (np.zeros((4, 2, 2), int), {"peak": 0}, "peak must be a positive number, is 0"),
        (np.zeros((4, 2, 2), int), {"peak": np.nan}, "peak must be a positive number, is nan"),
        (np.zeros((4, 2, 2), bool), {"peak": 1}, "must be integers or float for peak="),
        (
            np.zeros((4, 2, 2), int),
            {"peak": 9, "levels": 9},
            "levels=9 and peak=9 exclude each other",
        ),
        (np.full((4, 2, 2), 2.0), {}, r"must be in \[0,1\].*give peak=, the value of white"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(images, words, match):
    with pytest.raises(DataError, match=match):
        from_arrays(images, **words)


def test_splits_have_pixels_of_one_kind():
    bits, bytes_ = np.zeros((4, 2, 2), bool), bare((4, 2, 2))
    for field in ("test_images", "validation_images"):
        with pytest.raises(DataError, match=rf"train_images and {field} .*have 2 and 256 levels"):
            from_arrays(bits, **{field: bytes_})


@pytest.mark.parametrize("labels", [[0, 2**32 + 1, 0, 1], np.uint64([0, 2**63 - 1, 0, 1])])
def test_large_labels_are_classes_of_their_own(labels):
    """In 32 bits 2^32 + 1 is 1, and 2^63 - 1 is -1."""
    images = bare((4, 2, 2))
    data = from_arrays(images, labels, images, labels)
    assert data.spec.classes == 3
    np.testing.assert_array_equal(data.train.labels, [0, 2, 0, 1])


# --- whose memory ---


@pytest.mark.parametrize("resident_mib", [0, 1])
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.bool_])
@pytest.mark.parametrize("shape", [(20, 2, 2), (20, 2, 2, 1)])
def test_what_becomes_of_the_arrays_afterwards_changes_no_batch(kind, shape, resident_mib):
    images = RNG.integers(0, 2, shape).astype(kind)
    labels = np.arange(20) % 2
    data = from_arrays(
        images, labels, images, labels, Options(resident_mib=resident_mib),
        validation_images=images, validation_labels=labels,
    )  # fmt: skip
    looks = lambda: [
        data.train.batch(0, 3, 20),
        next(data.test.examples(20))[0],
        next(data.validation.examples(20))[0],
    ]
    before = jax.tree.map(np.array, looks())
    images[:] = 1 - images
    labels[:] = 1 - labels
    for name in ("image", "label"):
        for a, b in zip(before, looks(), strict=True):
            np.testing.assert_array_equal(a[name], b[name])


def test_what_a_split_hands_out_cannot_be_written_to():
    images = RNG.integers(0, 256, (20, 2, 2), np.uint8)
    data = from_arrays(images, np.arange(20) % 2, options=Options(labels=4))
    arrays = data.train.arrays
    for array in (*arrays.values(), data.train.labels, data.train.labelled, data.spec.mean):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    images[:] = 0  # the caller's own array stays as it was


def test_a_file_opened_for_reading_is_not_copied(tmp_path):
    np.save(tmp_path / "images.npy", RNG.integers(0, 256, (20, 2, 2), np.uint8))
    for mode, shared in (("r", True), ("r+", False)):
        images = np.load(tmp_path / "images.npy", mmap_mode=mode)
        data = from_arrays(images, test_images=images[:3].copy())
        assert np.shares_memory(data.train.arrays["image"], images) == shared
        np.testing.assert_allclose(seen(data)[..., 0], images / 255, rtol=2e-7)


def test_images_are_copied_once():
    """An array that is made here anyway, by a change of type, is not copied again."""
    from jaxae.data.arrays import _copy

    given = RNG.random((20, 2, 2, 1))
    for array, copied in ((given.astype(np.float32), False), (given, True), (given[:3], True)):
        assert (_copy(array, given) is not array) == copied


# --- in a line ---


def test_a_data_set_is_shown_in_a_line():
    spec = Spec((2, 1, 1), 7, 3, 0, np.float32([[[0.25]], [[0.5]]]))
    shown = "Spec(image_shape=(2, 1, 1), size=7, classes=3, levels=0, "
    assert repr(spec) == f"{shown}mean=<float32 (2, 1, 1) of average 0.375>)"
    data = from_arrays(bare((10, 28, 28)), np.arange(10) % 2, options=Options(resident_mib=0))
    assert repr(data.train) == "<Split of 9 images 28x28x1, streamed, 256 levels, 9 labelled>"
    assert repr(from_arrays(bare((10, 28, 28))).test) == (
        "<Split of 1 images 28x28x1, in memory, 256 levels, no labels>"
    )
    assert "\n" not in repr(load("digits"))


# --- memory that is not there ---


class Huge:
    """Images that only say how large they are."""

    dtype = np.dtype(np.uint8)

    def __init__(self, *shape):
        self.shape = shape

    def __getitem__(self, indices):
        raise AssertionError("was read")


@pytest.mark.parametrize(
    ("images", "resident_mib", "match"),
    [
        (
            Huge(2, 8192, 8192, 3),
            10,
            "need 6.2 GiB.*are 1.0 GiB: choose a smaller image_size than 8192",
        ),
        (Huge(2**20, 64, 64, 1), 2**20, "need 4.0 GiB.*are 1.0 GiB: lower resident_mib=1048576"),
    ],
)
def test_memory_is_estimated_before_it_is_asked_for(images, resident_mib, match, monkeypatch):
    """By hand: 3 x 2^26 values x (32 + 1) bytes = 6.19 GiB; 2^20 x 2^12 bytes = 4 GiB."""
    monkeypatch.setattr(source, "host_memory", lambda: 2**30)
    with pytest.raises(DataError, match=match):
        assemble("set", Raw(images, None, images, None, 256), Options(resident_mib=resident_mib))


def test_a_side_that_no_memory_holds_is_refused():
    with pytest.raises(DataError, match="image_size=1000000 must be at least 0 and at most 8,192"):
        Options(image_size=10**6)


def test_an_unknown_memory_refuses_nothing(monkeypatch):
    monkeypatch.setattr(source, "host_memory", lambda: None)
    source.check_memory(Huge(2, 8192, 8192, 3), Options())
