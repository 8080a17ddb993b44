import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import subspace_angles
from scipy.special import expit
from sklearn.decomposition import PCA

from jaxae.data import from_arrays, load
from jaxae.models import ae
from jaxae.models.shared import pca
from jaxae.models.shared.mirrored import Mirrored
from jaxae.training import Plan, fit
from jaxae.training.state import Spec

SHAPE = (2, 3, 1)
SPEC = Spec(SHAPE, size=16, classes=0, levels=0, mean=np.full(SHAPE, 0.5, np.float32))
SMALL = ae.Config(latent=2, widths=(5, 4))
generator = np.random.default_rng(0)


def batch(n=7):
    return {"image": jnp.asarray(generator.uniform(size=(n, *SHAPE)), jnp.float32),
            "index": jnp.arange(n)}  # fmt: skip


def spread_out(state):
    """The state with biases that matter."""
    return state.replace(params=jax.tree.map(lambda p: p + 0.1, state.params))


UNITS = {"relu": lambda a: np.maximum(a, 0), "sigmoid": expit, "tanh": np.tanh}


@pytest.mark.parametrize(
    ("fields", "unit"),
    [
        ({}, "relu"),
        ({"activation": "sigmoid", "init": "glorot", "tied": True}, "sigmoid"),
        ({"activation": "tanh", "loss": "mse", "output": "linear"}, "tanh"),
        ({"activation": "tanh", "loss": "mse", "code": "sigmoid"}, "tanh"),
    ],
)
def test_the_network_against_numpy(fields, unit):
    """Linear code by default, units everywhere else; the losses are sums over pixels."""
    model, examples = ae.make(dataclasses.replace(SMALL, **fields), SPEC), batch()
    state = spread_out(model.init(jax.random.key(0)))
    p = jax.tree.map(np.float64, state.params)
    act, h = UNITS[unit], np.float64(examples["image"]).reshape(7, -1)
    x = h
    for k in range(3):
        h = h @ p["enc"][f"layer_{k}"]["kernel"] + p["enc"][f"layer_{k}"]["bias"]
        h = act(h) if k < 2 else h
    z = expit(h) if fields.get("code") == "sigmoid" else h
    h = z
    for k in (2, 1, 0):
        tied = fields.get("tied")
        back = p["enc"][f"layer_{k}"]["kernel"].T if tied else p["dec"][f"layer_{k}"]["kernel"]
        h = h @ back + p["dec"][f"layer_{k}"]["bias"]
        h = act(h) if k > 0 else h
    image = h if fields.get("output") == "linear" else expit(h)
    squared = ((x - image) ** 2).sum(1)
    crossed = -(x * np.log(expit(h)) + (1 - x) * np.log(expit(-h))).sum(1)
    found = model.evaluate(state, examples, jax.random.key(1))
    np.testing.assert_allclose(
        model.encode(state, examples["image"], None), z, rtol=1e-4, atol=1e-6
    )
    decoded = model.decode(state, jnp.float32(z), None)
    np.testing.assert_allclose(decoded.reshape(7, -1), image, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["squared_error"], squared, rtol=1e-4)
    expected = squared if fields.get("loss") == "mse" else crossed
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-4)
    _, metrics = model.step(state, examples, jax.random.key(2))
    np.testing.assert_allclose(metrics["loss"], expected.mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["squared_error"], squared.mean(), rtol=1e-4)


def test_starts():
    """Variances of the kernels, and a decoder that is the encoder's transpose for RBMs."""
    network = Mirrored((600, 400, 200))
    for start, variance in (
        ("he", lambda i, o: 2 / i),
        ("glorot", lambda i, o: 2 / (i + o)),
        ("rbm", lambda i, o: 0.01),
    ):
        p = network.init(jax.random.key(0), start)
        for net in ("enc", "dec"):
            for layer in p[net].values():
                inputs, outputs = layer["kernel"].shape
                ratio = np.var(layer["kernel"]) / variance(inputs, outputs)
                # 5 standard errors of the variance of 80,000 normal numbers: 2.5 per cent.
                assert abs(ratio - 1) < 0.025
                assert not np.any(layer["bias"])
        same = np.array_equal(p["dec"]["layer_0"]["kernel"], p["enc"]["layer_0"]["kernel"].T)
        assert same == (start == "rbm")


# -- principal components ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def flat(split):
    return np.concatenate(list(pca.image_rows(split)))


def test_pca_is_scikit_learns(digits):
    train, test = flat(digits.train), flat(digits.test)
    found = pca.fit(digits.train)
    assert train.shape == (1437, 64)
    for d in (1, 8, 40):
        kept = PCA(d, svd_solver="full").fit(train)
        wanted = kept.inverse_transform(kept.transform(test))
        np.testing.assert_allclose(found.reconstruct(test, d), wanted, atol=1e-5)
        errors = ((test - wanted) ** 2).sum(1)
        np.testing.assert_allclose(found.squared_errors(test)[:, d], errors, rtol=1e-4, atol=1e-6)
        grown = next(itertools.islice(found.iterate_reconstructions(test), d, None))
        np.testing.assert_allclose(grown, wanted, atol=1e-5)
        mean = pca.mean_squared_error(found, digits.test, d)
        np.testing.assert_allclose(mean, found.squared_errors(test)[:, d].mean(), rtol=1e-9)


