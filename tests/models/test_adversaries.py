"""What the four models with a discriminator of images or codes share: normalisation of each
network by itself, R1, and averages of the weights.

Oracles: a discriminator that is linear where it is asked, whose penalty is gamma/2 |w|^2 with w the
product of its weights; the average written out in numpy.
"""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from jaxae.fields import check_fields
from jaxae.models import MODELS, gan

DATA = tiny.images(labels_batch=8)
BATCH = DATA.train.batch(1, 0, tiny.BATCH)
GAMMA, RATE = 2.0, 0.5
SMALL = {
    "gan": {"latent": 3, "widths": (8,), "r1": 0.0},
    "vaegan": {"latent": 3, "widths": (8,)},
    "ali": {"latent": 3, "widths": (8, 6), "deviation": 0.1},
    "aae": {"latent": 3, "widths": (8,)},
}
ENCODER, GENERATOR, DISCRIMINATOR = "encoder_norm", "generator_norm", "discriminator_norm"
# Model -> the field of each normalisation, and the network that it belongs to.
NETWORKS = {
    "gan": {GENERATOR: "gen", DISCRIMINATOR: "critic"},
    "vaegan": {ENCODER: "enc", GENERATOR: "dec", DISCRIMINATOR: "dis"},
    "ali": {ENCODER: "enc", GENERATOR: "gen", DISCRIMINATOR: "critic"},
    "aae": {ENCODER: "trunk", GENERATOR: "dec", DISCRIMINATOR: "critic_z"},
}


def key(n=0):
    return jax.random.key(n)


def make(name, **fields):
    module = tiny.module_of(name)
    with mock.patch.object(module, "adam", return_value=optax.sgd(RATE)):
        return module.make(module.Config(**SMALL[name] | fields), DATA.spec)


# -- a normalisation for each network --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "other"), [(name, field) for name, fields in NETWORKS.items() for field in fields]
)
@pytest.mark.parametrize("norm", ["none", "layer"])
def test_a_network_that_is_normalised_otherwise_keeps_no_batch_statistics(name, other, norm):
    fields = dict.fromkeys(NETWORKS[name], "batch")
    state = jax.eval_shape(make(name, **fields | {other: norm}).init, key())
    rest = {net for field, net in NETWORKS[name].items() if field != other}
    assert set(state.extra["stats"]) == rest
    layers = {layer.split("_")[0] for layer in state.params[NETWORKS[name][other]]}
    # BiGAN's normalisations have neither gain nor shift.
    assert layers == {"Dense"} | ({"LayerNorm"} if norm == "layer" and name != "ali" else set())


@pytest.mark.parametrize("name", SMALL)
def test_spectral_normalisation_keeps_its_vectors_in_the_discriminator_alone(name):
    fields = dict.fromkeys(NETWORKS[name], "none") | {DISCRIMINATOR: "spectral"}
    state = jax.eval_shape(make(name, **fields).init, key())
    net = NETWORKS[name][DISCRIMINATOR]
    assert set(state.extra["stats"]) == {net}
    matrices = [w for w in jax.tree.leaves(state.params[net]) if w.ndim > 1]
    assert len(jax.tree.leaves(state.extra["stats"])) == 2 * len(matrices)  # u and the norm


# -- R1 --------------------------------------------------------------------------------------------

# Variant -> model, fields, discriminator, its layers on the way from what R1 looks at, and how many
# of the first layer's inputs that is.
PENALISED = {
    "gan": ("gan", {}, "critic", ("Dense_0", "Dense_1"), 64),
    "vaegan": ("vaegan", {}, "dis", ("Dense_0", "Dense_1"), 64),
    "vaegan conditional": ("vaegan", {"conditional": True}, "dis", ("Dense_0", "Dense_1"), 64),
    "ali": ("ali", {}, "critic", ("Dense_0", "Dense_1", "Dense_3"), 64),
    "ali images": ("ali", {"method": "gan"}, "critic", ("Dense_0", "Dense_1", "Dense_2"), 64),
    "ali post hoc": (
        "ali", {"method": "post_hoc_ali", "gan_steps": 1}, "pair_critic",
        ("Dense_0", "Dense_1", "Dense_3"), 64,
    ),
    "aae": ("aae", {}, "critic_z", ("Dense_0", "Dense_1"), 3),
    "aae conditioned": ("aae", {"task": "conditioned"}, "critic_z", ("Dense_0", "Dense_1"), 3),
    "aae classes": ("aae", {"task": "semisupervised"}, "critic_y", ("Dense_0", "Dense_1"), 3),
}  # fmt: skip


