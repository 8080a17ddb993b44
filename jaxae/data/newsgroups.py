"""20 Newsgroups as word counts: the documents of semantic hashing.

Salakhutdinov & Hinton 2009 have 11,314 train and 7,531 test documents, split by date, and the 2,000
most frequent words without stop words (sizes recalled). The archive that scikit-learn names has one
test document more. scikit-learn counts the words: its list of English stop words is its own, and
words are not stemmed. It does not read the documents, which it would keep as a pickle: whoever can
write that file runs code in whoever loads it.
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
    """Counts uint8 `[40,50,1]` (more than 255 of a word count as 255), label the newsgroup.

    Read from inside `20news-bydate.tar.gz`, which is verified by its SHA-256 and never unpacked.
    Documents are in the order of newsgroups, and within one in that of their file names.

    Args:
        name: of the set, for messages.
        data_dir: the archive is looked for in `<data_dir>/newsgroups`, then in the cache, and
            downloaded if it is missing.
    Raises:
        DataError: it is missing and cannot be downloaded, or it is not what it should be.
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
    """Newsgroup and text of every document, sorted, of both halves; read in memory."""
    found = {half: [] for half in HALVES}
    with tarfile.open(path) as archive:
        for member in archive:
            half, *place = member.name.removeprefix("./").split("/")
            if member.isdir() or half not in found:
                continue
            if not member.isreg() or len(place) != 2 or member.size > _MAX_BYTES:
                raise tarfile.TarError(f"{member.name} is no document of a newsgroup")
            text = archive.extractfile(member).read().decode("latin-1")
            found[half].append((*place, text))
    return [[(group, text) for group, _, text in sorted(found[half])] for half in HALVES]