def test_the_published_unit(data_dir):
    """30 components of MNIST leave 13.87 per test image: Hinton & Salakhutdinov 2006."""
    mnist = load("mnist", data_dir=data_dir)
    assert round(pca.mean_squared_error(pca.fit(mnist.train), mnist.test, 30), 2) == 13.87


def test_no_pca_of_large_images():
    image = np.zeros((3, 65, 64, 1), np.uint8)
    data = from_arrays(image, test_images=image)
    with pytest.raises(ValueError, match="no PCA"):
        pca.fit(data.train)
    assert ae.make(SMALL, data.spec).assess is None


@pytest.fixture(scope="module")
def linear(digits):
    """A linear AE of 8 units after 8,000 steps on the whole training set."""
    config = ae.Config(widths=(), loss="mse", output="linear", init="glorot", learning_rate=1e-2,
                       decay_steps=8000)  # fmt: skip
    model = ae.make(config, digits.spec)
    plan = Plan(steps=8000, batch_size=1437, devices=1, log_every=500, eval_every=0)
    return model, fit(model, digits, plan, quiet=True).states[0]


def test_a_linear_ae_is_pca(digits, linear):
    model, state = linear
    components = pca.fit(digits.train)
    back = np.float64(state.params["dec"]["layer_0"]["kernel"]).T  # [64, 8]
    assert subspace_angles(back, components.axes[:, :8]).max() < 1e-2
    found = model.assess(state, digits, jax.random.key(0))
    assert abs(found["share_of_pca_test"] - 1) < 0.01
    assert abs(found["share_of_pca_train"] - 1) < 0.01


def test_assess_gives_the_means_of_evaluate(digits, linear):
    model, state = linear
    found = model.assess(state, digits, jax.random.key(0))
    x = flat(digits.test)
    p = jax.tree.map(np.float64, state.params)
    z = x @ p["enc"]["layer_0"]["kernel"] + p["enc"]["layer_0"]["bias"]
    back = z @ p["dec"]["layer_0"]["kernel"] + p["dec"]["layer_0"]["bias"]
    np.testing.assert_allclose(found["squared_error_test"], ((x - back) ** 2).sum(1).mean(), 1e-4)
    theirs = PCA(8, svd_solver="full").fit(flat(digits.train))
    lost = ((x - theirs.inverse_transform(theirs.transform(x))) ** 2).sum(1).mean()
    np.testing.assert_allclose(found["squared_error_test_pca"], lost, 1e-4)
    np.testing.assert_allclose(
        found["share_of_pca_test"], found["squared_error_test"] / lost, rtol=1e-4
    )


# -- pretraining -------------------------------------------------------------------------------


def test_fine_tuning_starts_where_pretraining_ends_and_adam_counts_from_there():
    config = ae.Config(latent=2, widths=(5,), activation="sigmoid", init="rbm", pretrain_steps=2)
    model, examples = ae.make(config, SPEC), batch()
    step, state = jax.jit(model.step), model.init(jax.random.key(0))
    counts = []
    for number in range(6):
        state, metrics = step(state, examples, jax.random.key(number))
        counts.append(int(state.opt["autoencoder"][0].count))
        assert np.isfinite(metrics["loss"])
    assert counts == [0, 0, 0, 0, 1, 2]
    assert state.step == 6
    kernels = (state.params[net]["layer_0"]["kernel"] for net in ("enc", "dec"))
    up, down = kernels
    assert not np.array_equal(up, down.T)  # untied once fine-tuning moves them


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"latent": 0}, "latent=0"),
        ({"output": "linear"}, "loss=mse"),
        ({"init": "rbm"}, "set init=rbm and pretrain_steps"),
        ({"pretrain_steps": 5}, "set init=rbm and pretrain_steps"),
        ({"pretrain_steps": 5, "init": "rbm"}, "activation=sigmoid"),
        (
            {"pretrain_steps": 5, "init": "rbm", "activation": "sigmoid", "loss": "mse",
             "output": "linear"},
            "output=sigmoid",
        ),
    ],
)  # fmt: skip
def test_contradictions_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ae.Config(**fields)


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="widths"):
        ae.make(ae.Config(widths=(0,)), SPEC)
    with pytest.raises(ValueError, match="activation"):
        ae.make(ae.Config(activation="step"), SPEC)
    with pytest.raises(ValueError, match="side inputs"):
        Mirrored((4, 2), tied=True, side_inputs=4)
