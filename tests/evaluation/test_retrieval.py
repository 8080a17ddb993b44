import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

from jaxae.data import from_arrays
from jaxae.evaluation import retrieval
from jaxae.training.state import Model, State

generator = np.random.default_rng(0)
# Two queries among items at distances 0..3: how many, and how many of them are relevant.
ITEMS = np.array([[2, 3, 0, 1], [0, 1, 4, 1]])
RELEVANT = np.array([[1, 2, 0, 0], [0, 0, 3, 1]])


def orders(items, relevant):
    """Every order of the equally far, as rows of 0 and 1, nearest first."""
    groups = [
        sorted(set(itertools.permutations([1] * r + [0] * (n - r))))
        for n, r in zip(items, relevant, strict=True)
    ]
    return np.array([sum(choice, ()) for choice in itertools.product(*groups)])


def test_average_precision_is_the_mean_over_all_orders_of_the_equally_far():
    found = retrieval.average_precision(ITEMS, RELEVANT)
    for q in range(2):
        each = [
            average_precision_score(order, -np.arange(len(order)))
            for order in orders(ITEMS[q], RELEVANT[q])
        ]
        np.testing.assert_allclose(found[q], np.mean(each), rtol=1e-12)
    nothing = retrieval.average_precision(ITEMS, np.zeros_like(ITEMS))
    np.testing.assert_array_equal(nothing, 0)


def test_precision_and_recall_of_lists_are_means_over_all_orders():
    for length in range(1, 7):
        precision, recall = retrieval.precision_recall(ITEMS, RELEVANT, length)
        for q in range(2):
            hits = np.mean([order[:length].sum() for order in orders(ITEMS[q], RELEVANT[q])])
            np.testing.assert_allclose(precision[q], hits / length)
            np.testing.assert_allclose(recall[q], hits / RELEVANT[q].sum())
    recall, precision = retrieval.curve(ITEMS, RELEVANT)
    lengths = [retrieval.precision_recall(ITEMS, RELEVANT, n) for n in (1, 2, 4, 6)]
    np.testing.assert_allclose(precision, [p.mean() for p, _ in lengths])
    np.testing.assert_allclose(recall, [r.mean() for _, r in lengths])
    assert recall[-1] == 1


def test_scores_by_hand():
    """Within radius 0 the first query finds 2 items, 1 right; the second none, which counts 0."""
    found = retrieval.scores(ITEMS, RELEVANT, radius=0)
    assert found["precision_in_ball"] == 0.25
    assert found["empty_balls"] == 0.5
    assert found["items_in_ball"] == 1
    np.testing.assert_allclose(found["precision_at_6"], (3 / 6 + 4 / 6) / 2)
    assert found["recall_at_6"] == 1


def test_counts_by_distance():
    codes, queries = generator.integers(0, 2, (300, 9)), generator.integers(0, 2, (60, 9))
    labels, wanted = generator.integers(0, 4, 300), generator.integers(0, 4, 60)
    items, relevant = retrieval.counts_by_distance(queries, codes, wanted, labels)
    for q in range(60):
        far = (codes != queries[q]).sum(1)
        same = labels == wanted[q]
        np.testing.assert_array_equal(items[q], [np.sum(far == d) for d in range(10)])
        np.testing.assert_array_equal(relevant[q], [np.sum(same & (far == d)) for d in range(10)])


def test_hyperplanes_tell_the_angle():
    """Two vectors at an angle t differ in a share t / pi of the bits (Charikar 2002)."""
    t, bits = 1.0, 40_000
    x = np.array([[1, 0], [np.cos(t), np.sin(t)], [-1, 0], [-np.cos(t), -np.sin(t)]])
    (train,) = retrieval.random_hyperplanes(x, bits=bits)
    assert train.shape == (4, bits)
    error = np.sqrt(t / np.pi * (1 - t / np.pi) / bits)
    assert abs(np.mean(train[0] != train[1]) - t / np.pi) < 5 * error
    assert (train[0] != train[2]).all()
    again, other = retrieval.random_hyperplanes(x, x[:2] + 5, bits=bits)
    np.testing.assert_array_equal(train, again)
    assert other.shape == (2, bits)


def constant_model(encode) -> tuple[Model, State]:
    return Model(None, None, None, encode=encode), State(jnp.int32(0), {}, {}, {})


def test_the_table_asks_only_models_whose_codes_are_bits(tmp_path):
    """Bits that are the label's own binary digits find nothing but relevant items."""
    labels = np.arange(64) % 4
    image = np.repeat(labels[:, None], 4, axis=1).astype(np.uint8).reshape(64, 2, 2, 1)
    data = from_arrays(image, labels, image[:8], labels[:8], levels=4)

    def digits_of(state, x, rng):
        label = jnp.round(x[:, 0, 0, 0] * 3).astype(jnp.int32)
        return jnp.stack([label & 1, label >> 1, 1 - (label & 1), 1 - (label >> 1)], 1) * 1.0

    ask = lambda encode, data=data: retrieval.retrieval_table(
        *constant_model(encode), data, batch_size=8, rng=jax.random.key(0)
    )
    found = ask(digits_of)
    assert found["codes"]["mean_average_precision"] == pytest.approx(1)
    assert found["codes"]["items_in_ball"] == 48  # its own 16, and two labels at two bits
    assert found["codes"]["precision_in_ball"] == pytest.approx(1 / 3)
    assert (found["bits"], found["queries"], found["collection"]) == (4, 8, 64)
    assert 0 < found["random_hyperplanes"]["mean_average_precision"] <= 1
    assert ask(lambda state, x, rng: x.reshape(len(x), -1)) is None
    assert ask(digits_of, from_arrays(image)) is None
    pairs = (ITEMS, RELEVANT), (ITEMS, ITEMS)
    curves = {name: retrieval.curve(*pair) for name, pair in zip("ab", pairs, strict=True)}
    path = retrieval.draw_precision_recall(curves, tmp_path / "curves.png")
    with Image.open(path) as drawn:
        assert np.asarray(drawn.convert("L")).std() > 0
