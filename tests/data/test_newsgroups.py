from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import sklearn.datasets

from jaxae.data import DataError, load
from jaxae.data.newsgroups import WORDS

VOCABULARY = [f"word{i:04d}" for i in range(WORDS)]


def corpus(subset):
    if subset == "test":
        return SimpleNamespace(data=["word0003 word0003 the unseen"], target=[1])
    everything = " ".join(VOCABULARY + VOCABULARY)  # twice: more frequent than anything else
    return SimpleNamespace(data=[everything, "the word0000 " * 300, "rare"], target=[0, 1, 0])


def test_counts_of_the_most_frequent_words(monkeypatch, tmp_path):
    asked = []

    def fetch(data_home, subset, **_):
        asked.append((data_home, subset))
        return corpus(subset)

    monkeypatch.setattr(sklearn.datasets, "fetch_20newsgroups", fetch)
    data = load("newsgroups", data_dir=tmp_path)
    assert asked == [(str(tmp_path / "newsgroups"), half) for half in ("train", "test")]
    assert data.spec.image_shape == (40, 50, 1)
    counts = np.round(255 * np.asarray(next(data.train.examples(3))[0]["image"])).reshape(3, -1)
    np.testing.assert_array_equal(counts[0], 2)
    np.testing.assert_array_equal(counts[1], np.eye(1, WORDS)[0] * 255)  # 300, and a stop word
    np.testing.assert_array_equal(counts[2], 0)
    batch = next(data.test.examples(1))[0]
    counts = np.round(255 * np.asarray(batch["image"])).reshape(-1)
    np.testing.assert_array_equal(counts, 2 * np.eye(WORDS)[3])
    assert batch["label"] == 1


def test_without_a_network_the_message_says_what_to_do(monkeypatch, tmp_path):
    def fetch(**_):
        raise URLError("no route")

    monkeypatch.setattr(sklearn.datasets, "fetch_20newsgroups", fetch)
    with pytest.raises(DataError, match=r"no route.*copy FOLDER.*--data topics"):
        load("newsgroups", data_dir=tmp_path)


def test_a_damaged_copy_is_refused(monkeypatch, tmp_path):
    damaged = SimpleNamespace(data=["few words"], target=[0])
    monkeypatch.setattr(sklearn.datasets, "fetch_20newsgroups", lambda **_: damaged)
    with pytest.raises(DataError, match=r"only 1 words|only 2 words"):
        load("newsgroups", data_dir=tmp_path)
