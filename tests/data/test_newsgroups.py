"""20 Newsgroups from a tiny archive of the same layout."""

import gzip
import io
import pathlib
import pickle
import tarfile
import zlib

import numpy as np
import pytest

from jaxae.data import DataError, load
from jaxae.data.newsgroups import ARCHIVE, WORDS

VOCABULARY = [f"word{i:04d}" for i in range(WORDS)]
EVERYTHING = " ".join(VOCABULARY + VOCABULARY)  # twice: more frequent than anything else
TRAIN, TEST = "20news-bydate-train", "20news-bydate-test"
DOCUMENTS = {
    f"{TRAIN}/sci.space/60001": "rare, caf\u00e9",
    f"{TRAIN}/alt.atheism/53000": "the word0000 " * 300,
    f"{TRAIN}/alt.atheism/49960": EVERYTHING,
    f"{TEST}/sci.space/61000": "word0003 word0003 the unseen",
}


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch, tmp_path):
    """No file of this machine is found by accident, and nothing is downloaded."""
    monkeypatch.delenv("JAXAE_DATA_DIR", raising=False)
    monkeypatch.setenv("JAXAE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("jaxae.data.download.fetch", _refused)


def _refused(url, *_):
    raise DataError(f"no route to {url}")


@pytest.fixture
def packed(tmp_path, trusted):
    """Writes the archive where it belongs, and has it taken for the real one."""

    def pack(documents=DOCUMENTS, *others):
        folder = tmp_path / "newsgroups"
        folder.mkdir(exist_ok=True)
        with tarfile.open(folder / ARCHIVE, "w:gz") as archive:
            for half in (TRAIN, TEST):
                about = tarfile.TarInfo(half)
                about.type = tarfile.DIRTYPE
                archive.addfile(about)
            for name, text in documents.items():
                about, content = tarfile.TarInfo(name), text.encode("latin-1")
                about.size = len(content)
                archive.addfile(about, io.BytesIO(content))
            for about in others:
                archive.addfile(about)
        trusted("newsgroups", folder)
        return folder / ARCHIVE

    return pack


def test_counts_of_the_most_frequent_words(packed, tmp_path):
    packed()
    data = load("newsgroups", data_dir=tmp_path)
    assert data.spec.image_shape == (40, 50, 1)
    counts = np.round(255 * np.asarray(next(data.train.examples(3))[0]["image"])).reshape(3, -1)
    np.testing.assert_array_equal(counts[0], 2)
    np.testing.assert_array_equal(counts[1], np.eye(1, WORDS)[0] * 255)  # 300, and a stop word
    np.testing.assert_array_equal(counts[2], 0)
    np.testing.assert_array_equal(data.train.labels, [0, 0, 1])
    batch = next(data.test.examples(1))[0]
    counts = np.round(255 * np.asarray(batch["image"])).reshape(-1)
    np.testing.assert_array_equal(counts, 2 * np.eye(WORDS)[3])
    assert batch["label"] == 1


def test_no_pickle_is_opened(packed, tmp_path, monkeypatch):
    """What scikit-learn would read, in each place in which it would look."""
    packed()
    ran = tmp_path / "ran"
    code = pickle.dumps(_Writes(str(ran)))
    pickle.loads(code)
    assert ran.exists()  # it would show
    ran.unlink()
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "home"))
    for folder in (tmp_path / "newsgroups", tmp_path / "home", tmp_path / "cache" / "newsgroups"):
        folder.mkdir(parents=True, exist_ok=True)
        for ending in ("_py3.pkz", ".pkz", ".pkl"):
            (folder / f"20news-bydate{ending}").write_bytes(zlib.compress(code))
    assert load("newsgroups", data_dir=tmp_path).train.size == 3
    (tmp_path / "newsgroups" / ARCHIVE).unlink()
    with pytest.raises(DataError, match="no route"):
        load("newsgroups", data_dir=tmp_path)
    assert not ran.exists()


class _Writes:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path(self.path),)


def test_another_archive_is_refused_unread(packed, tmp_path, monkeypatch):
    path = packed()
    path.write_bytes(gzip.compress(b"something else"))
    monkeypatch.setattr(tarfile, "open", None)
    with pytest.raises(DataError, match=rf"{ARCHIVE} is damaged.* its SHA-256 is \w+, expected"):
        load("newsgroups", data_dir=tmp_path)


def test_what_is_missing_says_what_to_do(tmp_path):
    with pytest.raises(DataError) as caught:
        load("newsgroups", data_dir=tmp_path)
    message = str(caught.value)
    for part in (
        "no route to https://ndownloader.figshare.com/files/5975967",
        f"by hand into {tmp_path}/newsgroups or {tmp_path}/cache/newsgroups: {ARCHIVE}",
        "--data topics, which needs no files",
    ):
        assert part in message
    assert "tfds" not in message


def test_links_and_oversized_members_are_refused(packed, tmp_path):
    link = tarfile.TarInfo(f"{TRAIN}/sci.space/1")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    packed(DOCUMENTS, link)
    with pytest.raises(DataError, match=r"sci\.space/1 is not a document"):
        load("newsgroups", data_dir=tmp_path)
    packed(DOCUMENTS | {f"{TRAIN}/sci.space/2": "x" * (2**22 + 1)})
    with pytest.raises(DataError, match=r"sci\.space/2 is not a document"):
        load("newsgroups", data_dir=tmp_path)


def test_too_few_words_or_none(packed, tmp_path):
    packed({f"{TRAIN}/a/1": "rare words", f"{TEST}/a/1": "more"})
    with pytest.raises(DataError, match="only 2 words; 2000 are needed"):
        load("newsgroups", data_dir=tmp_path)
    packed({f"{TRAIN}/a/1": EVERYTHING})
    with pytest.raises(DataError, match=f"no documents in {TRAIN} and {TEST}"):
        load("newsgroups", data_dir=tmp_path)
