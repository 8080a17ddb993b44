"""The user's own images in a folder: `folder:<path>`."""

import hashlib
import itertools
import os
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxae.data.pictures import SUFFIXES, Header, decode, map_in_threads, read_header
from jaxae.data.source import DataError, DataWarning, Options, Raw, split_holdout

_VALIDATION = (
    "val",
    "valid",
    "validation",
)  # names of the validation folder, in order of preference


class _File(NamedTuple):
    path: Path
    label: str | None  # name of the class folder, or None


class Files:
    """Image files with the interface of an array `[N,H,W,C]` uint8; indexing decodes files."""

    dtype = np.dtype(np.uint8)

    def __init__(self, paths: list[Path], shape: tuple[int, ...], size: int) -> None:
        self.shape = (len(paths), *shape)
        self._paths = paths
        self._size = size

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        images = np.empty((len(indices), *self.shape[1:]), self.dtype)
        for place, image in enumerate(map_in_threads(self._decode, indices)):
            images[place] = image
        return images

    def _decode(self, index: int) -> np.ndarray:
        path = self._paths[index]
        image = decode(path, self._size, grey=self.shape[-1] == 1)
        if image.shape != self.shape[1:]:
            raise DataError(f"{path} has changed since it was first read; restart")
        return image


def folder(path: str, options: Options) -> Raw:
    """PNG, JPEG, BMP, GIF, WebP, TIFF and PPM images below a folder, as uint8.

    Folders `train/`, `test/` and `val/` (or `valid/`, or `validation/`; case is ignored) are the
    splits, and images elsewhere are not read; without `test/` the test images are those of `val/`,
    and there are no validation images. Without these folders a tenth of the images (at least one)
    is for testing: those whose relative paths have the smallest SHA-256, except the last image of
    each class. A folder that holds only `train/` is read as if it were `train/`.

    The class of an image is the first folder below the split, at any depth; with fewer than two
    such folders there are no labels. Hidden files are ignored.

    Images are rotated as EXIF says, and transparent pixels are composited on white. 16-bit pixels
    are reduced to their upper 8 bits. One warning (`DataWarning`) of each kind reports what is not
    read, with a count and the first file: images outside the splits, files with other endings,
    links to folders or to files outside, frames and pages after the first, damaged EXIF, colour
    profiles other than sRGB.

    Raises:
        DataError: no such folder, no images, files of a wrong type or size, or a corrupt file.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise DataError(f"folder:{path}: there is no such folder")
    paths = _image_paths(root.resolve())
    parts, names = _split_files(root, paths)
    every = [file.path for part in parts for file in part]
    headers = map_in_threads(read_header, every)
    _warn_unread(root, every, headers, names)
    if outside := set(paths).difference(every):
        _warn(
            f"{root}: {len(outside)} images lie in no folder of the splits (train, test, "
            f"{' or '.join(_VALIDATION)}) and are not read; the first is {min(outside)}"
        )
    shape = _common_shape(every, headers, options)
    images = [Files([file.path for file in part], shape, options.image_size) for part in parts]
    labels = [_label_numbers(part, names) for part in parts]
    raw = Raw(images[0], labels[0], images[1], labels[1], levels=256, class_names=names)
    if not parts[2]:
        return raw
    return raw._replace(validation=images[2], validation_labels=labels[2])


def images_below(path: str | os.PathLike, options: Options) -> Files:
    """All images below a folder, in the order of their paths, whatever splits they are in.

    Args:
        options: of these `image_size` and `colour`.
    Raises:
        DataError: as `folder`.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise DataError(f"folder:{path}: there is no such folder")
    paths = _image_paths(root.resolve())
    if not paths:
        raise DataError(f"folder:{path} holds no image of these endings: {', '.join(SUFFIXES)}")
    headers = map_in_threads(read_header, paths)
    _warn_unread(root, paths, headers, [])
    return Files(paths, _common_shape(paths, headers, options), options.image_size)


