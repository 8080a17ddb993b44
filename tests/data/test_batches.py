"""Batches: pure in (seed, step), the same resident and streamed, and options that do it."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxae.data import DataError, Options, from_arrays
from jaxae.data.assemble import assemble
from jaxae.data.source import Raw

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 3, 2, 1), np.uint8)
LABELS = np.arange(50) % 3
OPTIONS = [
    Options(),
    Options(binarise="dynamic"),
    Options(binarise="fixed"),
    Options(dequantise=True, standardise=True),
]


def small(**options):
    """50 training images and 10 test images of random pixels in three classes."""
    return from_arrays(IMAGES, LABELS, IMAGES[:10], LABELS[:10], Options(**options))


def equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


# --- order ---


def test_an_epoch_is_a_permutation_and_the_next_one_another():
    train = small().train
    epochs = [
        np.concatenate([train.batch_indices(7, 5 * e + i, 10) for i in range(5)]) for e in (0, 1)
    ]
    for epoch in epochs:
        assert epoch.dtype == np.int32
        np.testing.assert_array_equal(np.sort(epoch), np.arange(50))
    assert (epochs[0] != epochs[1]).any()


def test_the_remainder_is_dropped_and_no_batch_holds_an_image_twice():
    train = small().train
    for step in range(9):
        assert len(set(train.batch_indices(0, step, 15).tolist())) == 15
    epoch = np.concatenate([train.batch_indices(0, step, 15) for step in range(3)])
    assert len(set(epoch.tolist())) == 45


def test_order_is_pure_in_seed_and_step():
    forwards = [small().train.batch_indices(1, step, 8) for step in range(20)]
    train = small().train
    for step in reversed(range(20)):
        train.batch_indices(2, step, 8)
        np.testing.assert_array_equal(train.batch_indices(1, step, 8), forwards[step])
    assert (small().train.batch_indices(2, 0, 8) != forwards[0]).any()


def test_numpy_and_negative_seeds_are_seeds():
    train = small().train
    np.testing.assert_array_equal(
        train.batch_indices(np.int64(3), 0, 8), train.batch_indices(3, 0, 8)
    )
    assert (train.batch_indices(-3, 0, 8) != train.batch_indices(3, 0, 8)).any()


def test_first_positions_are_uniform():
    """Chi-square of the position that comes first, over seeds, against its 5 s.e. bound."""
    train = small().train
    counts = np.bincount([train.batch_indices(seed, 0, 1)[0] for seed in range(2000)], minlength=50)
    chi_square = ((counts - 40) ** 2 / 40).sum()  # mean 49, variance 98
    assert abs(chi_square - 49) < 5 * np.sqrt(98)


@pytest.mark.parametrize("batch_size", [0, -1, 51])
def test_a_batch_larger_than_the_set_or_empty_is_refused(batch_size):
    with pytest.raises(DataError, match=r"batch_size must be in 1..50"):
        small().train.batch_indices(0, 0, batch_size)


# --- a batch ---


def test_plain_batch_is_the_scaled_rows_in_order():
    data = small()
    batch, order = data.train.batch(5, 2, 16), data.train.batch_indices(5, 2, 16)
    np.testing.assert_allclose(batch["image"], IMAGES[order] / 255, rtol=2e-7)
    np.testing.assert_array_equal(batch["index"], order)
    np.testing.assert_array_equal(batch["label"], LABELS[order])
    assert batch["labelled"].all()
    dtypes = {name: str(column.dtype) for name, column in batch.items()}
    assert dtypes == {"image": "float32", "index": "int32", "label": "int32", "labelled": "bool"}
    assert data.spec.image_shape == (3, 2, 1)
    assert (data.spec.size, data.spec.classes, data.spec.levels) == (50, 3, 256)
    np.testing.assert_allclose(data.spec.mean, IMAGES.mean(0) / 255, rtol=1e-6)


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "dynamic", "fixed", "dequantised"])
def test_a_batch_is_the_same_streamed_resident_or_in_other_company(options):
    resident = from_arrays(IMAGES, LABELS, IMAGES[:10], LABELS[:10], options)
    streamed = from_arrays(
        IMAGES, LABELS, IMAGES[:10], LABELS[:10], dataclasses.replace(options, resident_mib=0)
    )
    assert resident.train.resident
    assert not streamed.train.resident
    np.testing.assert_array_equal(resident.spec.mean, streamed.spec.mean)
    train = resident.train
    arrays = jax.tree.map(jnp.asarray, train.arrays)
    on_device = jax.jit(lambda rng, i: train.preprocess(train.rows(arrays, i), rng))
    key = lambda step: jax.random.fold_in(jax.random.fold_in(jax.random.key(1), step), 0)
    for step in (0, 7):
        want = train.batch(1, step, 12)
        equal(want, streamed.train.batch(1, step, 12))
        order = train.batch_indices(1, step, 12)
        equal(want, on_device(key(step), order))
        # An image's noise is its own: at another place, among others, it looks the same.
        others = np.concatenate([order[9:], np.setdiff1d(np.arange(50), order)[:9]])
        company = on_device(key(step), others)["image"]
        np.testing.assert_array_equal(company[:3], want["image"][9:])
    with pytest.raises(DataError, match="gather"):
        _ = streamed.train.arrays


def test_rows_and_gather_agree():
    train = small().train
    equal(train.rows(train.arrays, np.int32([4, 0, 49])), train.gather(np.int32([4, 0, 49])))


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "dynamic", "fixed", "dequantised"])
def test_examples_cover_everything_once_whatever_the_batch_size(options):
    test = from_arrays(IMAGES, LABELS, IMAGES[:10], LABELS[:10], options).test
    runs = []
    for batch_size in (4, 12, 4):
        seen = []
        for batch, mask in test.examples(batch_size):
            assert batch["image"].shape == (batch_size, 3, 2, 1)
            assert mask.shape == (batch_size,)
            assert (np.asarray(batch["index"]) == -1).all()
            assert not np.asarray(batch["labelled"]).any()
            seen.append(jax.tree.map(lambda x, mask=mask: np.asarray(x)[mask], batch))
        runs.append({k: np.concatenate([batch[k] for batch in seen]) for k in seen[0]})
        np.testing.assert_array_equal(runs[-1]["label"], LABELS[:10])
        equal(runs[0], runs[-1])


def test_examples_of_the_training_split_carry_their_positions():
    indices = [np.asarray(b["index"])[mask] for b, mask in small().train.examples(16)]
    np.testing.assert_array_equal(np.concatenate(indices), np.arange(50))


# --- options ---


def test_dynamic_binarisation_has_the_pixels_as_frequencies():
    values = np.repeat(np.uint8([0, 1, 51, 128, 254, 255]), 500)
    images = np.broadcast_to(values.reshape(6, 500), (4, 6, 500))
    data = from_arrays(images, options=Options(binarise="dynamic"))
    draws = np.concatenate(
        [np.asarray(data.train.batch(0, step, 3)["image"])[..., 0] for step in range(20)]
    )
    assert set(np.unique(draws)) == {0.0, 1.0}
    p = np.array([0, 1, 51, 128, 254, 255]) / 255
    error = np.abs(draws.mean((0, 2)) - p)
    assert (error <= 5 * np.sqrt(p * (1 - p) / (draws.shape[0] * 500))).all()
    assert data.spec.levels == 2
    np.testing.assert_allclose(data.spec.mean[:, 0, 0], p, rtol=1e-6)


def test_dynamic_binarisation_changes_and_fixed_does_not():
    def visits(binarise):
        train = small(binarise=binarise).train
        images = np.zeros((2, *IMAGES.shape))
        for epoch in (0, 1):
            batch = train.batch(0, epoch, 50)
            images[epoch, np.asarray(batch["index"])] = batch["image"]
        return images

    dynamic, fixed = visits("dynamic"), visits("fixed")
    assert (dynamic[0] != dynamic[1]).any()
    np.testing.assert_array_equal(fixed[0], fixed[1])
    data = small(binarise="fixed")
    np.testing.assert_array_equal(fixed[0], next(data.train.examples(50))[0]["image"])
    # The test images have the same pixels as the first training images, but draws of their own.
    assert (fixed[0][:10] != np.asarray(next(data.test.examples(10))[0]["image"])).any()
    assert data.spec.levels == 2


@pytest.mark.parametrize("levels", [17, 256])
def test_dequantised_pixels_lie_in_their_own_share_of_the_interval(levels):
    values = np.repeat(np.arange(levels, dtype=np.uint8), 40).reshape(1, levels, 40)
    values = np.concatenate([values, values])
    data = from_arrays(values, options=Options(dequantise=True), levels=levels)
    image = np.asarray(next(data.train.examples(1))[0]["image"])[0, ..., 0].astype(np.float64)
    assert 0 < image.min() < image.max() < 1
    np.testing.assert_array_equal(np.floor(image * levels), values[0])
    offset = image * levels - values[0]
    assert abs(offset.mean() - 0.5) < 5 * np.sqrt(1 / 12 / offset.size)
    assert data.spec.levels == 0
    want = np.broadcast_to((np.arange(levels) + 0.5)[:, None, None] / levels, (levels, 40, 1))
    np.testing.assert_allclose(data.spec.mean, want, rtol=1e-6)


def test_standardised_training_pixels_have_mean_zero_and_deviation_one():
    data = small(standardise=True)
    image = np.asarray(next(data.train.examples(50))[0]["image"], np.float64)
    want = (IMAGES - IMAGES.mean()) / IMAGES.std()
    np.testing.assert_allclose(image, want, atol=1e-6)
    np.testing.assert_allclose(data.spec.mean, want.mean(0), atol=1e-6)
    assert data.spec.levels == 0
    test = np.asarray(next(data.test.examples(10))[0]["image"])
    np.testing.assert_allclose(test, want[:10], atol=1e-6)


def test_dequantised_and_standardised():
    data = small(dequantise=True, standardise=True)
    images = np.stack([data.train.batch(0, step, 50)["image"] for step in range(40)])
    np.testing.assert_allclose(images.mean(), 0, atol=5 * np.sqrt(1 / 12 / images.size) / 70)
    np.testing.assert_allclose(images.std(), 1, atol=1e-3)
    # u has mean 1/2 and variance 1/12, in the units of the 256 levels.
    scale = np.sqrt(IMAGES.astype(float).var() + 1 / 12)
    np.testing.assert_allclose(data.spec.mean, (IMAGES.mean(0) - IMAGES.mean()) / scale, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"binarise": "dynamic", "dequantise": True}, "dequantise exclude each other"),
        ({"binarise": "fixed", "standardise": True}, "standardise exclude each other"),
        ({"binarise": "sometimes"}, "binarise='sometimes' is none of none, dynamic, fixed"),
        ({"colour": "blue"}, "colour='blue' is none of auto, grey, rgb"),
        ({"labels": -1}, "labels=-1 must be at least 0"),
    ],
)
def test_contradicting_options_are_refused(fields, match):
    with pytest.raises(DataError, match=match):
        Options(**fields)


# --- labels ---


@pytest.mark.parametrize("wanted", [3, 7, 30])
def test_labelled_examples_are_balanced_and_fixed(wanted):
    seen = small(labels=wanted).train.labelled
    shares = np.bincount(LABELS[seen], minlength=3)
    np.testing.assert_array_equal(shares, [wanted // 3 + (c < wanted % 3) for c in range(3)])
    np.testing.assert_array_equal(seen, small(labels=wanted).train.labelled)
    more = small(labels=45).train.labelled
    assert (more | ~seen).all()


def test_another_draw_labels_other_examples_as_evenly():
    one, other = (small(labels=30, label_draw=draw).train.labelled for draw in (0, 1))
    assert (one != other).any()
    np.testing.assert_array_equal(np.bincount(LABELS[other]), [10, 10, 10])
    np.testing.assert_array_equal(one, small(labels=30).train.labelled)


@pytest.mark.parametrize("draw", [0, 1])
def test_labelled_examples_are_spread_over_an_epoch(draw):
    """A tenth of an epoch holds 10 of 100 labelled, and by chance 10 + 5 sqrt(9) at most."""
    labels = np.arange(1000) % 10
    train = from_arrays(
        np.zeros((1000, 1, 1), np.uint8), labels, options=Options(labels=100, label_draw=draw),
        test_images=np.zeros((1, 1, 1), np.uint8), test_labels=[0],
    ).train  # fmt: skip
    for seed, epoch in itertools.product(range(4), range(2)):
        tenths = [
            train.labelled[train.batch_indices(seed, 10 * epoch + k, 100)].sum() for k in range(10)
        ]
        assert sum(tenths) == 100
        assert max(tenths) <= 25, (seed, epoch, tenths)


def test_every_label_is_seen_by_default():
    assert small().train.labelled.all()


@pytest.mark.parametrize(
    ("labels", "wanted", "match"),
    [
        (LABELS, 51, "asks for more labels than the 50"),
        (LABELS, 2, "without an example"),
        (np.int32([0] * 48 + [1] * 2), 10, "5 examples of class 1, which has 2"),
        (None, 10, "needs labels, but there are none"),
    ],
)
def test_labels_that_cannot_be_had_are_refused(labels, wanted, match):
    tests = None if labels is None else labels[:10]
    with pytest.raises(DataError, match=match):
        from_arrays(IMAGES, labels, IMAGES[:10], tests, Options(labels=wanted))


# --- labelled examples beside each batch ---


def test_labelled_examples_come_beside_the_same_batch():
    alone, both = small(labels=6).train, small(labels=6, labels_batch=20).train
    for step in (0, 7):
        batch = both.batch(3, step, 10)
        few = batch.pop("supervised")
        equal(batch, alone.batch(3, step, 10))
        seen = np.asarray(few["index"])
        assert seen.shape == (20,)
        assert both.labelled[seen].all()
        assert few["labelled"].all()
        np.testing.assert_array_equal(few["label"], LABELS[seen])
        np.testing.assert_allclose(few["image"], IMAGES[seen] / np.float32(255), rtol=1e-6)


def test_labelled_examples_are_pure_in_seed_and_step_and_evenly_drawn():
    train = small(labels=6, labels_batch=20).train
    draws = np.stack([train.batch_indices(1, step, 10)[1] for step in range(300)])
    np.testing.assert_array_equal(train.batch_indices(1, 7, 10)[1], draws[7])
    assert len({row.tobytes() for row in draws}) == 300
    assert (train.batch_indices(2, 7, 10)[1] != draws[7]).any()
    counts = np.bincount(draws.ravel(), minlength=50)[train.labelled]
    # 6000 draws of 6: each is 1000 with a deviation of 29.
    assert np.abs(counts - 1000).max() < 5 * 29


def test_labelled_examples_of_a_streamed_split_are_the_same():
    resident = small(labels=6, labels_batch=4, binarise="dynamic").train
    streamed = small(labels=6, labels_batch=4, binarise="dynamic", resident_mib=0).train
    assert not streamed.resident
    rows = resident.rows(resident.arrays, resident.batch_indices(0, 2, 10))
    for got in (streamed.batch(0, 2, 10), resident.batch(0, 2, 10)):
        few = got.pop("supervised")
        np.testing.assert_array_equal(few["index"], rows["supervised"]["position"])
        equal(few, resident.batch(0, 2, 10)["supervised"])


def test_an_image_in_both_has_noise_of_its_own_in_each():
    images = np.full((4, 20, 20, 1), 128, np.uint8)
    data = from_arrays(images, np.zeros(4, int), images, np.zeros(4, int),
                       Options(binarise="dynamic", labels_batch=4))  # fmt: skip
    batch = data.train.batch(0, 0, 4)
    for image, index in zip(
        batch["supervised"]["image"], batch["supervised"]["index"], strict=True
    ):
        (main,) = batch["image"][batch["index"] == index]
        assert 0.3 < np.mean(image == main) < 0.7


def test_labelled_examples_without_labels_are_refused():
    with pytest.raises(DataError, match="labels_batch=5 needs labels"):
        from_arrays(IMAGES, options=Options(labels_batch=5))


# --- arrays ---


def test_float_images_are_continuous_unless_levels_are_given():
    steps = np.float32([[[0, 1], [2, 3]]] * 4) / 3
    data = from_arrays(steps)
    assert data.spec.levels == 0
    np.testing.assert_array_equal(data.train.batch(0, 0, 1)["image"][0, ..., 0], steps[0])
    counted = from_arrays(steps, levels=4)
    assert counted.spec.levels == 4
    assert counted.train.arrays["image"].dtype == np.uint8
    np.testing.assert_allclose(counted.train.batch(0, 0, 1)["image"][0, ..., 0], steps[0])
    with pytest.raises(DataError, match="dequantise needs discrete"):
        from_arrays(steps, options=Options(dequantise=True))


def test_the_digest_changes_with_size_labels_and_pixels():
    images, labels = np.arange(80, dtype=np.uint8).reshape(20, 2, 2), np.arange(20) % 4

    def digest(count=20, pixel=0, label=0, **options):
        pixels, numbers = images[:count].copy(), labels[:count].copy()
        pixels[0, 0, 0], numbers[3] = pixel, numbers[3] - label
        data = from_arrays(pixels, numbers, images[:4], labels[:4], Options(**options))
        return data.digest

    assert digest() == digest(resident_mib=0)
    assert len({digest(), digest(19), digest(pixel=1), digest(label=1)}) == 4
    bare = from_arrays(images, None, images[:4])
    assert bare.digest != digest()


def test_negative_labels_of_a_source_are_refused():
    raw = Raw(IMAGES, LABELS, IMAGES[:2], np.full(2, -1, np.int32), 256)
    with pytest.raises(DataError, match=r"withheld: the test labels must not.* the smallest is -1"):
        assemble("withheld", raw, Options())


def test_without_test_images_a_tenth_is_held_out():
    data = from_arrays(np.arange(50, dtype=np.uint8).reshape(50, 1, 1), np.arange(50) % 7)
    kept, held_out = (split.arrays["image"].ravel() for split in (data.train, data.test))
    assert len(held_out) == 5
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held_out])), np.arange(50))
    np.testing.assert_array_equal(data.test.labels, held_out % 7)


def test_what_is_held_out_leaves_every_class_an_image():
    """Without labels the five held out are others; with them the two that are alone stay."""
    images = np.arange(50, dtype=np.uint8).reshape(50, 1, 1)
    whole = set(from_arrays(images).test.arrays["image"].ravel().tolist())
    alone = sorted(whole)[:2]
    labels = np.where(np.isin(np.arange(50), alone), np.arange(50) + 2, np.arange(50) % 2)
    data = from_arrays(images, labels)
    assert data.spec.classes == 4
    held_out = set(data.test.arrays["image"].ravel().tolist())
    assert len(held_out) == 5
    assert held_out & whole == whole - set(alone)
    with pytest.raises(DataError, match="5 of 50 images cannot be held out: one of each of the 48"):
        from_arrays(images, np.r_[np.arange(48), 0, 1])


# --- validation images ---


@pytest.mark.parametrize("resident_mib", [0, 2048])
def test_validation_images_are_taken_out_of_the_training_images(resident_mib):
    images = np.arange(50, dtype=np.uint8).reshape(50, 1, 1)
    make = lambda count: from_arrays(
        images, LABELS, images[:9], LABELS[:9], Options(validation=count, resident_mib=resident_mib)
    )
    data, again, more, plain = make(10), make(10), make(20), make(0)
    seen = lambda split: split.gather(np.arange(split.size))["image"].ravel()
    assert plain.validation is None
    assert (data.train.size, data.validation.size, data.test.size) == (40, 10, 9)
    assert sorted([*seen(data.train), *seen(data.validation)]) == list(range(50))
    np.testing.assert_array_equal(data.validation.labels, seen(data.validation) % 3)
    np.testing.assert_array_equal(data.train.labels, seen(data.train) % 3)
    np.testing.assert_array_equal(seen(again.validation), seen(data.validation))
    assert set(seen(data.validation)) < set(seen(more.validation))
    assert (seen(data.validation) != np.arange(10)).any()
    np.testing.assert_allclose(data.spec.mean, seen(data.train).mean() / 255, rtol=1e-6)
    assert data.spec.size == 40
    batch = next(data.validation.examples(10))[0]
    assert (np.asarray(batch["index"]) == -1).all()
    assert not np.asarray(batch["labelled"]).any()
    assert len({d.digest for d in (data, more, plain)}) == 3


def test_validation_images_are_binarised_as_test_images_are():
    data = small(validation=10, binarise="dynamic")
    assert set(np.unique(next(data.validation.examples(10))[0]["image"])) == {0.0, 1.0}
    grey = next(data.unbinarised.validation.examples(10))[0]["image"]
    np.testing.assert_allclose(grey, data.validation.arrays["image"] / 255, rtol=1e-6)
    bits = next(small(validation=10).binarised.validation.examples(10))[0]["image"]
    assert set(np.unique(bits)) == {0.0, 1.0}


def test_validation_images_of_ones_own():
    own = {"validation_images": IMAGES[4:9], "validation_labels": [3, 3, 2, 1, 1]}
    data = from_arrays(IMAGES, LABELS + 1, IMAGES[:4], [1, 2, 3, 1], **own)
    np.testing.assert_array_equal(data.validation.arrays["image"], IMAGES[4:9])
    np.testing.assert_array_equal(data.validation.labels, [2, 2, 1, 0, 0])


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"options": Options(validation=48)}, "validation=48: 48 of 50 .* each of the 3 classes"),
        ({"options": Options(validation=5), "validation_images": IMAGES[:2],
          "validation_labels": [0, 1]}, "has 2 validation images of its own"),
        ({"validation_labels": [0, 1]}, "validation_labels need validation_images"),
        ({"validation_images": IMAGES[:2]}, "only one of the training and validation images"),
        ({"validation_images": IMAGES[:2], "validation_labels": [0, 7]},
         "no training images of class 7, but validation images"),
        ({"validation_images": IMAGES[:2, :2], "validation_labels": [0, 1]},
         r"training images are \(3, 2, 1\), validation images \(2, 2, 1\)"),
    ],
)  # fmt: skip
def test_validation_images_that_do_not_fit_are_refused(fields, match):
    with pytest.raises(DataError, match=match):
        from_arrays(IMAGES, LABELS, IMAGES[:4], LABELS[:4], **fields)
    with pytest.raises(DataError, match="one has to stay"):
        from_arrays(IMAGES, None, IMAGES[:4], options=Options(validation=50))
    with pytest.raises(DataError, match="validation=-1 must be at least 0"):
        Options(validation=-1)


# --- classes ---


def renamed(names, **options):
    labels = np.array(names)[LABELS]
    return from_arrays(IMAGES, labels, IMAGES[:10], labels[:10], Options(**options))


@pytest.mark.parametrize("names", [(1, 2, 3), (5, 6, 7), (0, 4, 9), (100_000, 2**33, 2**40)])
def test_classes_are_the_labels_that_occur(names):
    data, plain = renamed(names, labels=6), small(labels=6)
    assert data.class_names == tuple(map(str, names))
    assert data.spec.classes == 3
    for ours, wanted in ((data.train, plain.train), (data.test, plain.test)):
        assert ours.labels.dtype == np.int32
        np.testing.assert_array_equal(ours.labels, wanted.labels)
        np.testing.assert_array_equal(ours.labelled, wanted.labelled)
    equal(data.train.batch(0, 3, 10), plain.train.batch(0, 3, 10))
    assert data.digest == plain.digest


def test_a_class_may_lack_test_images_but_not_training_images():
    data = from_arrays(IMAGES, LABELS + 4, IMAGES[:9], np.full(9, 5))
    assert data.class_names == ("4", "5", "6")
    np.testing.assert_array_equal(data.test.labels, np.ones(9))
    with pytest.raises(DataError, match=r"no training images of class 3, but test.* \(1 such"):
        from_arrays(IMAGES, LABELS, IMAGES[:4], [0, 3, 3, 1])
    raw = Raw(IMAGES, LABELS, IMAGES[:2], np.int32([0, 3]), 256, class_names=["a", "b", "c", "d"])
    with pytest.raises(DataError, match="no training images of class d"):
        assemble("named", raw, Options())


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((np.zeros((4, 4), np.uint8),), r"train_images must be \[N,H,W\]"),
        ((np.zeros((4, 2, 2), np.int32),), "are int32: give levels=L for pixels 0..L-1.*or peak="),
        ((np.full((4, 2, 2), 1.5),), r"must be in \[0,1\]"),
        ((np.full((4, 2, 2), np.nan),), r"must be in \[0,1\]"),
        ((np.zeros((4, 2, 2)), np.zeros(3, int)), "train_labels must be 4 integers"),
        ((np.zeros((4, 2, 2)), np.zeros(4)), "train_labels must be 4 integers"),
        ((np.zeros((4, 2, 2)), np.int32([0, -1, 0, 0])), "must not be negative"),
        ((np.zeros((4, 2, 2)), None, None, np.zeros(4, int)), "test_labels need test_images"),
        ((np.zeros((4, 2, 2)), None, np.zeros((1, 2, 2), np.uint8)), "both be uint8"),
        ((np.zeros((4, 2, 2)), None, np.zeros((1, 3, 2))), "test images"),
        ((np.zeros((4, 2, 2)), np.zeros(4, int), np.zeros((1, 2, 2))), "only one of"),
        ((np.zeros((1, 2, 2)),), "cannot be split"),
        ((np.zeros((0, 2, 2)), None, np.zeros((1, 2, 2))), "no training images"),
        ((np.zeros((4, 2, 2)), None, None, None, Options(standardise=True)), "all one colour"),
        ((np.zeros((4, 2, 2)), None, None, None, Options(image_size=8)), "image_size works with"),
        (
            (np.full((4, 2, 2), 9, np.uint8), None, None, None, Options(), "a", 9),
            "hold 9 and 9; 9 levels",
        ),
        ((np.full((4, 2, 2), 0.3), None, None, None, Options(), "a", 9), "not multiples of 1/8"),
        ((np.zeros((4, 2, 2)), None, None, None, Options(), "a", 1), "levels must be in 2..256"),
        (([[[1, 2], [3]]],), "train_images cannot be one array: its entries differ in shape"),
        ((np.zeros((2, 2, 2)), [[0], [0, 1]]), "train_labels cannot be one array"),
        ((np.zeros((4, 2, 2)), np.uint64([0, 1, 2**64 - 1, 1])), "hold 18446744073709551615"),
        ((np.zeros((4, 2, 2), complex),), "bool, integers or float; they are complex128"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arguments, match):
    with pytest.raises(DataError, match=match):
        from_arrays(*arguments)


def test_unbinarised_split_shows_the_grey_levels_of_the_same_images():
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 3, 1)).astype(np.uint8)
    binary = from_arrays(images, options=Options(binarise="dynamic"), test_images=images)
    batch, _ = next(iter(binary.test.unbinarised.examples(20)))
    np.testing.assert_allclose(batch["image"], images / 255, rtol=1e-6)
    batch, _ = next(iter(binary.test.examples(20)))
    assert set(np.unique(batch["image"])) == {0.0, 1.0}
