"""Sets prepared by tensorflow-datasets, read without TensorFlow."""

import io
import shutil
import sys

import numpy as np
import pytest

from jaxae.data import DataError, Options, load, tfds_source

tfds = pytest.importorskip("tensorflow_datasets")
from PIL import Image  # noqa: E402

SPLITS = {"train": 10, "test": 4}
CONFIGS = ("whole", "bare", "withheld", "three")


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    buffer.seek(0)
    return buffer


class JaxaeTiny(tfds.core.GeneratorBasedBuilder):
    """Images of one colour each; the red value is the position. `bare` has one split, no labels
    and no fixed size; `withheld` has test labels of -1, and validation images; so has `three`,
    whose labels are far from 0."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in CONFIGS]

    def _info(self):
        whole = self.builder_config.name != "bare"
        features = {"image": tfds.features.Image(shape=(6, 4, 3) if whole else (None, None, 3))}
        if whole:
            features["label"] = tfds.features.ClassLabel(names=["ant", "bee", "cow"])
        if self.builder_config.name in ("withheld", "three"):
            features["label"] = np.int64
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        config = self.builder_config.name
        splits = {"bare": {"train": 20}, "withheld": SPLITS | {"validation": 5}}
        splits["three"] = splits["withheld"]
        return {
            split: self._generate_examples(count, config != "bare", (config, split))
            for split, count in splits.get(config, SPLITS).items()
        }

    def _generate_examples(self, count, labelled, place):
        for k in range(count):
            pixels = np.full((6, 4, 3), [k, 100, 200], np.uint8)
            label = -1 if place == ("withheld", "test") else k % 3 + 2**40 * (place[0] == "three")
            yield k, {"image": png(pixels)} | ({"label": label} if labelled else {})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folder in which all configurations were prepared as array_record."""
    folder = tmp_path_factory.mktemp("tfds")
    for config in CONFIGS:
        builder = tfds.builder(f"jaxae_tiny/{config}", data_dir=folder, file_format="array_record")
        builder.download_and_prepare()
    return folder


@pytest.mark.parametrize("resident_mib", [0, 2048])
def test_prepared_set(prepared, resident_mib):
    data = load("tfds:jaxae_tiny:whole", Options(resident_mib=resident_mib), prepared)
    assert data.train.resident == (resident_mib > 0)
    assert data.spec.image_shape == (6, 4, 3)
    assert (data.train.size, data.test.size, data.spec.classes) == (10, 4, 3)
    assert data.class_names == ("ant", "bee", "cow")
    rows = data.train.gather(np.arange(10))
    places = rows["image"][:, 0, 0, 0]  # tfds shuffles what it prepares
    np.testing.assert_array_equal(np.sort(places), np.arange(10))
    np.testing.assert_array_equal(rows["label"], places % 3)
    assert (rows["image"][..., 1:] == [100, 200]).all()
    assert "tensorflow" not in sys.modules


def test_size_colour_and_held_out_images(prepared):
    with pytest.raises(DataError, match=r"differ in size.*--image-size"):
        load("tfds:jaxae_tiny:bare", data_dir=prepared)
    data = load("tfds:jaxae_tiny:bare", Options(image_size=2), prepared)
    assert data.spec.image_shape == (2, 2, 3)
    assert data.train.labels is None
    reds = [split.gather(np.arange(split.size))["image"][:, 0, 0, 0] for split in data[1:3]]
    assert [len(part) for part in reds] == [18, 2]
    np.testing.assert_array_equal(np.sort(np.concatenate(reds)), np.arange(20))
    grey = load("tfds:jaxae_tiny:whole", Options(colour="grey"), prepared)
    assert grey.spec.image_shape == (6, 4, 1)
    # ITU-R 601 of (k, 100, 200), k = 0..9: 81.5 + 0.299 k.
    seen = np.sort(grey.train.arrays["image"][:, 0, 0, 0])
    np.testing.assert_allclose(seen, 81.5 + 0.299 * np.arange(10), atol=0.51)


def test_labels_are_not_wrapped():
    """2^32 + 1 is 1 in 32 bits."""

    class Records:
        shape, dtype = (1, 1, 1, 1), np.uint8

        def read(self, positions):
            return np.zeros(self.shape, self.dtype), [np.int64(2**32 + 1)]

    _, labels = tfds_source._read(Records(), True, Options())
    assert labels.tolist() == [2**32 + 1]


def test_validation_stands_in_for_a_test_split_without_labels(prepared):
    data = load("tfds:jaxae_tiny:withheld", data_dir=prepared)
    assert (data.train.size, data.test.size, data.spec.classes) == (10, 5, 3)
    assert data.test.labels.min() == 0
    assert data.validation is None


def test_validation_images_beside_test_images(prepared):
    data = load("tfds:jaxae_tiny:three", data_dir=prepared)
    sizes = [split.size for split in (data.train, data.validation, data.test)]
    assert sizes == [10, 5, 4]
    places = data.validation.gather(np.arange(5))["image"][:, 0, 0, 0]
    np.testing.assert_array_equal(np.sort(places), np.arange(5))
    np.testing.assert_array_equal(data.validation.labels, places % 3)
    assert data.class_names == tuple(str(2**40 + k) for k in range(3))


def test_mocked_mnist(tmp_path):
    """tfds's own mock, given the metadata that preparing would have written."""
    builder = tfds.builder("mnist", data_dir=tmp_path, file_format="array_record")
    splits = [
        tfds.core.SplitInfo(
            name=name,
            shard_lengths=[12],
            num_bytes=1,
            filename_template=tfds.core.ShardedFileTemplate(
                dataset_name="mnist",
                split=name,
                filetype_suffix="array_record",
                data_dir=builder.data_path,
            ),
        )
        for name in ("train", "test")
    ]
    builder.info.set_splits(tfds.core.splits.SplitDict(splits))
    builder.data_path.mkdir(parents=True)
    builder.info.write_to_directory(builder.data_path)
    with tfds.testing.mock_data(num_examples=12, data_dir=tmp_path):
        data = load("tfds:mnist", data_dir=tmp_path)
        again = load("tfds:mnist", Options(resident_mib=0), tmp_path)
        for split, streamed in zip(data[1:3], again[1:3], strict=True):
            np.testing.assert_array_equal(
                split.arrays["image"], streamed.gather(np.arange(12))["image"]
            )
    assert data.spec.image_shape == (28, 28, 1)
    assert (data.train.size, data.test.size) == (12, 12)
    assert set(data.train.labels) <= set(range(10))


@pytest.mark.parametrize("name", ["mnist", "svhn_cropped"])
def test_an_unprepared_set_is_told_how_to_prepare(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "own"))
    with pytest.raises(DataError) as caught:
        load(f"tfds:{name}", data_dir=tmp_path / "mine")
    for part in ("is not prepared", "/mine/", "pip install tensorflow-cpu", "array_record"):
        assert part in str(caught.value)


def test_an_unknown_set_is_refused(tmp_path):
    with pytest.raises(DataError, match="tfds:no_such_set cannot be opened"):
        load("tfds:no_such_set", data_dir=tmp_path)


def test_a_damaged_record_is_reported(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "copy")
    (path,) = (tmp_path / "copy").glob("jaxae_tiny/whole/1.0.0/*train.array_record*")
    content = bytearray(path.read_bytes())
    place = content.index(b"IHDR")  # inside the first image
    content[place : place + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"record \d+ of .*jaxae_tiny.* is unreadable"):
        load("tfds:jaxae_tiny:whole", data_dir=tmp_path / "copy")
