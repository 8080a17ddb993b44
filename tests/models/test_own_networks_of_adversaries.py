"""The caller's own networks in the adversarial models: each takes the place of one network, trains,
and leaves the initial parameters of the others as they are."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jaxae import nets
from jaxae.models import aae

DATA = tiny.images(labels_batch=8)
BATCH = DATA.train.batch(1, 0, tiny.BATCH)
key = jax.random.key


class OwnCritic(nn.Module):
    """A critic of codes `[B, Z] -> [B, 1]`, with layer and spectral normalisation."""

    width: int = 8

    @nn.compact
    def __call__(self, z, train=False, axis_name=None):
        h = nn.LayerNorm()(nn.Dense(self.width, name="first")(z))
        last = nets.linear(nn.Dense(1, name="last"), "spectral", train)
        return last(jax.nn.gelu(h))


def test_an_own_critic_in_an_aae():
    config = aae.Config(latent=3, widths=(16,), r1=0.1)
    model = aae.make(config, DATA.spec, networks={"critic_z": OwnCritic()})
    before = jax.jit(model.init)(key(0))
    state, step = before, jax.jit(model.step)
    for i in range(4):
        state, metrics = step(state, DATA.train.batch(0, i, tiny.BATCH), key(i))
    assert all(np.isfinite(value).all() for value in jax.tree.leaves((metrics, state.params)))
    default = jax.jit(aae.make(config, DATA.spec).init)(key(0)).params
    assert before.params.keys() == default.keys()
    others = set(default) - {"critic_z"}
    tiny.assert_same_bits({n: before.params[n] for n in others}, {n: default[n] for n in others})
    old, new = tiny.leaves(before.params["critic_z"]), tiny.leaves(state.params["critic_z"])
    assert {name.split("'")[1] for name in old} == {"first", "LayerNorm_0", "last"}
    assert all(np.any(new[name] != old[name]) for name in old)
    # The power iteration of the spectral normalisation goes on in training.
    vectors = lambda s: tiny.leaves(s.extra["stats"]["critic_z"]).values()
    assert any(np.any(a != b) for a, b in zip(vectors(before), vectors(state), strict=True))


class Own(nn.Module):
    """A linear map of all inputs, concatenated, to an array of shape `[B, *shape]`."""

    shape: tuple[int, ...]
    features: tuple[int, ...] | None = None
    """with widths: the linear map follows a hidden layer, and hidden layers are an output too"""
    as_list: bool = False

    @nn.compact
    def __call__(self, *inputs):
        x = jnp.concatenate([x.reshape(len(x), -1) for x in inputs if x is not None], axis=-1)
        hidden = []
        for width in self.features or ():
            hidden.append(nn.Dense(width)(x))
            x = nn.relu(hidden[-1])
        out = nn.Dense(int(np.prod(self.shape)), name="own")(x).reshape(-1, *self.shape)
        if self.features is None:
            return out
        return out, (hidden if self.as_list else hidden[-1])


PIXELS, IMAGE = (64,), (8, 8, 1)
# Variant -> names of networks, each with a module of the shapes that `make` documents.
OWN = {
    "gan": {"gen": Own(PIXELS), "critic": Own((1,))},
    "gan conv": {"gen": Own(IMAGE), "critic": Own((1,))},
    "vaegan": {"enc": Own((6,), (16,), True), "dec": Own(PIXELS),
               "dis": Own((1,), (16,), True)},
    "vaegan separate": {"gen": Own(PIXELS)},
    "aae": {"trunk": Own((16,)), "code": Own((6,)), "dec": Own(PIXELS), "critic_z": Own((1,))},
    "aae semisupervised": {"label": Own((3,)), "critic_y": Own((1,))},
    "ali": {"enc": Own((6,)), "gen": Own(PIXELS), "critic": Own((1,), (8,)),
            "embed": Own((16,))},
    "ali post hoc": {"pair_critic": Own((1,), (8,))},
    "iae": {"enc": Own((3,)), "dec": Own(PIXELS), "critic_pair": Own((1,)),
            "critic_code": Own((1,))},
    "iae flipped": {"critic_image": Own((1,))},
    "alae": {"map": Own((3,)), "gen": Own(IMAGE), "enc": Own((3,)), "dis": Own(())},
    "alae style": {"gen": Own(IMAGE)},
    "alae ablated": {"eye": Own((3,))},
    "acai": {"enc": Own((3, 3, 2)), "dec": Own((12, 12, 1)), "critic": Own(())},
    "acai aae": {"critic": Own((1,))},
    "acai vqvae": {"slots": Own((64,)), "bottleneck": Own((32,))},
}  # fmt: skip


def make(variant, networks):
    name, fields = tiny.VARIANTS[variant]
    module = tiny.module_of(name)
    return module.make(module.Config(**fields), DATA.spec, networks)


@pytest.mark.parametrize(("variant", "name"), [(v, name) for v in OWN for name in OWN[v]])
def test_each_network_can_be_replaced(variant, name):
    """The parameters of this network are the module's, those of the others keep their shapes."""
    model = make(variant, {name: OWN[variant][name]})
    default = jax.eval_shape(make(variant, None).init, key(0)).params
    state = jax.eval_shape(model.init, key(0))
    assert list(state.params) == list(default)
    shapes = lambda params: {n: jax.tree.map(lambda x: x.shape, params[n]) for n in default}
    found, wanted = shapes(state.params), shapes(default)
    assert {n for n in default if found[n] != wanted[n]} == {name}
    jax.eval_shape(model.step, state, BATCH, key(1))


