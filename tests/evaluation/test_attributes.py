"""Attribute vectors and edits; oracle: means by hand, and a model that encodes by a matrix."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxae.evaluation import attributes
from jaxae.evaluation.attributes import attribute_vector, draw_edits, edit_images
from jaxae.training.state import Model

RNG = np.random.default_rng(0)
CODES = np.float32([[0, 0], [2, 0], [4, 6], [0, 8]])
TURN = jnp.float32([[0.0, 1.0], [-1.0, 0.0]])
MODEL = Model(
    init=None,
    step=None,
    evaluate=None,
    encode=lambda state, x, rng: x.reshape(-1, 2) @ TURN,
    decode=lambda state, z, rng: (z @ TURN.T).reshape(-1, 1, 2, 1),
)


def test_means_by_hand():
    labels = [0, 0, 1, 2]
    np.testing.assert_allclose(attribute_vector(CODES, labels, 0), [1 - 2, 0 - 7])
    np.testing.assert_allclose(attribute_vector(CODES, labels, 1), [4 - 2 / 3, 6 - 8 / 3])
    np.testing.assert_allclose(attribute_vector(CODES, labels, 1, against=2), [4, -2])
    on = np.array([True, False, True, False])
    np.testing.assert_allclose(attribute_vector(CODES, on, True), [2 - 1, 3 - 4])


@pytest.mark.parametrize(("value", "against"), [(3, None), (0, 3)])
def test_a_side_without_images_is_refused(value, against):
    with pytest.raises(ValueError, match="no image"):
        attribute_vector(CODES, [0, 0, 1, 2], value, against)


def test_an_edit_adds_the_vector_to_the_code():
    images = np.float32([[[[0.2], [0.4]]], [[[0.6], [0.1]]]])
    still = edit_images(MODEL, None, images, np.zeros(2), jax.random.key(0))
    np.testing.assert_allclose(still, images, atol=1e-6)
    # The code of (a, b) is (-b, a): adding (1, 0) to it takes 1 from b.
    moved = edit_images(MODEL, None, images, np.array([1.0, 0.0]), jax.random.key(0), strength=0.5)
    np.testing.assert_allclose(moved - images, [[[[0], [-0.5]]]] * 2, atol=1e-6)
    each = edit_images(MODEL, None, images, np.array([[1.0, 0.0], [0.0, 1.0]]), jax.random.key(0))
    np.testing.assert_allclose(each - images, [[[[0], [-1]]], [[[1], [0]]]], atol=1e-6)


def test_the_figure_has_a_row_for_each_image_and_a_column_for_each_vector(tmp_path):
    images = RNG.uniform(size=(3, 1, 2, 1)).astype(np.float32)
    vectors = {"darker": np.array([1.0, 0.0]), "brighter": np.array([0.0, 1.0])}
    with mock.patch.object(attributes, "image_grid", wraps=attributes.image_grid) as grid:
        file = draw_edits(MODEL, None, images, vectors, tmp_path / "x.png", jax.random.key(0))
    assert file.stat().st_size > 0
    (drawn, columns, _), how = grid.call_args
    assert (columns, how["column_labels"]) == (4, ["image", "decoded", "darker", "brighter"])
    rows = drawn.reshape(3, 4, 2)
    shifts = np.float32([[0, 0], [0, 0], [0, -1], [1, 0]])
    np.testing.assert_allclose(rows, images.reshape(3, 1, 2) + shifts, atol=1e-6)
