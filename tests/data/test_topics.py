import numpy as np
from scipy import stats

from jaxae.data import load
from jaxae.data.topics import TOPICS, WORDS, documents, topic_posterior, word_probabilities


def test_words_follow_their_topics():
    """Counts of all words in all documents of a topic against its distribution."""
    counts, topics = documents(3000, seed=5)
    p = word_probabilities()
    np.testing.assert_allclose(p.sum(1), 1)
    for topic in range(0, TOPICS, 7):
        seen = counts[topics == topic].sum(0)
        often = p[topic] * seen.sum() > 20  # rarer words together
        merge = lambda x, often=often: np.append(x[often], x[~often].sum())
        assert stats.chisquare(merge(seen), merge(p[topic] * seen.sum())).pvalue > 1e-4
    lengths = counts.sum(1)
    assert lengths.min() == 30
    assert lengths.max() == 150
    assert stats.chisquare(np.bincount(topics, minlength=TOPICS)).pvalue > 1e-4
    again, _ = documents(3000, seed=5)
    np.testing.assert_array_equal(counts, again)


def test_posterior_is_bayes_theorem():
    counts, topics = documents(400, seed=6)
    log = np.array(
        [
            [stats.multinomial.logpmf(row, row.sum(), p / p.sum()) for p in word_probabilities()]
            for row in counts[:20]
        ]
    )
    wanted = np.exp(log - log.max(1, keepdims=True))
    wanted /= wanted.sum(1, keepdims=True)
    np.testing.assert_allclose(topic_posterior(counts[:20]), wanted, atol=1e-9)
    # The posterior is calibrated: the best guess is right as often as it says.
    posterior = topic_posterior(counts)
    right = posterior.argmax(1) == topics
    error = np.sqrt((posterior.max(1) * (1 - posterior.max(1))).sum()) / len(counts)
    assert abs(right.mean() - posterior.max(1).mean()) < 5 * error


def test_documents_pass_through_the_image_contract():
    data = load("topics")
    assert data.spec.image_shape == (20, 20, 1)
    assert (data.spec.size, data.spec.classes, data.spec.levels) == (8000, TOPICS, 256)
    counts, topics = documents(8000, seed=0)
    batch = next(data.train.examples(50))[0]
    np.testing.assert_allclose(batch["image"].reshape(50, WORDS) * 255, counts[:50], rtol=1e-6)
    np.testing.assert_array_equal(batch["label"], topics[:50])
