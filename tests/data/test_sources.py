"""Named sources: what they hold, and what they say about broken files."""

import gzip
import io
import struct
import subprocess
import sys
import tarfile

import numpy as np
import pytest

import jaxae.data.binary as binary
from jaxae.data import DataError, Options, describe, line_angles, line_labels, load, render_lines
from jaxae.data.idx import read_idx

PI = np.pi


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch, tmp_path):
    """No file of this machine is found by accident, and nothing is downloaded."""
    monkeypatch.delenv("JAXAE_DATA_DIR", raising=False)
    monkeypatch.setenv("JAXAE_CACHE_DIR", str(tmp_path / "cache"))


def test_importing_loads_no_data_library():
    heavy = "sklearn", "tensorflow_datasets", "PIL", "pooch", "scipy.io", "requests"
    code = f"import sys, jaxae.data; print([m for m in {heavy} if m in sys.modules])"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"


def test_an_unknown_name_is_answered_with_the_nearest_one():
    with pytest.raises(DataError, match=r"'mnits'.*Did you mean mnist\?.*digits, lines"):
        load("mnits")
    with pytest.raises(DataError, match="unknown data set 'folder:'"):
        load("folder:")
    assert {"digits", "lines", "mnist", "folder:<path>"} <= describe().keys()


def test_resizing_what_is_not_resized_is_refused():
    with pytest.raises(DataError, match="digits: image_size works with folder"):
        load("digits", Options(image_size=16))


def test_digits_are_those_of_sklearn():
    from sklearn.datasets import load_digits

    data = load("digits")
    assert (data.train.size, data.test.size) == (1437, 360)
    assert (data.spec.image_shape, data.spec.levels, data.spec.classes) == ((8, 8, 1), 17, 10)
    pixels, labels = load_digits(return_X_y=True)
    ours = np.concatenate([s.arrays["image"].reshape(-1, 64) for s in (data.train, data.test)])
    numbers = np.concatenate([data.train.labels, data.test.labels])
    rows = lambda x, y: sorted(map(bytes, np.column_stack([x, y]).astype(np.uint8)))
    assert rows(ours, numbers) == rows(pixels, labels)
    # Stratified: each class has 360/1797 of its members in the test set, to within one.
    share = np.bincount(labels) * 360 / 1797
    assert (np.abs(np.bincount(data.test.labels) - share) < 1).all()
    assert float(data.train.batch(0, 0, 100)["image"].max()) == 1.0


# --- lines ---

GOLDEN = [  # from the original renderer: angle, mass, sum of squares, rows, columns, centroid
    (0, 30, 30, (15, 16), (16, 30), (15.5, 23)),
    (PI / 6, 26, 21.582690, (8, 17), (16, 28), (12.3246, 22)),
    (PI / 2, 30, 30, (1, 15), (15, 16), (8, 15.5)),
    (5 * PI / 7, 23.454944, 19.487626, (4, 15), (5, 15), (9.6278, 10.0196)),
    (PI, 30, 30, (15, 16), (1, 15), (15.5, 8)),
    (3 * PI / 2, 30, 30, (16, 30), (15, 16), (23, 15.5)),
]


@pytest.mark.parametrize(("angle", "mass", "squares", "rows", "columns", "centroid"), GOLDEN)
def test_lines_have_the_golden_values(angle, mass, squares, rows, columns, centroid):
    image = (render_lines(np.array([angle]))[0] + 1) / 2
    np.testing.assert_allclose([image.sum(), np.square(image).sum()], [mass, squares], atol=1e-6)
    for axis, ends, middle in zip((1, 0), (rows, columns), centroid, strict=True):
        profile = image.sum(axis)
        assert tuple(np.flatnonzero(profile > 1e-9)[[0, -1]]) == ends
        assert profile @ np.arange(32) / mass == pytest.approx(middle, abs=1e-4)


