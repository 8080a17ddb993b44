"""CIFAR-10 and SVHN from their original files."""

import tarfile
import zlib
from pathlib import Path

import numpy as np

from jaxae.data.download import find, folders
from jaxae.data.source import DataError, Raw

CIFAR_RECORDS = 10_000  # in each file
_CIFAR_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_CIFAR_TEST = "test_batch.bin"
_CIFAR_FOLDER = "cifar-10-batches-bin"
_CIFAR_TAR = "cifar-10-binary.tar.gz"


def cifar10(name: str, data_dir: Path | None) -> Raw:
    """50,000 + 10,000 uint8 images `[32,32,3]`, ten classes (Krizhevsky 2009, binary version).

    Read from the six .bin files in `cifar10/` or `cifar10/cifar-10-batches-bin/`, or directly from
    `cifar-10-binary.tar.gz`. The archive is verified by its SHA-256; for the six files only sizes
    and labels are checked.
    """
    contents = _cifar_files(name, data_dir)
    batches = [_cifar_records(contents[file], file) for file in (*_CIFAR_TRAIN, _CIFAR_TEST)]
    train = [np.concatenate(column) for column in zip(*batches[:-1], strict=True)]
    return Raw(*train, *batches[-1], levels=256)


def svhn_cropped(name: str, data_dir: Path | None) -> Raw:
    """73,257 + 26,032 uint8 images `[32,32,3]` of house-number digits (Netzer et al. 2011).

    From `train_32x32.mat` and `test_32x32.mat`, verified by their SHA-256. The digit 0 has label 10
    in the files and 0 here.
    """
    parts = []
    for file in ("train_32x32.mat", "test_32x32.mat"):
        parts += _svhn_arrays(find(name, file, data_dir))
    return Raw(*parts, levels=256)


def _cifar_files(name: str, data_dir: Path | None) -> dict[str, bytes]:
    wanted = (*_CIFAR_TRAIN, _CIFAR_TEST)
    for root in folders(name, data_dir):
        for folder in (root, root / _CIFAR_FOLDER):
            if all((folder / file).is_file() for file in wanted):
                return {file: (folder / file).read_bytes() for file in wanted}
    path = find(name, _CIFAR_TAR, data_dir)
    try:
        with tarfile.open(path) as archive:
            return {file: _member(archive, f"{_CIFAR_FOLDER}/{file}") for file in wanted}
    except (OSError, EOFError, KeyError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{path} is corrupt: {error}. Delete it and fetch it again.") from error


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    """A member by its exact name, read into memory; links and members of other size are refused."""
    member = archive.getmember(name)
    if not member.isreg() or member.size != CIFAR_RECORDS * 3073:
        raise tarfile.TarError(f"{name} is not a file of {CIFAR_RECORDS * 3073} bytes")
    return archive.extractfile(member).read()


def _cifar_records(content: bytes, file: str) -> tuple[np.ndarray, np.ndarray]:
    """Records of a label byte, then 1,024 red, green and blue values each."""
    if len(content) != CIFAR_RECORDS * 3073:
        raise DataError(
            f"{file} holds {len(content)} bytes, not {CIFAR_RECORDS * 3073}. Fetch it again."
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, 3073)
    labels = records[:, 0].astype(np.int32)
    if labels.max() > 9:
        raise DataError(f"{file} is corrupt: a label is {labels.max()}. Fetch it again.")
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels


def _svhn_arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    from scipy.io import loadmat

    try:
        content = loadmat(path, variable_names=("X", "y"))
        images, labels = content["X"], content["y"].astype(np.int32).reshape(-1)
        if images.dtype != np.uint8 or images.shape != (32, 32, 3, len(labels)):
            raise ValueError(f"X is {images.dtype} {images.shape}, y has {len(labels)} labels")
        if not 1 <= labels.min() <= labels.max() <= 10:
            raise ValueError(f"labels are {labels.min()} to {labels.max()}, not 1 to 10")
    except Exception as error:  # a corrupt file can raise anything in scipy
        raise DataError(f"{path} is corrupt: {error}. Delete it and fetch it again.") from error
    return np.ascontiguousarray(images.transpose(3, 0, 1, 2)), labels % 10
