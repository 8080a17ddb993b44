"""Probes against scikit-learn on the digits, and against chance."""

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits

from jaxae.data import from_arrays
from jaxae.evaluation import fit_linear_probe, knn_probe, linear_probe, probe_table, probes
from jaxae.training.state import Model


@pytest.fixture(scope="module")
def digits():
    """train, train_labels, test, test_labels: a quarter held out, stratified, seed 0."""
    pixels, labels = load_digits(return_X_y=True)
    parts = train_test_split(pixels, labels, test_size=0.25, stratify=labels, random_state=0)
    train, test, train_labels, test_labels = parts
    return train, train_labels, test, test_labels


def test_linear_probe_on_raw_digits(digits):
    train, train_labels, test, test_labels = digits
    found = fit_linear_probe(*digits)
    mean, deviation = train.mean(0), np.where(train.std(0) > 0, train.std(0), 1)
    reference = LogisticRegression(C=1 / (found["penalty"] * len(train)), max_iter=5000, tol=1e-6)
    with threadpool_limits(1):
        reference.fit((train - mean) / deviation, train_labels)
    expected = reference.score((test - mean) / deviation, test_labels)
    assert found["converged"] is True
    assert abs(found["accuracy"] - expected) < 0.005
    assert abs(found["accuracy"] - 0.969) < 0.01  # known of these pixels
    assert linear_probe(*digits) == found["accuracy"]


def test_the_penalty_is_the_best_on_the_held_out_fifth():
    """Noisy labels of which 30 columns say nothing; every penalty is fitted and scored again."""
    rng = np.random.default_rng(5)
    x, seen = rng.normal(size=(300, 40)), []
    labels = (x[:, :10].sum(1) + rng.normal(size=300) > 0).astype(int)
    x = (x - x.mean(0)) / x.std(0)
    order = np.random.default_rng(0).permutation(300)
    held, used = order[:60], order[60:]
    for penalty in probes.PENALTIES:
        fit = LogisticRegression(C=1 / (penalty * 240), max_iter=5000, tol=1e-6)
        seen.append(fit.fit(x[used], labels[used]).score(x[held], labels[held]))
    assert sorted(seen)[-1] > sorted(seen)[-2]  # one alone is the best
    best = probes.PENALTIES[int(np.argmax(seen))]
    assert best != probes.PENALTIES[0]
    assert fit_linear_probe(x, labels, x, labels)["penalty"] == best


def test_an_unfinished_fit_is_reported_and_not_warned_of(digits, monkeypatch):
    monkeypatch.setattr(probes, "ITERATIONS", 2)
    assert fit_linear_probe(*digits)["converged"] is False


def test_scale_and_constant_dimensions_do_not_matter(digits):
    train, train_labels, test, test_labels = digits
    stretch = np.linspace(0.01, 100, 64)
    other = linear_probe(3 + train * stretch, train_labels, test * stretch + 3, test_labels)
    assert abs(other - linear_probe(*digits)) < 0.005


@pytest.mark.parametrize("k", [1, 5])
def test_knn_is_scikit_learns_up_to_ties(digits, k):
    train, train_labels, test, test_labels = digits
    reference = KNeighborsClassifier(k, algorithm="brute").fit(train, train_labels)
    share = np.sort(reference.predict_proba(test), axis=1)
    drawn = np.mean(share[:, -1] == share[:, -2]) if k > 1 else 0.0
    found = knn_probe(*digits, k=k, batch_size=128)
    assert abs(found - reference.score(test, test_labels)) <= drawn + 1e-9
    assert drawn < 0.02


def test_a_drawn_vote_goes_to_the_nearest():
    rows = np.array([[0.0], [1.0], [1.1], [0.1], [9.0]])
    labels = np.array([7, 3, 3, 7, 5])
    # From -0.5: 7 7 3 3 of four. From 1.6: 3 3 7 7. From 9 with three voters: 5 3 3.
    assert knn_probe(rows, labels, np.array([[-0.5], [1.6]]), np.array([7, 3]), k=4) == 1.0
    assert knn_probe(rows, labels, np.array([[9.0]]), np.array([3]), k=3) == 1.0


def test_permuted_labels_give_chance(digits):
    train, train_labels, test, test_labels = digits
    shuffled = np.random.default_rng(0).permutation(train_labels)
    error = np.sqrt(0.1 * 0.9 / len(test))
    for accuracy in (linear_probe(train, shuffled, test, test_labels),
                     knn_probe(train, shuffled, test, test_labels)):  # fmt: skip
        assert abs(accuracy - 0.1) < 5 * error


def test_one_class_is_refused():
    codes, labels = np.zeros((4, 2)), np.zeros(4, int)
    with pytest.raises(ValueError, match="two classes"):
        linear_probe(codes, labels, codes, labels)


def scaled_pixels(state, x, rng):
    """A code that is the image times the state: the pixels themselves, or nothing."""
    return state * x.reshape(x.shape[0], -1)


def as_data(digits, labels=True):
    train, train_labels, test, test_labels = digits
    images = lambda pixels: pixels.reshape(-1, 8, 8).astype(np.uint8)
    if not labels:
        return from_arrays(images(train), None, images(test), levels=17)
    return from_arrays(images(train), train_labels, images(test), test_labels, levels=17)


def table(model, data, **limits):
    """The table of state 1, with 0 as the untrained state."""
    one, zero = np.float32([1, 0])
    return probe_table(model, one, zero, data, batch_size=64, rng=jax.random.key(0), **limits)


def test_table_of_a_code_that_is_the_pixels(digits):
    model = Model(None, None, None, encode=scaled_pixels)
    found = table(model, as_data(digits), train_limit=600, limit=200)
    assert found["codes"] == found["raw_pixels"]
    assert found["codes"]["linear_accuracy"] > 0.93
    assert found["codes"]["knn_accuracy"] > 0.93
    # Equal codes for all images leave a probe nothing but the frequencies of the classes.
    assert found["untrained_encoder"]["linear_accuracy"] < 0.2
    assert found["untrained_encoder"]["knn_accuracy"] < 0.2
    assert (found["train_examples"], found["test_examples"], found["knn_k"]) == (600, 200, 5)
    assert found["why_none"] is None


def test_what_cannot_be_probed_is_none_with_a_reason(digits):
    model = Model(None, None, None, encode=scaled_pixels)
    unlabelled = table(model, as_data(digits, labels=False))
    assert unlabelled["codes"] is unlabelled["raw_pixels"] is None
    assert unlabelled["why_none"] == "the data has no labels"
    no_encoder = table(Model(None, None, None), as_data(digits), train_limit=100, limit=50)
    assert no_encoder["codes"] is no_encoder["untrained_encoder"] is None
    assert no_encoder["raw_pixels"]["knn_accuracy"] > 0.7
    assert no_encoder["why_none"] == "the model has no encoder"