def _image_paths(root: Path) -> list[Path]:
    """Image files below a folder, sorted by relative path; links that lead outside are skipped."""
    found, skipped, others = [], [], []
    for folder, subfolders, files in os.walk(root, onerror=_unlistable):
        here = Path(folder)
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        skipped += [here / name for name in subfolders if (here / name).is_symlink()]
        for name in files:
            path = here / name
            if name.startswith("."):
                continue
            if path.suffix.lower() not in SUFFIXES:
                others.append(path)
            elif path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
                skipped.append(path)
            elif path.is_file():
                found.append(path)
    if skipped:
        _warn(
            f"{root}: {len(skipped)} symbolic links to folders, or out of the folder, are not "
            f"followed; the first is {min(skipped)}"
        )
    if others:
        _warn(
            f"{root}: {len(others)} files without the ending of an image that is read "
            f"({', '.join(SUFFIXES)}) are skipped; the first is {min(others)}"
        )
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def _warn_unread(root: Path, paths: list[Path], headers: list[Header], names: list[str]) -> None:
    """Warns, once for each kind, about contents of the files that are not read."""
    by_note = {}
    for path, header in zip(paths, headers, strict=True):
        for note in header.notes:
            by_note.setdefault(note, []).append(path)
    for note, files in by_note.items():
        _warn(f"{root}: {len(files)} of {len(paths)} images {note}; the first is {min(files)}")
    if len(names) == 1:
        _warn(
            f"{root}: every image lies in the one class folder {names[0]!r}, so there are no "
            "labels; labels need at least two class folders"
        )


def _warn(message: str) -> None:
    warnings.warn(message, DataWarning, stacklevel=3)


def _unlistable(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be listed: {error.strerror}") from error


def _split_files(root: Path, paths: list[Path]) -> tuple[list[list[_File]], list[str]]:
    """Training, test and validation files (possibly none), and the names of the classes."""
    base = root.resolve()
    places = {path: path.relative_to(base).parts for path in paths}
    top = lambda path: places[path][0].lower()
    inside = {top(path) for path in paths if len(places[path]) > 1}
    beside = ["test"] if "test" in inside else []
    beside += [name for name in _VALIDATION if name in inside][:1]
    label = lambda path: places[path][depth] if len(places[path]) > depth + 1 else None
    if "train" in inside and beside:
        parts = [[p for p in paths if top(p) == name] for name in ("train", *beside)]
        depth, named = 1, parts[0]
    else:
        depth, named = int({top(path) for path in paths} == {"train"}), paths
        if len(paths) < 2:
            raise DataError(
                f"folder:{root} holds {len(paths)} images; at least two with one of these endings "
                f"are needed: {', '.join(SUFFIXES)}"
            )
        digest = lambda i: hashlib.sha256(os.fsencode("/".join(places[paths[i]]))).digest()
        ranked = np.array(sorted(range(len(paths)), key=digest))
        classes = np.array([label(path) or "" for path in paths])
        kept, held_out = split_holdout(ranked, max(1, len(paths) // 10), classes)
        parts = [[paths[i] for i in part] for part in (kept, held_out)]
    names = sorted({label(path) for path in named} - {None})
    for path in itertools.chain(*parts):
        if names and label(path) is None:
            raise DataError(f"{path} is in no class folder, but other images are: move it into one")
        if label(path) is not None and label(path) not in names:
            raise DataError(f"{path}: there are no training images of class {label(path)!r}")
    parts += [[]] * (3 - len(parts))
    return [[_File(path, label(path)) for path in part] for part in parts], names


def _common_shape(
    paths: list[Path], headers: list[Header], options: Options
) -> tuple[int, int, int]:
    if options.colour == "auto":
        channels = 1 if all(header.grey for header in headers) else 3
    else:
        channels = 1 if options.colour == "grey" else 3
    if options.image_size:
        return options.image_size, options.image_size, channels
    height, width = headers[0].height, headers[0].width
    for path, header in zip(paths, headers, strict=True):
        if (header.height, header.width) != (height, width):
            raise DataError(
                f"images differ in size: {paths[0]} is {width}x{height}, {path} is "
                f"{header.width}x{header.height}. Resize them with --image-size"
            )
    return height, width, channels


def _label_numbers(files: list[_File], names: list[str]) -> np.ndarray | None:
    if len(names) < 2:
        return None
    number = {name: i for i, name in enumerate(names)}
    return np.array([number[file.label] for file in files], np.int32)
