"""Files of the named data sets: found in the user's folder or in the cache, or downloaded.

Addresses and SHA-256 are those of tensorflow-datasets 4.9.10 (tensorflow_datasets/url_checksums),
for newsgroups those of scikit-learn 1.9 (sklearn/datasets/_twenty_newsgroups.py).
"""

import hashlib
import os
import sys
from pathlib import Path
from typing import NamedTuple

from jaxae.data.source import DataError

_CONNECT_SECONDS, _READ_SECONDS = 5, 15


class _Remote(NamedTuple):
    base: str
    files: dict[str, str]  # name -> SHA-256
    plain: dict[str, str] = {}  # name without .gz -> SHA-256 of the unzipped file
    paths: dict[str, str] = {}  # name -> path in the address, if different
    in_tfds: bool = True  # available there, with the same name
    alternative: str = "digits"  # a similar set that needs no files


REMOTE = {
    "mnist": _Remote(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        {
            "train-images-idx3-ubyte.gz": (
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
            ),
            "train-labels-idx1-ubyte.gz": (
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
            ),
            "t10k-images-idx3-ubyte.gz": (
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
            ),
            "t10k-labels-idx1-ubyte.gz": (
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
            ),
        },
        plain={
            "train-images-idx3-ubyte": (
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
            ),
            "train-labels-idx1-ubyte": (
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
            ),
            "t10k-images-idx3-ubyte": (
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
            ),
            "t10k-labels-idx1-ubyte": (
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
            ),
        },
    ),
    "fashion_mnist": _Remote(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {
            "train-images-idx3-ubyte.gz": (
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
            ),
            "train-labels-idx1-ubyte.gz": (
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
            ),
            "t10k-images-idx3-ubyte.gz": (
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
            ),
            "t10k-labels-idx1-ubyte.gz": (
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
            ),
        },
    ),
    "kmnist": _Remote(
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        {
            "train-images-idx3-ubyte.gz": (
                "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"
            ),
            "train-labels-idx1-ubyte.gz": (
                "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"
            ),
            "t10k-images-idx3-ubyte.gz": (
                "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"
            ),
            "t10k-labels-idx1-ubyte.gz": (
                "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"
            ),
        },
    ),
    "cifar10": _Remote(
        "https://www.cs.toronto.edu/~kriz/",
        {
            "cifar-10-binary.tar.gz": (
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
            ),
        },
    ),
    "svhn_cropped": _Remote(
        "http://ufldl.stanford.edu/housenumbers/",
        {
            "train_32x32.mat": "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
            "test_32x32.mat": "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
        },
    ),
    "newsgroups": _Remote(
        "https://ndownloader.figshare.com/files/",
        {
            "20news-bydate.tar.gz": (
                "8f1b2514ca22a5ade8fbb9cfa5727df95fa587f4c87b786e15c759fa66d95610"
            ),
        },
        paths={"20news-bydate.tar.gz": "5975967"},
        in_tfds=False,
        alternative="topics",
    ),
}


def find(name: str, file: str, data_dir: Path | None) -> Path:
    """The path of one file of a data set; downloaded if it is not found.

    Searched, with and without the ending `.gz`, in `<data_dir>/<name>`, then in the cache. The file
    is verified at every call by its SHA-256: files with `.gz`, and unzipped ones of MNIST. For
    unzipped files of other sets no checksum is known; only their readers check sizes and values.

    Raises:
        DataError: not found and the download failed, or a wrong checksum. The message lists
            remedies.
    """
    remote = REMOTE[name]
    plain = file.removesuffix(".gz")
    for folder in folders(name, data_dir):
        for path in (folder / file, folder / plain):
            if path.is_file():
                _verify(path, remote.files.get(path.name) or remote.plain.get(path.name))
                return path
    url = remote.base + remote.paths.get(file, file)
    try:
        return fetch(url, remote.files[file], cache_dir() / name / file)
    except DataError as error:
        raise DataError(f"{name}: {error}\n{_remedies(name, data_dir)}") from error


def _verify(path: Path, expected: str | None) -> None:
    """Raises DataError if the SHA-256 of a file is not the expected one (None: not known)."""
    if expected is None:
        return
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected:
        raise DataError(
            f"{path} is damaged, or another file of the same name: its SHA-256 is {found}, "
            f"expected {expected}. Delete it; it is then downloaded again. For your own data use "
            "--data folder:<path> or jaxae.data.from_arrays"
        )


def folders(name: str, data_dir: Path | None) -> list[Path]:
    """Folders in which the files of a data set are searched: the user's, then the cache."""
    return [root / name for root in (data_dir, cache_dir()) if root is not None]


def cache_dir() -> Path:
    """`$JAXAE_CACHE_DIR`, or the system's cache folder."""
    chosen = os.environ.get("JAXAE_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("jaxae"))


def fetch(url: str, sha256: str, path: Path) -> Path:
    """Downloads a file atomically: it gets its name only after its checksum is verified.

    Raises:
        DataError: no connection within seconds, a broken connection, or a wrong checksum.
    """
    import pooch

    downloader = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        chunk_size=2**16,
        timeout=(_CONNECT_SECONDS, _READ_SECONDS),
        headers={"Accept-Encoding": "identity"},  # the .gz file itself, not its contents
    )
    try:
        pooch.retrieve(url, f"sha256:{sha256}", path.name, path.parent, downloader=downloader)
    except (OSError, ValueError) as error:
        raise DataError(f"{path.name} could not be downloaded from {url}: {error}") from error
    return path


def _remedies(name: str, data_dir: Path | None) -> str:
    by_hand = " or ".join(str(folder) for folder in folders(name, data_dir))
    if data_dir is None:
        by_hand += f" (or <folder>/{name} with --data-dir <folder> or JAXAE_DATA_DIR=<folder>)"
    remote = REMOTE[name]
    remedies = [f"put these files by hand into {by_hand}: {', '.join(remote.files)}"]
    if remote.in_tfds:
        prepare = f"tfds.builder('{name}', file_format='array_record').download_and_prepare()"
        remedies.append(
            "prepare the set once with tensorflow-datasets and `pip install tensorflow-cpu` "
            f'(python -c "import tensorflow_datasets as tfds; {prepare}"), '
            f"then use --data tfds:{name}"
        )
    remedies.append(f"use --data {remote.alternative}, which needs no files")
    lines = [f"  {number}. {remedy}" for number, remedy in enumerate(remedies, 1)]
    return "\n".join(["What can be done:", *lines])