@pytest.mark.parametrize("variant", PENALISED)
def test_r1_of_a_linear_discriminator_is_half_gamma_times_its_squared_weights(variant):
    name, fields, critic, layers, size = PENALISED[variant]
    norms = dict.fromkeys(NETWORKS[name], "none")
    with_r1, without = (make(name, **norms | fields | {"r1": r1}) for r1 in (GAMMA, 0.0))
    state = jax.jit(without.init)(key(1))
    # Biases that keep every hidden unit in its linear part.
    for layer in layers[:-1]:
        state.params[critic][layer]["bias"] = jnp.full_like(state.params[critic][layer]["bias"], 4)
    if "gan_steps" in fields:
        state = state.replace(step=jnp.int32(1))
    (found, metrics), (plain, _) = (
        jax.jit(m.step)(state, BATCH, key(2)) for m in (with_r1, without)
    )
    kernels = [np.float64(state.params[critic][layer]["kernel"]) for layer in layers]
    kernels[0] = kernels[0][:size]
    product = lambda ws, start: np.linalg.multi_dot([start, *ws]) if ws else start
    w = product(kernels[1:], kernels[0])  # T(x) = x w + constant
    metric = {"critic_z": "squared_gradient_norm_z", "critic_y": "squared_gradient_norm_y"}.get(
        critic, "squared_gradient_norm"
    )
    np.testing.assert_allclose(metrics[metric], np.sum(w**2), rtol=1e-4)
    moved = jax.tree.map(lambda a, b: (b - a) / RATE, found.params, plain.params)
    for i, layer in enumerate(layers):
        before = product(kernels[1:i], kernels[0]) if i else np.eye(size)
        after = product(kernels[i + 2 :], kernels[i + 1]) if i + 1 < len(kernels) else np.eye(1)
        wanted = np.zeros_like(moved[critic][layer]["kernel"])
        wanted[: size if i == 0 else None] = GAMMA * before.T @ w @ after.T
        np.testing.assert_allclose(moved[critic][layer]["kernel"], wanted, rtol=1e-3, atol=1e-4)
    # Nothing else of the discriminator has a slope: not its biases, nor what looks at a code.
    rest = {k: v for k, v in moved[critic].items() if k not in layers}
    rest |= {k: moved[critic][k]["bias"] for k in layers if "bias" in moved[critic][k]}
    for leaf in jax.tree.leaves(rest):
        np.testing.assert_allclose(leaf, 0, atol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_slopes_of_a_batch_are_refused(name):
    config = MODELS[name].Config
    with pytest.raises(ValueError, match=r"r1=0\.1 .* take discriminator_norm=none"):
        config(**SMALL[name] | {"r1": 0.1, "discriminator_norm": "batch"})
    config(**SMALL[name] | {"r1": 0.1, "discriminator_norm": "layer"})


def test_a_gradient_penalty_of_a_batch_is_refused():
    with pytest.raises(ValueError, match=r"gradient_penalty=10\.0 needs the gradient"):
        gan.Config(r1=0.0, gradient_penalty=10.0, discriminator_norm="batch")


def test_what_a_penalty_or_a_norm_cannot_be_asked_of_is_refused():
    with pytest.raises(ValueError, match="variant=vae has no discriminator"):
        MODELS["vaegan"].Config(variant="vae", r1=0.1, discriminator_norm="none")
    with pytest.raises(ValueError, match="zero_start"):
        MODELS["ali"].Config(zero_start=True, discriminator_norm="spectral")
    with pytest.raises(ValueError, match=r"r1=0\.1"):  # as BiGAN published it: over the batch
        MODELS["ali"].Config(r1=0.1)
    assert MODELS["ali"].Config(r1=0.1, network="plane").critic_norm == "none"


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(("field", "value"), [("r1", -0.1), ("average", 1.0), ("average", -0.1)])
def test_numbers_out_of_range_are_refused(name, field, value):
    fields = SMALL[name] | {"discriminator_norm": "none", field: value}
    with pytest.raises(ValueError, match=field):
        check_fields(MODELS[name].Config(**fields))


# -- averages --------------------------------------------------------------------------------------

AVERAGED = {
    "gan": {"gen"},
    "vaegan": {"enc", "dec"},
    "ali": {"enc", "gen"},
    "aae": {"trunk", "code", "dec"},
}


@pytest.fixture(scope="module", params=SMALL)
def averaged(request):
    """A model that averages, and its states before and after each of three steps."""
    name = request.param
    model = make(name, **dict.fromkeys(NETWORKS[name], "batch"), average=0.15)
    states, step = [jax.jit(model.init)(key(3))], jax.jit(model.step)
    for i in range(3):
        states.append(step(states[-1], DATA.train.batch(1, i, tiny.BATCH), key(i))[0])
    return name, model, states


def test_averages_written_out(averaged):
    """Weights, and the batch statistics beside them. A young average keeps (1 + t) / (10 + t)."""
    name, _, states = averaged
    with_stats = AVERAGED[name] & set(NETWORKS[name].values())
    for entry, of, networks in (
        ("average", lambda s: s.params, AVERAGED[name]),
        ("average_stats", lambda s: s.extra["stats"], with_stats),
    ):
        assert set(states[-1].extra[entry]) == networks
        for net in networks:
            wanted = jax.tree.map(np.float64, of(states[0])[net])
            for keep, state in zip((0.1, 0.15, 0.15), states[1:], strict=True):
                wanted = jax.tree.map(
                    lambda old, new, keep=keep: keep * old + (1 - keep) * np.float64(new),
                    wanted, of(state)[net],
                )  # fmt: skip
            tiny.assert_close(
                jax.tree.map(np.float64, states[-1].extra[entry][net]), wanted, 1e-5, 1e-6
            )


def test_every_networks_batch_statistics_move_in_a_step(averaged):
    name, _, (before, after, *_) = averaged
    old, new = (state.extra["stats"] for state in (before, after))
    assert set(old) == set(NETWORKS[name].values())
    for net in old:
        for was, now in zip(jax.tree.leaves(old[net]), jax.tree.leaves(new[net]), strict=True):
            assert np.all(was != now), net


def test_averages_are_what_codes_samples_and_evaluation_read(averaged):
    name, model, (*_, state) = averaged
    x, z = BATCH["image"], jax.random.normal(key(5), (4, 3))
    reads = {
        "decode": lambda s: model.decode(s, z, key(6)),
        "sample": lambda s: model.sample(s, key(6), 4),
        "evaluate": lambda s: model.evaluate(s, BATCH, key(6)),
    }
    reads |= {"encode": lambda s: model.encode(s, x, key(6))} if model.encode else {}
    reads |= {"posterior": lambda s: model.posterior(s, x, key(6))} if model.posterior else {}
    read = jax.jit(lambda s: {what: function(s) for what, function in reads.items()})
    zeros = lambda tree, names: (
        tree | {net: jax.tree.map(jnp.zeros_like, tree[net]) for net in names if net in tree}
    )
    names, extra = AVERAGED[name], state.extra
    wanted = read(state)
    others = state.replace(
        params=zeros(state.params, names),
        extra=extra | {"stats": zeros(extra["stats"], names)},
    )
    tiny.assert_same_bits(read(others), wanted)
    for entry in ("average", "average_stats"):
        found = read(state.replace(extra=extra | {entry: zeros(extra[entry], names)}))
        for what in reads:
            with pytest.raises(AssertionError):
                tiny.assert_same_bits(found[what], wanted[what])


@pytest.mark.parametrize("name", SMALL)
def test_without_an_average_evaluation_reads_the_networks(name):
    state = jax.eval_shape(make(name).init, key())
    assert state.extra["average"] == {}
    assert "average_stats" not in state.extra