def by_the_rule(angle):
    """One line, pixel by pixel, in the steps of the original (brain-research/acai: lib/data.py)."""
    x0, y0, x1, y1 = 16.0, 16.0, 16 + 15 * np.cos(-angle), 16 + 15 * np.sin(-angle)
    flat = abs(y0 - y1) < abs(x0 - x1)
    if flat:
        x0, y0, x1, y1 = y0, x0, y1, x1
    if y1 < y0:
        x0, y0, x1, y1 = x1, y1, x0, y0
    x0, x1 = x0 - 1, x1 - 1
    slope = (x1 - x0) / (y1 - y0)
    image = np.zeros((32, 32))
    for y in range(int(np.floor(y0)), int(np.ceil(y1))):
        weight = np.ceil(y0) - y0 if y < np.ceil(y0) else 1
        start = x0 + (y - y0 - 0.5) * slope
        end = start + 2
        for x in range(int(np.ceil(start)), int(np.floor(end))):
            image[y, x] += 2 * weight
        if start != np.floor(start):
            image[y, int(np.floor(start))] += 2 * weight * (np.ceil(start) - start)
        if end != np.floor(end):
            image[y, int(np.floor(end))] += 2 * weight * (end - np.floor(end))
    return np.clip((image.T if flat else image) - 1, -1, 1)


def test_lines_agree_with_the_pixelwise_algorithm():
    angles = line_angles(200, seed=5)
    want = np.stack([by_the_rule(angle) for angle in angles])
    np.testing.assert_allclose(render_lines(angles), want, atol=1e-9)


def test_ten_thousand_lines_have_the_statistics_of_the_paper():
    images = render_lines(line_angles(10_000, seed=3))
    mass = ((images + 1) / 2).sum((1, 2))
    assert images.mean() == pytest.approx(-0.946467, abs=5 * 2.607 * 2 / 1024 / 100)
    assert mass.mean() == pytest.approx(27.409, abs=5 * 2.607 / 100)
    assert mass.std() == pytest.approx(2.607, abs=0.05)
    assert images.var(0).mean() == pytest.approx(0.08036, abs=5e-4)


def test_line_angles_are_uniform_and_labels_are_tenths():
    angles = line_angles(10_000, seed=0)
    assert 0 <= angles.min() < angles.max() < 2 * PI
    counts = np.bincount(line_labels(angles), minlength=10)
    assert (np.abs(counts - 1000) < 5 * np.sqrt(900)).all()
    np.testing.assert_array_equal(
        line_labels([0, 0.6, 0.63, PI, 6.28318, 2 * PI]), [0, 0, 1, 5, 9, 9]
    )
    np.testing.assert_array_equal(angles, line_angles(10_000, seed=0))
    assert (angles != line_angles(10_000, seed=1)).any()


