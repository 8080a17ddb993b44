"""Data sets by name, as batches that are a pure function of (seed, step).

`load("digits")` is real data that needs no file; `describe()` lists the other names.
"""

import difflib
import os
from collections.abc import Callable
from pathlib import Path

from jaxae.data.arrays import from_arrays
from jaxae.data.assemble import Data, assemble
from jaxae.data.binary import cifar10, svhn_cropped
from jaxae.data.digits import digits
from jaxae.data.folder import folder
from jaxae.data.grid25 import grid25
from jaxae.data.idx import idx_set, padded_idx_set
from jaxae.data.lines import line_angles, line_labels, lines, render_lines
from jaxae.data.newsgroups import newsgroups
from jaxae.data.ones_twos import ones_twos
from jaxae.data.source import DataError, DataWarning, Options, check_no_resizing
from jaxae.data.speech import mu_law_decode, mu_law_encode, render_speech, speech, speech_content
from jaxae.data.split import Split
from jaxae.data.tfds_source import tfds_set
from jaxae.data.topics import topics

__all__ = [
    "Data",
    "DataError",
    "DataWarning",
    "Options",
    "Split",
    "describe",
    "from_arrays",
    "line_angles",
    "line_labels",
    "load",
    "mu_law_decode",
    "mu_law_encode",
    "render_lines",
    "render_speech",
    "speech_content",
]

_NAMED: dict[str, tuple[Callable, str]] = {
    "digits": (
        lambda name, data_dir: digits(),
        "1,797 handwritten digits 8x8 (scikit-learn), no download",
    ),
    "lines": (
        lambda name, data_dir: lines(),
        "25,000 radial lines 32x32, generated; continuous pixels (ACAI)",
    ),
    "grid25": (
        lambda name, data_dir: grid25(),
        "110,000 points of 25 Gaussians on a grid in the plane, generated (ALI)",
    ),
    "ones_twos": (
        lambda name, data_dir: ones_twos(),
        "60,000 points of two Gaussians in the plane, generated (IAE)",
    ),
    "topics": (
        lambda name, data_dir: topics(),
        "10,000 documents of 20 topics as word counts 20x20, generated (semantic hashing)",
    ),
    "newsgroups": (newsgroups, "18,846 documents of 20 newsgroups as word counts 40x50"),
    "speech": (
        lambda name, data_dir: speech(),
        "4,500 speech-like signals of eight sounds by four speakers, generated (VQ-VAE)",
    ),
    "mnist": (idx_set, "70,000 handwritten digits 28x28"),
    "mnist32": (padded_idx_set, "the same, padded with zeros to 32x32 (StyleALAE)"),
    "fashion_mnist": (idx_set, "70,000 pieces of clothing 28x28"),
    "kmnist": (idx_set, "70,000 cursive Japanese characters 28x28"),
    "cifar10": (cifar10, "60,000 colour photographs 32x32 of ten kinds"),
    "svhn_cropped": (svhn_cropped, "99,289 colour house-number digits 32x32"),
}
_PATTERNS = {
    "folder:<path>": "your own images: train/, test/ and val/, class folders, or one folder",
    "tfds:<name>[:<config>]": "a set prepared by tensorflow-datasets as array_record",
}


def load(
    name: str,
    options: Options = Options(),  # noqa: B008 - frozen
    data_dir: str | Path | None = None,
) -> Data:
    """A data set by name.

    Args:
        name: one of `describe()`.
        options: preprocessing of the images.
        data_dir: a folder that holds `<name>/<original files>`; by default `$JAXAE_DATA_DIR`. Files
            found neither there nor in the cache (`$JAXAE_CACHE_DIR`) are downloaded.
    Raises:
        DataError: unknown name, missing or corrupt files, or options that do not fit the data.
    """
    folder_name = data_dir or os.environ.get("JAXAE_DATA_DIR")
    root = Path(folder_name).expanduser() if folder_name else None
    kind, _, rest = name.partition(":")
    if kind == "folder" and rest:
        raw = folder(rest, options)
    elif kind == "tfds" and rest:
        raw = tfds_set(rest, options, root)
    elif name in _NAMED:
        check_no_resizing(name, options)
        raw = _NAMED[name][0](name, root)
    else:
        raise DataError(_unknown(name))
    return assemble(name, raw, options)


def describe() -> dict[str, str]:
    """All names and patterns that `load` takes, each with a one-line description."""
    return {name: line for name, (_, line) in _NAMED.items()} | _PATTERNS


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, _NAMED, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"unknown data set {name!r}.{hint} Known: {', '.join(describe())}"
