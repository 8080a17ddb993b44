"""Everything runs where jax is set to 64 bits, as users of other libraries have it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jaxae import evaluation, nets
from jaxae.data import load
from jaxae.nets import orderings

DATA = tiny.images(size=32)


@pytest.fixture(autouse=True, scope="module")
def _x64():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def finite(tree) -> bool:
    """Whether all numbers are; words beside them say what was measured."""
    numbers = [leaf for leaf in jax.tree.leaves(tree) if not isinstance(leaf, str)]
    return all(np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in numbers)


@pytest.mark.parametrize("variant", [*tiny.FIRST, "acn pixelcnn", "acn unique", "vqvae gradient"])
def test_every_model_steps_and_does_all_that_it_can(variant):
    model = tiny.make(variant, DATA)
    batch, _ = next(DATA.train.examples(tiny.BATCH))
    keys = iter(jax.random.split(jax.random.key(0), 20))
    state = jax.jit(model.init)(next(keys))
    after, metrics = jax.jit(model.step)(state, batch, next(keys))
    # A scan over steps takes nothing else, and a checkpoint that is restored neither.
    chex.assert_trees_all_equal_shapes_and_dtypes(state, after)
    assert finite((after.params, metrics))
    x = batch["image"]
    if model.encode is not None and model.decode is not None:
        both = lambda state, x, a, b: model.decode(state, model.encode(state, x, a), b)
        assert finite(jax.jit(both)(after, x, next(keys), next(keys)))
    if model.sample is not None:
        assert finite(jax.jit(model.sample, static_argnums=2)(after, next(keys), 2))
    if model.prior is not None:
        assert finite(model.prior(next(keys), 2))
    if model.refresh is not None:
        after = jax.jit(model.refresh)(after, batch, next(keys))
        chex.assert_trees_all_equal_shapes_and_dtypes(state, after)
    for name in ("posterior", "predict", "log_weight", "daydream", "restore"):
        if getattr(model, name) is not None:
            assert finite(jax.jit(getattr(model, name))(after, x, next(keys)))
    if model.mix is not None:
        assert finite(jax.jit(model.mix)(after, x, x[::-1], next(keys)))
    if model.assess is not None:
        assert finite(list(model.assess(after, DATA, next(keys)).values()))
    assert finite(jax.jit(model.evaluate)(after, batch, next(keys)))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_nearest_rows_against_brute_force(kind):
    """Rows that differ by 1e-9 of their size are told apart where they are of 64 bits."""
    rng = np.random.default_rng(0)
    rows = 1000 + np.float64([1.0 if kind == np.float32 else 1e-6]) * rng.normal(size=(300, 5))
    rows = rows.astype(kind)
    found, far = jax.jit(lambda q, r: nets.nearest(q, r, 4, np.arange(7), block=64))(rows[:7], rows)
    squares = np.square(np.float64(rows[:7])[:, None] - np.float64(rows)[None]).sum(-1)
    squares[np.arange(7), np.arange(7)] = np.inf
    wanted = np.argsort(squares, axis=1, kind="stable")[:, :4]
    assert (found.dtype, far.dtype) == (jnp.int32, kind)
    np.testing.assert_array_equal(found, wanted)
    rounding = 10 * np.finfo(kind).eps
    np.testing.assert_allclose(far, np.take_along_axis(squares, wanted, 1), rtol=rounding)


def clustered(kind):
    """Codes of three kinds far apart, and their labels: of 60 to train on and 30 to test on."""
    rng, labels = np.random.default_rng(0), np.arange(90) % 3
    codes = (10 * np.eye(3)[labels] + rng.normal(size=(90, 3))).astype(kind)
    return codes[:60], labels[:60], codes[60:], labels[60:]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_measures_of_codes(kind):
    train, train_labels, test, test_labels = clustered(kind)
    key = iter(jax.random.split(jax.random.key(0), 5))
    assert evaluation.knn_probe(train, train_labels, test, test_labels) > 0.95
    assert evaluation.linear_probe(train, train_labels, test, test_labels) > 0.95
    assert evaluation.kmeans_accuracy(train, test, test_labels, 3) > 0.95
    for measure in (evaluation.two_sample_test, evaluation.mmd_test, evaluation.classifier_test):
        assert measure(test, test + 5, next(key))["p_value"] < 0.05
    assert evaluation.frechet_distance(train, train) == pytest.approx(0, abs=1e-3)
    assert finite(evaluation.precision_and_recall(train, test))
    assert finite(evaluation.parzen_log_likelihood(train, test, test))
    indices, _ = orderings.neighbour_graph(jnp.asarray(test), 2)
    assert indices.shape == (30, 2)
    assert sorted(orderings.greedy_path(jnp.asarray(test))) == list(range(30))


def test_a_whole_assessment():
    """Of digits, for whose images there is a feature network: everything that a report holds."""
    data = load("digits")
    module, fields = tiny.MODELS["acn"], tiny.VARIANTS["acn"][1]
    model = module.make(module.Config(**fields), data.spec)
    state = jax.jit(model.init)(jax.random.key(0))
    found = evaluation.assess_run(
        model, state, None, data, rng=jax.random.key(1), batch_size=32, iwae_samples=2,
        probe_train_limit=64, limit=32, images=16,
    )  # fmt: skip
    assert found["fidelity"]["images"] == 16
    assert finite([found[part] for part in ("test", "reconstruction", "whole_set")])
    assert 0 <= found["probes"]["codes"]["knn_accuracy"] <= 1
