"""Networks of the caller's own: what takes the place of what, and what is refused."""

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


def test_one_is_replaced_and_the_others_stay():
    own = Deep(3)
    found = nets.with_own(DEFAULTS, {"enc": own}, **EXAMPLES)
    assert found["enc"] is own
    assert found["dec"] is DEFAULTS["dec"]
    assert nets.with_own(DEFAULTS, None) == DEFAULTS


@pytest.mark.parametrize(
    ("own", "error", "message"),
    [
        ({"encoder": Deep(3)}, ValueError, r"'encoder' is none of 'enc', 'dec'"),
        ({"enc": lambda x: x}, TypeError, r"networks\['enc'\] must be a flax"),
        ({"dec": Deep(4)}, ValueError, r"'dec'.*\[2, 3\] the model wants .*\[2, 5\].*\[2, 4\]"),
    ],
)
def test_what_does_not_fit_is_named(own, error, message):
    with pytest.raises(error, match=message):
        nets.with_own(DEFAULTS, own, **EXAMPLES)