@pytest.mark.parametrize("name", ["lines", "grid25", "ones_twos", "topics", "speech"])
def test_a_batch_of_generated_data_is_of_all_kinds(name):
    """What makes the data comes from the generator that also shuffles the epochs."""
    train = load(name).train
    count = np.bincount(train.labels) / train.size
    for epoch in range(4):  # the first batch of each
        rows = train.batch_indices(0, epoch * (train.size // 500), 500)
        shares = np.bincount(train.labels[rows], minlength=len(count)) / 500
        assert np.abs(shares - count).max() < 5 * np.sqrt(count.max() / 500)


def test_lines_data_set():
    data = load("lines")
    assert (data.train.size, data.test.size) == (20_000, 5_000)
    assert (data.spec.image_shape, data.spec.levels, data.spec.classes) == ((32, 32, 1), 0, 10)
    images = data.test.arrays["image"]
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0, 1)
    angles = line_angles(5_000, seed=1)[4_000:]
    np.testing.assert_allclose(
        images[4_000:, ..., 0], (render_lines(angles) + 1) / 2, rtol=0, atol=1e-7
    )
    np.testing.assert_array_equal(data.test.labels[4_000:], line_labels(angles))


# --- idx ---


def idx(array):
    return (
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


@pytest.fixture
def idx_folder(tmp_path, trusted):
    """A tiny MNIST: 6 and 3 images 2x2, some files gzipped and some not."""
    folder = tmp_path / "files" / "mnist"
    folder.mkdir(parents=True)
    for part, count, zipped in (("train", 6, True), ("t10k", 3, False)):
        images = np.arange(count * 4, dtype=np.uint8).reshape(count, 2, 2)
        for kind, array in (
            ("images-idx3", images),
            ("labels-idx1", np.arange(count, dtype=np.uint8)),
        ):
            name = f"{part}-{kind}-ubyte"
            (folder / (name + ".gz" if zipped else name)).write_bytes(
                gzip.compress(idx(array)) if zipped else idx(array)
            )
    trusted("mnist", folder)
    return folder


def test_idx_files_gzipped_or_not(idx_folder, monkeypatch):
    data = load("mnist", data_dir=idx_folder.parent)
    np.testing.assert_array_equal(data.train.arrays["image"].ravel(), np.arange(24))
    np.testing.assert_array_equal(data.test.labels, [0, 1, 2])
    assert data.spec.levels == 256
    monkeypatch.setenv("JAXAE_DATA_DIR", str(idx_folder.parent))
    assert load("mnist").train.size == 6
    monkeypatch.delenv("JAXAE_DATA_DIR")
    monkeypatch.setenv("JAXAE_CACHE_DIR", str(idx_folder.parent))
    assert load("mnist").train.size == 6


def test_mnist32_has_two_zeros_on_every_side(idx_folder):
    image = load("mnist32", data_dir=idx_folder.parent).train.arrays["image"]
    assert image.shape == (6, 6, 6, 1)
    np.testing.assert_array_equal(image[:, 2:4, 2:4].ravel(), np.arange(24))
    assert image.sum() == np.arange(24).sum()


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


GOOD = idx(np.arange(8, dtype=np.uint8).reshape(2, 2, 2))
BROKEN = {
    "empty": b"",
    "short header": GOOD[:10],
    "cut short": GOOD[:-1],
    "too long": GOOD + b"\0",
    "another type": flipped(GOOD, 2),
    "another rank": idx(np.zeros(3, np.uint8)),
    "sizes beyond the file": GOOD[:4] + b"\xff" * 12 + GOOD[16:],
    "gzip cut short": gzip.compress(GOOD)[:-9],
    "gzip with a wrong checksum": flipped(gzip.compress(GOOD), -6),
    "gzip with a broken stream": gzip.compress(GOOD)[:10] + b"\xff" * 20,
    "gzip of too much": gzip.compress(GOOD + bytes(1000)),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_idx_file_is_named(content, tmp_path):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz is corrupt or not an idx"):
        read_idx(path, 3)


def test_numbers_of_images_and_labels_must_agree(idx_folder, trusted):
    (idx_folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(2, np.uint8)))
    trusted("mnist", idx_folder)
    with pytest.raises(DataError, match=r"holds 3 images, .* 2 labels"):
        load("mnist", data_dir=idx_folder.parent)


@pytest.mark.mnist
def test_real_mnist(data_dir):
    data = load("mnist", data_dir=data_dir)
    assert (data.train.size, data.test.size) == (60_000, 10_000)
    assert data.spec.image_shape == (28, 28, 1)
    # The well-known mean and deviation of the training pixels.
    assert data.spec.mean.mean() == pytest.approx(0.1307, abs=5e-5)
    assert data.train.arrays["image"].std() / 255 == pytest.approx(0.3081, abs=5e-5)
    np.testing.assert_array_equal(data.train.labels[:5], [5, 0, 4, 1, 9])
    np.testing.assert_array_equal(
        np.bincount(data.test.labels), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    )


# --- cifar10, svhn ---


@pytest.fixture
def cifar_files(monkeypatch):
    """Four records in each of the six files: image k of a file is its label, plus the channel."""
    monkeypatch.setattr(binary, "CIFAR_RECORDS", 4)
    record = lambda label: bytes([label]) + b"".join(bytes([label + c]) * 1024 for c in range(3))
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    return {name: b"".join(record((i + k) % 8) for k in range(4)) for i, name in enumerate(names)}


def check_cifar(data):
    assert (data.train.size, data.test.size) == (20, 4)
    image, labels = data.train.arrays["image"], data.train.labels
    np.testing.assert_array_equal(labels, [(i + k) % 8 for i in range(5) for k in range(4)])
    want = labels[:, None, None, None] + np.arange(3)
    np.testing.assert_array_equal(image, np.broadcast_to(want, (20, 32, 32, 3)))
    np.testing.assert_array_equal(data.test.labels, [5, 6, 7, 0])


def tarred(path, files, **members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in members.values():
            archive.addfile(info)


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-bin"])
def test_cifar_from_a_folder(cifar_files, tmp_path, inner):
    (tmp_path / "cifar10" / inner).mkdir(parents=True)
    for name, content in cifar_files.items():
        (tmp_path / "cifar10" / inner / name).write_bytes(content)
    check_cifar(load("cifar10", data_dir=tmp_path))
    (tmp_path / "cifar10" / inner / "data_batch_3.bin").write_bytes(b"0" * 100)
    with pytest.raises(DataError, match=r"data_batch_3.bin holds 100 bytes"):
        load("cifar10", data_dir=tmp_path)


def test_cifar_from_the_archive(cifar_files, tmp_path, trusted):
    path = tmp_path / "cifar10" / "cifar-10-binary.tar.gz"
    tarred(path, cifar_files)
    trusted("cifar10", path.parent)
    check_cifar(load("cifar10", data_dir=tmp_path))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"cifar-10-binary.tar.gz is damaged"):
        load("cifar10", data_dir=tmp_path)
    trusted("cifar10", path.parent)
    with pytest.raises(DataError, match=r"cifar-10-binary.tar.gz is corrupt"):
        load("cifar10", data_dir=tmp_path)


def test_a_link_in_the_archive_is_not_followed(cifar_files, tmp_path, trusted):
    del cifar_files["test_batch.bin"]
    link = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    tarred(tmp_path / "cifar10" / "cifar-10-binary.tar.gz", cifar_files, link=link)
    trusted("cifar10", tmp_path / "cifar10")
    with pytest.raises(DataError, match=r"test_batch.bin is not a file"):
        load("cifar10", data_dir=tmp_path)


def test_svhn_has_ten_as_zero(tmp_path, trusted):
    from scipy.io import savemat

    images = np.arange(32 * 32 * 3 * 3, dtype=np.int64).astype(np.uint8).reshape(32, 32, 3, 3)
    labels = np.uint8([[1], [10], [9]])
    (tmp_path / "svhn_cropped").mkdir()
    for part in ("train", "test"):
        savemat(tmp_path / "svhn_cropped" / f"{part}_32x32.mat", {"X": images, "y": labels})
    with pytest.raises(DataError, match=r"train_32x32.mat is damaged"):
        load("svhn_cropped", data_dir=tmp_path)
    trusted("svhn_cropped", tmp_path / "svhn_cropped")
    data = load("svhn_cropped", data_dir=tmp_path)
    assert data.class_names == ("0", "1", "9")
    np.testing.assert_array_equal(data.train.labels, [1, 0, 2])
    np.testing.assert_array_equal(data.train.arrays["image"][2], images[..., 2])
    (tmp_path / "svhn_cropped" / "test_32x32.mat").write_bytes(b"no such thing" * 20)
    trusted("svhn_cropped", tmp_path / "svhn_cropped")
    with pytest.raises(DataError, match=r"test_32x32.mat is corrupt"):
        load("svhn_cropped", data_dir=tmp_path)
    savemat(tmp_path / "svhn_cropped" / "test_32x32.mat", {"X": images, "y": labels + 1})
    trusted("svhn_cropped", tmp_path / "svhn_cropped")
    with pytest.raises(DataError, match="not 1 to 10"):
        load("svhn_cropped", data_dir=tmp_path)
