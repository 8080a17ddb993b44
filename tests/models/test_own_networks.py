"""Networks of the caller's own in models with one player: what takes their place, what is refused.

The first test is the worked example: an encoder of one's own in a VAE.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jaxae.models import MODELS, vae
from jaxae.nets.made import sample_by_passes

DATA = tiny.images()
BATCH = DATA.train.batch(1, 0, tiny.BATCH)


class SmallEncoder(nn.Module):
    """x `[B,H,W,C]` -> means and log-variances `[B,2Z]`."""

    latent: int

    @nn.compact
    def __call__(self, x):
        h = nn.relu(nn.Conv(4, (3, 3), strides=(2, 2))(x))
        return nn.Dense(2 * self.latent)(h.reshape(len(h), -1))


def test_an_own_encoder_in_a_vae():
    config = vae.Config(latent=3, widths=(16,))
    model = vae.make(config, DATA.spec, networks={"enc": SmallEncoder(latent=3)})
    state = before = jax.jit(model.init)(jax.random.key(0))
    shapes = jax.tree.map(jnp.shape, state.params["enc"])
    assert shapes == {
        "Conv_0": {"kernel": (3, 3, 1, 4), "bias": (4,)},
        "Dense_0": {"kernel": (64, 6), "bias": (6,)},
    }
    step, losses = jax.jit(model.step), []
    for key in jax.random.split(jax.random.key(1), 30):
        state, metrics = step(state, BATCH, key)
        losses.append(metrics["loss"])
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    for name in ("enc", "dec"):
        moved = jax.tree.map(lambda a, b: np.any(a != b), before.params[name], state.params[name])
        assert all(jax.tree.leaves(moved))
    # A lower bound on the log-likelihood, in nats per image, from 50 samples of its posterior.
    log_w = jnp.stack([
        jax.jit(model.log_weight)(state, BATCH["image"], key)
        for key in jax.random.split(jax.random.key(2), 50)
    ])  # fmt: skip
    bound = jnp.mean(jax.nn.logsumexp(log_w, axis=0) - np.log(50))
    assert np.isfinite(bound)
    assert bound > jnp.mean(log_w)


# -- every model that takes networks of the caller's own -------------------------------------------


class Constant(nn.Module):
    """Outputs of a fixed shape that depend on the inputs only through one scale."""

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, *inputs):
        mean = sum(jnp.mean(x, axis=tuple(range(1, x.ndim))) for x in inputs if x is not None)
        bias = self.param("own", nn.initializers.normal(1.0), self.shape)
        return mean.reshape(-1, *(1,) * len(self.shape)) * 1e-3 + bias[None]


class ConstantImages(Constant):
    """The same for an autoregressive decoder: a pixel depends on no pixel, only on z."""

    @nn.compact
    def __call__(self, x, z):
        bias = self.param("own", nn.initializers.normal(1.0), self.shape)
        return jnp.mean(z, axis=1)[:, None, None, None] + bias[None]

    @nn.nowrap
    def sample(self, variables, shape, z, rng, draw):
        return sample_by_passes(lambda x: self.apply(variables, x, z), shape, rng, draw)


class ConstantMixture(nn.Module):
    """An own prior network of ACN: c `[B,d]` -> logits, means, log-scales `[B,d,M]`."""

    components: int

    @nn.compact
    def __call__(self, code):
        means = self.param("own", nn.initializers.normal(1.0), (self.components,))
        zeros = jnp.zeros((*code.shape, self.components))
        return zeros, zeros + means[None, None], zeros


class ConstantLevels(nn.Module):
    """An own WaveNet: levels `[B,T]` -> logits `[B,T,levels]`, which depend on no level."""

    levels: int

    @nn.compact
    def __call__(self, k, c=None, g=None):
        bias = self.param("own", nn.initializers.normal(1.0), (self.levels,))
        local = 0.0 if c is None else jnp.mean(c, axis=-1, keepdims=True)
        return jnp.zeros((*k.shape, self.levels)) + bias[None, None] + local

    @nn.nowrap
    def sample(self, variables, n, length, rng, c=None, g=None):
        logits = self.apply(variables, jnp.zeros((n, length), jnp.int32), c, g)
        return jax.random.categorical(rng, logits).astype(jnp.int32)


class ConstantCodes(ConstantLevels):
    """An own prior of a VQ-VAE: k `[B,h,w,G]` -> logits `[B,h,w,G,K]`."""

    @nn.compact
    def __call__(self, k):
        bias = self.param("own", nn.initializers.normal(1.0), (self.levels,))
        return jnp.zeros((*k.shape, self.levels)) + bias[None, None, None, None]

    @nn.nowrap
    def sample(self, variables, n, size, rng):
        logits = self.apply(variables, jnp.zeros((n, *size, 1), jnp.int32))
        return jax.random.categorical(rng, logits).astype(jnp.int32)


OWN = [
    ("vae", "enc", Constant((6,)), Constant((3,))),
    ("vae", "dec", Constant((64,)), Constant((8, 8, 1))),
    ("vae conv", "dec", Constant((8, 8, 1)), Constant((64,))),
    ("acn", "enc", Constant((3,)), Constant((6,))),
    ("acn", "dec", ConstantImages((8, 8, 1)), ConstantImages((8, 8, 2))),
    ("acn", "prior", ConstantMixture(2), ConstantMixture(3)),
    ("acn unique", "dec", Constant((64,)), Constant((63,))),
    ("vqvae", "enc", Constant((2, 2, 1, 3)), Constant((4, 4, 1, 3))),
    ("vqvae", "dec", Constant((8, 8, 1)), Constant((64,))),
    ("vqvae", "prior", ConstantCodes(6), ConstantCodes(5)),
    ("vqvae audio", "enc", Constant((1, 8, 1, 3)), Constant((1, 9, 1, 3))),
    ("vqvae audio", "dec", ConstantLevels(17), ConstantLevels(16)),
    ("vqvae audio", "prior", ConstantLevels(4), ConstantLevels(5)),
]


def make(variant: str, **networks: Any):
    name, fields = tiny.VARIANTS[variant]
    return MODELS[name].make(MODELS[name].Config(**fields), DATA.spec, networks=networks)


@pytest.mark.parametrize(
    ("variant", "name", "own", "wrong"), OWN, ids=[f"{case[0]} {case[1]}" for case in OWN]
)
def test_an_own_network_trains_in_the_place_of_the_models(variant, name, own, wrong):
    """Its one parameter is in the state and moves; what the model gives has the same shapes."""
    model, default = make(variant, **{name: own}), tiny.make(variant, DATA)

    @jax.jit
    def init_and_step(key):
        state = model.init(key)
        return state, *model.step(state, BATCH, jax.random.key(1))

    state, after, metrics = init_and_step(jax.random.key(0))
    start = jax.eval_shape(default.init, jax.random.key(0))
    assert list(state.params[name]) == ["own"]
    assert state.params.keys() == start.params.keys()
    assert np.any(after.params[name]["own"] != state.params[name]["own"])
    assert all(np.isfinite(value).all() for value in metrics.values())

    def outputs(m, s):
        z = m.encode(s, BATCH["image"], jax.random.key(2))
        return (
            m.evaluate(s, BATCH, jax.random.key(3)),
            z,
            m.decode(s, z, jax.random.key(4)),
            m.sample(s, jax.random.key(5), 2),
        )

    wanted = jax.eval_shape(lambda s: outputs(default, s), start)
    found = jax.eval_shape(lambda s: outputs(model, s), state)
    assert jax.tree.map(lambda a: a.shape, found) == jax.tree.map(lambda a: a.shape, wanted)

    with pytest.raises(ValueError, match=rf"networks\['{name}'\]: outputs must have shape"):
        make(variant, **{name: wrong})


@pytest.mark.parametrize("variant", ["vae", "acn", "vqvae", "vqvae audio"])
def test_unknown_names_are_refused(variant):
    with pytest.raises(ValueError, match="'encoder' is not one of 'enc', 'dec'"):
        make(variant, encoder=Constant((3,)))


@pytest.mark.parametrize(
    ("variant", "name", "own", "signature"),
    [
        ("acn", "dec", Constant((8, 8, 1)), r"sample\(variables, shape, z, rng, draw\)"),
        ("vqvae", "prior", Constant((2, 2, 1, 6)), r"sample\(variables, n, size, rng\)"),
        ("vqvae audio", "dec", Constant((64, 17)), r"sample\(variables, n, length, rng, c, g\)"),
    ],
)
def test_a_network_that_cannot_be_sampled_is_refused(variant, name, own, signature):
    with pytest.raises(ValueError, match=rf"networks\['{name}'\] must have a method {signature}"):
        make(variant, **{name: own})


def test_batch_statistics_are_refused():
    """These models keep parameters only: statistics would be lost after the first step."""

    class Normalised(nn.Module):
        @nn.compact
        def __call__(self, x):
            h = nn.BatchNorm(use_running_average=True)(x)
            return nn.Dense(6)(h.reshape(len(h), -1))

    with pytest.raises(ValueError, match=r"networks\['enc'\] has variables batch_stats"):
        make("vae", enc=Normalised())


def test_the_vq_decoder_of_acn_cannot_be_replaced():
    acn = MODELS["acn"]
    config = acn.Config(latent=8, decoder="vq", neighbours=3)
    with pytest.raises(ValueError, match=r"networks\['dec'\]: the decoder vq cannot be replaced"):
        acn.make(config, DATA.spec, networks={"dec": Constant((8, 8, 1))})


@pytest.mark.parametrize("variant", ["ae", "dae", "hashing", "nvae"])
def test_models_that_take_no_networks_say_so(variant):
    name = tiny.VARIANTS[variant][0]
    with pytest.raises(ValueError, match=rf"networks=\['enc'\]: model {name} .*no networks of"):
        make(variant, enc=Constant((3,)))
    make(variant)  # none named, none refused
