"""Replacement of a model's networks by the user's: results and errors."""

import flax.linen as nn
import jax.numpy as jnp
import pytest

from jaxae import nets

DEFAULTS = {"enc": nn.Dense(3), "dec": nn.Dense(5)}
EXAMPLES = {"enc": jnp.zeros((2, 5)), "dec": jnp.zeros((2, 3))}


class Deep(nn.Module):
    out: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.out)(nn.relu(nn.Dense(7)(x)))


def test_one_network_is_replaced_and_the_others_stay():
    own = Deep(3)
    networks = nets.replace_networks(DEFAULTS, {"enc": own}, EXAMPLES)
    assert networks["enc"] is own
    assert networks["dec"] is DEFAULTS["dec"]
    assert nets.replace_networks(DEFAULTS, None, EXAMPLES) == DEFAULTS


@pytest.mark.parametrize(
    ("own", "error", "message"),
    [
        ({"encoder": Deep(3)}, ValueError, r"'encoder' is not one of 'enc', 'dec'"),
        ({"enc": lambda x: x}, TypeError, r"networks\['enc'\] must be a flax"),
        (
            {"dec": Deep(4)},
            ValueError,
            r"'dec'.*\[2, 5\] for inputs of shape \[2, 3\], have.*\[2, 4\]",
        ),
    ],
)
def test_a_module_that_does_not_fit_is_named(own, error, message):
    with pytest.raises(error, match=message):
        nets.replace_networks(DEFAULTS, own, EXAMPLES)
