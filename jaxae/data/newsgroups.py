"""20 Newsgroups as word counts, the data of semantic hashing.

Salakhutdinov & Hinton 2009 have 11,314 train and 7,531 test documents, split by date, and the 2,000
most frequent words without stop words (sizes from memory). The archive that scikit-learn uses has
one test document more. The words are counted by scikit-learn, with its own list of English stop
words and without stemming. Its loader of this set is not used, because it caches the documents as a
pickle, and loading a pickle can run any code.
"""

import tarfile
import zlib
from pathlib import Path

import numpy as np

from jaxae.data.download import find
from jaxae.data.source import DataError, Raw

HEIGHT, WIDTH = 40, 50
WORDS = HEIGHT * WIDTH
ARCHIVE = "20news-bydate.tar.gz"
HALVES = ("20news-bydate-train", "20news-bydate-test")
_MAX_BYTES = 2**22  # of one document


def newsgroups(name: str, data_dir: Path | None) -> Raw:
    """Counts uint8 `[40,50,1]`, clipped at 255; the label is the newsgroup.

    Read directly from `20news-bydate.tar.gz`, which is verified by its SHA-256. Documents are
    ordered by newsgroup, then by file name.

    Args:
        name: name of the set, for messages.
        data_dir: the archive is searched in `<data_dir>/newsgroups`, then in the cache, and
            downloaded if it is missing.
    Raises:
        DataError: the archive cannot be downloaded, or has unexpected contents.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    path = find(name, ARCHIVE, data_dir)
    try:
        halves = _documents(path)
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{path} is corrupt: {error}. Delete it and fetch it again.") from error
    groups = sorted({group for half in halves for group, _ in half})
    texts = [[text for _, text in half] for half in halves]
    if not all(texts):
        raise DataError(f"{path} holds no documents in {' and '.join(HALVES)}")
    counter = CountVectorizer(stop_words="english", max_features=WORDS).fit(texts[0])
    if len(counter.vocabulary_) != WORDS:
        raise DataError(f"{path}: only {len(counter.vocabulary_)} words; {WORDS} are needed")

    def pages(documents: list[str]) -> np.ndarray:
        counts = counter.transform(documents).toarray()
        return np.minimum(counts, 255).astype(np.uint8).reshape(-1, HEIGHT, WIDTH, 1)

    train, test = (
        (pages(text), np.array([groups.index(group) for group, _ in half], np.int32))
        for text, half in zip(texts, halves, strict=True)
    )
    return Raw(*train, *test, levels=256, class_names=groups)


def _documents(path: Path) -> list[list[tuple[str, str]]]:
    """Newsgroup and text of every document of both halves, sorted; read into memory."""
    found = {half: [] for half in HALVES}
    with tarfile.open(path) as archive:
        for member in archive:
            half, *place = member.name.removeprefix("./").split("/")
            if member.isdir() or half not in found:
                continue
            if not member.isreg() or len(place) != 2 or member.size > _MAX_BYTES:
                raise tarfile.TarError(f"{member.name} is not a document of a newsgroup")
            text = archive.extractfile(member).read().decode("latin-1")
            found[half].append((*place, text))
    return [[(group, text) for group, _, text in sorted(found[half])] for half in HALVES]
