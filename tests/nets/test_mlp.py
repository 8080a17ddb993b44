import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxae.nets import MLP, activation, bias_init
from jaxae.nets.mlp import output_activation


def test_two_layers_by_hand():
    params = {
        "Dense_0": {"kernel": jnp.array([[1.0, -1.0], [2.0, 0.5]]), "bias": jnp.array([0.5, 0.0])},
        "Dense_1": {"kernel": jnp.array([[3.0], [10.0]]), "bias": jnp.array([-1.0])},
    }
    # [1, 2]: hidden 1 + 4 + .5 = 5.5 and relu(-1 + 1) = 0; [-1, 4]: 7.5 and 1 + 2 = 3.
    out = MLP((2,), 1).apply({"params": params}, jnp.array([[[1.0], [2.0]], [[-1.0], [4.0]]]))
    np.testing.assert_allclose(out, [[15.5], [51.5]], rtol=1e-6)


def test_no_hidden_layer_is_a_linear_map():
    net, x = MLP((), 3), jax.random.normal(jax.random.key(0), (4, 5))
    variables = net.init(jax.random.key(1), x)
    np.testing.assert_allclose(
        net.apply(variables, 2 * x), 2 * net.apply(variables, x), rtol=1e-5, atol=1e-6
    )


def test_out_bias_is_the_output_at_the_start_for_a_zero_image():
    net = MLP((4,), 3, out_bias=np.float32([0.1, -2.0, 5.0]))
    out, _ = jax.jit(net.init_with_output)(jax.random.key(0), jnp.zeros((2, 6)))
    np.testing.assert_allclose(out, np.tile([0.1, -2.0, 5.0], (2, 1)), rtol=1e-6)


def test_bias_init_broadcasts_or_refuses():
    start = bias_init(np.float32(2.0))(jax.random.key(0), (3,))
    np.testing.assert_array_equal(start, [2.0, 2.0, 2.0])
    with pytest.raises(
        ValueError, match=r"out_bias must broadcast to shape \(3,\), has shape \(4,\)"
    ):
        MLP((), 3, out_bias=np.zeros(4)).init(jax.random.key(0), jnp.zeros((1, 2)))


@pytest.mark.parametrize(
    ("name", "at_minus_one"),
    [
        ("relu", 0.0),
        ("tanh", -np.tanh(1.0)),
        ("gelu", -0.158808),  # tanh form: -(1 + tanh(sqrt(2/pi) (-1 - 0.044715))) / 2
        ("silu", -1 / (1 + np.e)),
        ("elu", np.exp(-1.0) - 1),
        ("leaky_relu", -0.01),
        ("leaky_relu_0.2", -0.2),
        ("sigmoid", 1 / (1 + np.e)),
    ],
)
def test_activation_values(name, at_minus_one):
    np.testing.assert_allclose(activation(name)(jnp.array(-1.0)), at_minus_one, rtol=1e-5)


def test_output_activation():
    out = jnp.log(jnp.float32([3.0, 1.0]))
    np.testing.assert_allclose(output_activation("sigmoid")(out), [0.75, 0.5], rtol=1e-6)
    np.testing.assert_array_equal(output_activation("linear")(out), out)


def test_unknown_activation_names_the_choices():
    with pytest.raises(ValueError, match=r"'swoosh' is unknown; choose from relu, tanh"):
        activation("swoosh")
