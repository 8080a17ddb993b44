"""Documents from a known topic model, for which the best possible classifier is known too.

There are `TOPICS` topics over a vocabulary of `WORDS` words. Words have common frequencies
proportional to 1 / (rank + 10), and a topic multiplies each by exp(1.5 g), g standard normal. A
document has one topic, a length uniform in 30..150, and independent words, with probability `SHARE`
from its topic, else from the common frequencies. The posterior of the topic given the counts
follows from Bayes' theorem: `topic_posterior`.
"""

import numpy as np

from jaxae.data.source import Raw, synthetic_bits, synthetic_uniforms

TOPICS, HEIGHT, WIDTH = 20, 20, 20
WORDS = HEIGHT * WIDTH
SHARE = 0.35
_SHORTEST, _LONGEST = 30, 150
_SPREAD = 1.5
_TRAIN, _TEST = 8000, 2000


def topics() -> Raw:
    """8,000 train and 2,000 test documents: counts uint8 `[20,20,1]`, word w at row w // 20.

    256 levels, so that a pixel of a scaled image is its count / 255. The label is the topic. The
    set is a pure function of fixed seeds.
    """
    train, test = documents(_TRAIN, seed=0), documents(_TEST, seed=1)
    return Raw(_pages(train[0]), train[1], _pages(test[0]), test[1], levels=256)


def word_probabilities() -> np.ndarray:
    """`[TOPICS, WORDS]` distribution of a word in a document of each topic."""
    common = 1 / (np.arange(WORDS) + 10)
    common /= common.sum()
    # Box and Muller's normal numbers, since those of numpy may differ between its versions.
    first, second = (
        synthetic_uniforms(TOPICS * WORDS, 7, i).reshape(TOPICS, WORDS) for i in (0, 1)
    )
    normal = np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second)
    special = common * np.exp(_SPREAD * normal)
    special /= special.sum(1, keepdims=True)
    return SHARE * special + (1 - SHARE) * common


def documents(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts `[count, WORDS]` int64 and topics `[count]` int32, a pure function of the seed."""
    labels = (synthetic_bits(count, seed, 0) % np.uint64(TOPICS)).astype(np.int32)
    lengths = _SHORTEST + np.int64(synthetic_uniforms(count, seed, 1) * (_LONGEST + 1 - _SHORTEST))
    owner = np.repeat(np.arange(count), lengths)
    ends = np.cumsum(word_probabilities(), axis=1)
    ends /= ends[:, -1:]
    # One search for all topics: topic k's cumulative probabilities lie in k .. k+1.
    place = labels[owner] + synthetic_uniforms(len(owner), seed, 2)
    word = np.searchsorted((ends + np.arange(TOPICS)[:, None]).ravel(), place) % WORDS
    counts = np.bincount(owner * WORDS + word, minlength=count * WORDS)
    return counts.reshape(count, WORDS), labels


def topic_posterior(counts: np.ndarray) -> np.ndarray:
    """Exact posterior of the topics: counts `[N, WORDS]` -> probabilities `[N, TOPICS]`.

    Two documents d, e have the same topic with probability sum_k p(k|d) p(k|e); no method can rank
    better than by this.
    """
    log = np.asarray(counts, np.float64).reshape(-1, WORDS) @ np.log(word_probabilities()).T
    log -= log.max(1, keepdims=True)
    return np.exp(log) / np.exp(log).sum(1, keepdims=True)


def _pages(counts: np.ndarray) -> np.ndarray:
    return np.minimum(counts, 255).astype(np.uint8).reshape(-1, HEIGHT, WIDTH, 1)
