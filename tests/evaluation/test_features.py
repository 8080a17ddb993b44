"""The frozen networks: they recognise what their files say, and refuse other images."""

import importlib.util
import io
import pathlib

import numpy as np
import pytest
from scipy.special import log_softmax

from jaxae.data import Options, from_arrays, load
from jaxae.evaluation import features, images_of, load_features
from jaxae.evaluation.features import (
    BIT_FEATURES,
    FEATURES,
    features_of,
    flatten_params,
    unflatten_params,
)

BITS = "digits-bits-features-v1"
ROOT = pathlib.Path(__file__).parents[2]


def recognised(network, images, labels):
    return float(np.mean(network.logits(images).argmax(1) == labels))


def test_digits_are_recognised_as_the_file_says():
    """0.95 is what far simpler classifiers reach; the file's own number is counted again."""
    data, network = load("digits"), load_features("digits-features-v1")
    found = recognised(network, data.test.arrays["image"] / np.float32(16), data.test.labels)
    assert found >= 0.98
    assert found == network.about["test_accuracy"]


@pytest.mark.mnist
def test_mnist_is_recognised_as_the_file_says(data_dir):
    data, network = load("mnist", data_dir=data_dir), load_features("mnist-features-v1")
    found = recognised(network, data.test.arrays["image"] / np.float32(255), data.test.labels)
    assert found >= 0.99
    assert found == pytest.approx(network.about["test_accuracy"], abs=2e-4)  # 2 images by rounding


def test_bits_are_recognised_by_a_network_that_has_learnt_from_them():
    """As the file says; the one for grey levels takes more than twice as many for another digit."""
    data, network = load("digits", Options(binarise="dynamic")), load_features(BITS)
    images, labels = images_of(data.test, 360), data.test.labels
    found = recognised(network, images, labels)
    assert found == network.about["test_accuracy"]
    assert 1 - recognised(load_features("digits-features-v1"), images, labels) > 2 * (1 - found)
    grey = recognised(network, images_of(data.unbinarised.test, 360), labels)
    assert grey == network.about["test_accuracy_grey"]


@pytest.mark.parametrize("name", [*FEATURES.values(), *BIT_FEATURES.values()])
def test_a_file_is_small_and_says_where_it_is_from(name):
    network = load_features(name)
    about = network.about
    assert (network.name, about["name"]) == (name, name)
    assert name in (FEATURES[about["data"]], BIT_FEATURES[about["data"]])
    assert ("--bits" in about["command"]) == (name in BIT_FEATURES.values())
    assert about["command"].startswith("python experiments/train_features.py --data")
    assert {"python", "jax", "flax", "optax", "numpy"} == set(about["versions"])
    assert 0.98 < about.get("test_accuracy_grey", about["test_accuracy"]) < 1
    file = pathlib.Path(features.__file__).parent / "weights" / f"{name}.npz"
    assert file.stat().st_size < 200_000


def test_features_by_matrix_products():
    """Two dense layers, by hand from the arrays of the file."""
    network, images = load_features("digits-features-v1"), load("digits").test.arrays["image"]
    images = images[:7] / np.float32(16)
    file = pathlib.Path(features.__file__).parent / "weights" / "digits-features-v1.npz"
    with np.load(file) as held:
        layer = lambda x, i: x @ np.float64(held[f"Dense_{i}/kernel"]) + held[f"Dense_{i}/bias"]
        hidden = np.maximum(layer(np.maximum(layer(images.reshape(7, -1), 0), 0), 1), 0)
        logits = layer(hidden, 2)
    found = network.features(images)
    assert found.shape == (7, features.WIDTH)
    np.testing.assert_allclose(found, hidden, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        log_softmax(network.logits(images), 1), log_softmax(logits, 1), rtol=1e-3, atol=1e-3
    )


def test_images_of_another_shape_are_refused():
    network = load_features("mnist-features-v1")
    with pytest.raises(ValueError, match=r"\[N, 28, 28, 1\].*shape \(3, 8, 8, 1\)"):
        network.features(np.zeros((3, 8, 8, 1)))
    with pytest.raises(ValueError, match=r"\[N, 28, 28, 1\].*shape \(28, 28, 1\)"):
        network.logits(np.zeros((28, 28, 1)))


def test_unknown_names_are_refused():
    with pytest.raises(
        ValueError, match="unknown features 'inception': choose from mnist-features"
    ):
        load_features("inception")


def test_data_finds_its_network_only_where_both_match():
    assert features_of(load("digits")) == "digits-features-v1"
    assert features_of(load("digits", Options(binarise="dynamic"))) == "digits-bits-features-v1"
    assert features_of(load("digits", Options(dequantise=True))) == "digits-features-v1"
    assert features_of(load("digits", Options(standardise=True))) is None
    images = np.zeros((20, 8, 8), np.uint8)
    images[::2] = 255
    assert features_of(from_arrays(images)) is None
    assert features_of(from_arrays(images[:, :5], name="digits")) is None


def test_parameters_come_back_rounded_to_float16():
    params = {"params": {"Dense_0": {"kernel": np.float32([[1 / 3, 2]]), "bias": np.float32([7])}}}
    held = flatten_params(params)
    assert set(held) == {"Dense_0/kernel", "Dense_0/bias"}
    back = unflatten_params(held)["params"]["Dense_0"]
    assert back["kernel"].dtype == np.float32
    np.testing.assert_array_equal(back["kernel"], np.float32(np.float16([[1 / 3, 2]])))


def test_the_command_writes_the_same_bytes_twice():
    path = ROOT / "experiments" / "train_features.py"
    spec = importlib.util.spec_from_file_location("train_features", path)
    command = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(command)
    files = []
    for _ in range(2):
        files.append(io.BytesIO())
        np.savez_compressed(files[-1], **command.made("digits", None, steps=3))
    assert files[0].getvalue() == files[1].getvalue()
