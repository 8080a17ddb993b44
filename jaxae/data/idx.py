"""MNIST and similar sets: images and labels in gzipped idx files.

The format (http://yann.lecun.com/exdb/mnist): two zero bytes, a type byte (8: uint8), the number
of dimensions, each dimension as a big-endian int32, then the values row by row.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from jaxae.data.download import find
from jaxae.data.source import DataError, Raw

_MAX_BYTES = 2**31


def idx_set(name: str, data_dir: Path | None) -> Raw:
    """`mnist`, `fashion_mnist`, `kmnist`: 60,000 + 10,000 uint8 images `[28,28,1]`, 10 classes.

    Gzipped files, and unzipped ones of `mnist`, are verified by their SHA-256 (`download.find`);
    for other unzipped files only the header and the number of bytes are checked.
    """
    parts = []
    for prefix in ("train", "t10k"):
        image_file = find(name, f"{prefix}-images-idx3-ubyte.gz", data_dir)
        label_file = find(name, f"{prefix}-labels-idx1-ubyte.gz", data_dir)
        images, labels = read_idx(image_file, 3), read_idx(label_file, 1)
        if len(images) != len(labels):
            raise DataError(
                f"{image_file} holds {len(images)} images, {label_file} {len(labels)} labels"
            )
        parts += [images[..., None], labels.astype(np.int32)]
    return Raw(*parts, levels=256)


def padded_idx_set(name: str, data_dir: Path | None) -> Raw:
    """`mnist32`: the set `mnist` with two rows and columns of zeros around each image, `[32,32,1]`,
    for networks that need a power of two."""
    raw = idx_set(name.removesuffix("32"), data_dir)
    train, test = (np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0))) for x in (raw.train, raw.test))
    return raw._replace(train=train, test=test)


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The uint8 array in an idx file, gzipped (by its first two bytes) or plain.

    Raises:
        DataError: not an idx file of bytes with this number of dimensions, truncated, or corrupt.
    """
    try:
        with path.open("rb") as plain:
            zipped = plain.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else path.open("rb") as file:
            header = file.read(4 + 4 * dimensions)
            if header[:4] != bytes([0, 0, 8, dimensions]) or len(header) < 4 + 4 * dimensions:
                raise _unreadable(
                    path, f"its header is not that of {dimensions}-d idx data of bytes"
                )
            shape = struct.unpack(f">{dimensions}I", header[4:])
            size = math.prod(shape)
            if size > _MAX_BYTES:
                raise _unreadable(path, f"its header says {size} bytes")
            # One byte more than expected: detects a longer file, and makes gzip check its CRC.
            content = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, str(error)) from error
    if len(content) != size:
        raise _unreadable(path, f"its header says {size} bytes; it has more, or {len(content)}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _unreadable(path: Path, why: str) -> DataError:
    return DataError(f"{path} is corrupt or not an idx file: {why}. Delete it and fetch it again.")
