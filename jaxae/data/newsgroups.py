"""20 Newsgroups as word counts, through scikit-learn: the documents of semantic hashing.

Salakhutdinov & Hinton 2009 have 11,314 train and 7,531 test documents, split by date, and the 2,000
most frequent words without stop words (sizes recalled). scikit-learn's copy has one test document
more; its list of English stop words is its own, and words are not stemmed.
"""

from pathlib import Path

import numpy as np

from jaxae.data.source import DataError, Raw

HEIGHT, WIDTH = 40, 50
WORDS = HEIGHT * WIDTH


def newsgroups(name: str, data_dir: Path | None) -> Raw:
    """Counts uint8 `[40,50,1]` (more than 255 of a word count as 255), label the newsgroup.

    Args:
        name: of the set, for messages.
        data_dir: scikit-learn's copy is looked for in `<data_dir>/newsgroups` (None: where
            scikit-learn keeps its data), and downloaded there if it is missing.
    Raises:
        DataError: it is missing and cannot be downloaded.
    """
    from sklearn.datasets import fetch_20newsgroups
    from sklearn.feature_extraction.text import CountVectorizer

    home = None if data_dir is None else str(data_dir / name)
    try:
        train, test = (
            fetch_20newsgroups(data_home=home, subset=half, n_retries=1, delay=0)
            for half in ("train", "test")
        )
    except OSError as error:
        raise DataError(
            f"{name}: scikit-learn could not download it ({error}). On a machine with a network "
            "run sklearn.datasets.fetch_20newsgroups(data_home=FOLDER), copy FOLDER to "
            f"{home or 'the scikit-learn data folder'}; or take --data topics, which is generated"
        ) from error
    counter = CountVectorizer(stop_words="english", max_features=WORDS).fit(train.data)
    if len(counter.vocabulary_) != WORDS:
        raise DataError(f"{name}: only {len(counter.vocabulary_)} words; the copy is damaged")

    def pages(documents) -> np.ndarray:
        counts = counter.transform(documents).toarray()
        return np.minimum(counts, 255).astype(np.uint8).reshape(-1, HEIGHT, WIDTH, 1)

    labels = (np.asarray(half.target, np.int32) for half in (train, test))
    train_labels, test_labels = labels
    return Raw(pages(train.data), train_labels, pages(test.data), test_labels, levels=256)