ONE_EACH = {"gan": "gen", "vaegan": "dis", "aae": "trunk", "ali": "critic", "iae": "critic_pair",
            "alae": "enc", "acai": "critic"}  # fmt: skip


@pytest.mark.parametrize("variant", ONE_EACH)
def test_an_own_network_is_trained_and_the_others_start_with_the_same_bits(variant):
    name = ONE_EACH[variant]
    model = make(variant, {name: OWN[variant][name]})
    state = jax.jit(model.init)(key(0))
    default = jax.jit(make(variant, None).init)(key(0)).params
    assert "own" in state.params[name]  # the name of the module's last layer
    others = set(default) - {name}
    tiny.assert_same_bits({n: state.params[n] for n in others}, {n: default[n] for n in others})
    after = jax.jit(model.step)(state, BATCH, key(1))[0]
    old, new = tiny.leaves(state.params[name]), tiny.leaves(after.params[name])
    assert all(np.any(new[path] != old[path]) for path in old)


class Normalised(nn.Module):
    """A network that keeps batch statistics: `[B, Z] -> [B, 1]`."""

    @nn.compact
    def __call__(self, z, train=False, axis_name=None):
        return nn.Dense(1)(nets.normalise(nn.Dense(4)(z), "batch", train, axis_name))


class Constant(nn.Module):
    """A network without parameters: `[B, Z] -> [B, 1]`."""

    @nn.compact
    def __call__(self, z):
        return jnp.zeros((len(z), 1))


@pytest.mark.parametrize("variant", ONE_EACH)
def test_outputs_of_another_shape_are_refused(variant):
    name = ONE_EACH[variant]
    wrong = Own((7,), OWN[variant][name].features, OWN[variant][name].as_list)
    with pytest.raises(ValueError, match=rf"networks\['{name}'\].*outputs must have shape"):
        make(variant, {name: wrong})
    with pytest.raises(ValueError, match="'judge' is not one of"):
        make(variant, {"judge": wrong})


def test_variables_that_a_model_does_not_keep_are_refused():
    with pytest.raises(
        ValueError, match=r"networks\['critic_code'\] has variables batch_stats.*LayerNorm"
    ):
        make("iae", {"critic_code": Normalised()})
    with pytest.raises(ValueError, match=r"networks\['critic_z'\] has no parameters"):
        make("aae", {"critic_z": Constant()})
    make("aae", {"critic_z": Normalised()})
    with pytest.raises(ValueError, match="'heads' is not one of"):
        make("aae reduction", {"heads": Own((1,))})
