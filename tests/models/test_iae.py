"""The IAE's identities, what its costs amount to, and what its step does with them.

That each player follows exactly the gradient of its own loss is in `test_players.py`. Tables of
q(x, z) = p(x) q(z|x) have x along rows, z along columns; r(x, z) = q(z) p(x|z).
"""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from scipy.signal import correlate2d

from jaxae.data import Options, from_arrays
from jaxae.data.ones_twos import sample_points
from jaxae.models import iae
from jaxae.models.iae.adversarial_losses import LOGIT_CLIP, PAIR_LOSSES, pair_losses
from jaxae.models.iae.domains import to_other_domain
from jaxae.models.iae.measures import (
    mutual_information,
    reconstruction_measures,
    within_group_variance,
)
from jaxae.models.iae.networks import ConvReader, DenseReader
from jaxae.training import State

DATA = tiny.images(labels_batch=8)
BATCH = DATA.train.batch(1, 0, tiny.BATCH)
TWO_LOG_TWO = 2 * np.log(2)
key = lambda: jax.random.key(5)  # a fresh one each time: none may be used twice
SMALL = {"widths": (8,), "local": 2, "latent": 3}


def made(rate=0.1, data=DATA, **fields):
    """A model whose players descend plainly."""
    with mock.patch.object(iae.model, "adam", side_effect=lambda *_, **__: optax.sgd(rate)):
        return iae.make(iae.Config(**SMALL | fields), data.spec)


def same(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(
        jax.tree.leaves(one), jax.tree.leaves(other), strict=True))  # fmt: skip


# -- identities, on tables -------------------------------------------------------------------------

ROWS, COLUMNS = 7, 5


def kl(a, b):
    return np.sum(a * np.log(a / b))


def jsd(a, b):
    return 0.5 * kl(a, (a + b) / 2) + 0.5 * kl(b, (a + b) / 2)


def entropy(p):
    return -np.sum(p * np.log(p))


@pytest.fixture
def tables():
    """p_d(x) [7,1], q(z|x) [7,5], p(z) [1,5], p(x|z) [7,5]."""
    rng = np.random.default_rng(0)
    draw = lambda shape, axis: (lambda a: a / a.sum(axis, keepdims=True))(rng.random(shape) + 0.05)
    return (draw((ROWS, 1), 0), draw((ROWS, COLUMNS), 1), draw((1, COLUMNS), 1),
            draw((ROWS, COLUMNS), 0))  # fmt: skip


def test_three_forms_of_the_bound_are_equal(tables):
    data, code_given_x, prior, x_given_code = tables
    q = data * code_given_x
    code = q.sum(0, keepdims=True)
    r = code * x_given_code
    cost = -np.sum(q * np.log(x_given_code))
    each = np.sum(code_given_x * np.log(code_given_x / prior), axis=1, keepdims=True)
    mutual = kl(q, data * code)
    forms = [
        -cost - np.sum(data * each),
        -cost - kl(code, prior) - mutual,
        -kl(q, r) - kl(code, prior) - entropy(data),
    ]
    np.testing.assert_allclose(forms, forms[0], rtol=0, atol=1e-10)
    evidence = (prior * x_given_code).sum(1, keepdims=True)
    posterior = prior * x_given_code / evidence
    gap = np.sum(data * code_given_x * np.log(code_given_x / posterior))
    np.testing.assert_allclose(np.sum(data * np.log(evidence)) - gap, forms[0], atol=1e-10)


def test_what_the_reconstruction_game_matches(tables):
    data, code_given_x, prior, x_given_code = tables
    q = data * code_given_x
    code = q.sum(0, keepdims=True)
    r, p, inverse = code * x_given_code, prior * x_given_code, q / code
    by_code = lambda divergence: sum(
        code[0, k] * divergence(inverse[:, k], x_given_code[:, k]) for k in range(COLUMNS)
    )
    left_over = -np.sum(q * np.log(inverse))  # H(x|z)
    identities = [
        (kl(q, r), by_code(kl)),
        (-np.sum(q * np.log(x_given_code)), by_code(kl) + left_over),
        (entropy(data), kl(q, data * code) + left_over),
        (kl(q, p), kl(q, r) + kl(code, prior)),
        (jsd(q, r), by_code(jsd)),
    ]
    np.testing.assert_allclose(*zip(*identities, strict=True), rtol=0, atol=1e-10)
    assert jsd(q, r) >= jsd(data, r.sum(1, keepdims=True))


def test_the_flipped_split(tables):
    data, code_given_x, prior, x_given_code = tables
    q, p = data * code_given_x, prior * x_given_code
    images = p.sum(1, keepdims=True)
    split = kl(images, data) + kl(p, images * code_given_x)
    np.testing.assert_allclose(kl(p, q), split, rtol=0, atol=1e-10)


# -- what the makers' costs amount to --------------------------------------------------------------


def softmax(logits, axis):
    e = np.exp(logits - logits.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def joints(data, enc, dec):
    q = data * softmax(enc, 1)
    return q, q.sum(0, keepdims=True) * softmax(dec, 0)


def numerically(divergence, at):
    """The gradient of `divergence(logits)` by central differences."""
    found = np.zeros_like(at)
    for i in np.ndindex(at.shape):
        step = np.zeros_like(at)
        step[i] = 1e-5
        found[i] = (divergence(at + step) - divergence(at - step)) / 2e-5
    return found


@pytest.fixture
def tabular():
    """p_d(x), logits of q(z|x) and of p(x|z), and T at its optimum for them."""
    rng = np.random.default_rng(1)
    data, enc, dec = softmax(rng.normal(size=(ROWS, 1)), 0), *rng.normal(size=(2, ROWS, COLUMNS))
    q, r = joints(data, enc, dec)
    return data, enc, dec, np.log(q / r)


@tiny.x64()
def pays(tabular, name, who, through=("q", "r")):
    """The gradient of a maker's expected cost with T held, by its logits; in float64."""
    data, enc, dec, optimum = map(jnp.asarray, tabular)
    game = pair_losses(name)

    def cost(logits):
        encoder, decoder = (logits, dec) if who == "encoder" else (enc, logits)
        q = data * jax.nn.softmax(encoder, 1)
        r = q.sum(0, keepdims=True) * jax.nn.softmax(decoder, 0)
        if who == "decoder":
            return jnp.sum(r * game.reconstructor_loss(optimum))
        # The source loss is a sum of a term of T(q) and one of T(r): at zero of the other.
        nothing = jnp.zeros_like(optimum)
        both = {
            "q": q * game.source_loss(optimum, nothing),
            "r": r * game.source_loss(nothing, optimum),
        }
        return sum(jnp.sum(both[part]) for part in through)

    found = np.asarray(jax.grad(cost)(enc if who == "encoder" else dec))
    assert found.dtype == np.float64
    return found


def truly(tabular, divergence, who):
    data, enc, dec, _ = tabular
    if who == "encoder":
        return numerically(lambda logits: divergence(*joints(data, logits, dec)), enc)
    return numerically(lambda logits: divergence(*joints(data, enc, logits)), dec)


@pytest.mark.parametrize("who", ["encoder", "decoder"])
def test_ml_descends_the_divergence_of_the_bound(tabular, who):
    np.testing.assert_allclose(pays(tabular, "ml", who), truly(tabular, kl, who), rtol=0, atol=1e-9)


@pytest.mark.parametrize("who", ["encoder", "decoder"])
def test_js_descends_the_divergence_of_jensen_and_shannon(tabular, who):
    wanted = truly(tabular, jsd, who)
    np.testing.assert_allclose(pays(tabular, "js", who) / 2, wanted, rtol=0, atol=1e-9)


def test_js_needs_both_pairs_and_kl_the_positive_one_alone(tabular):
    wanted = truly(tabular, jsd, "encoder")
    for through in ("q", "r"):
        off = np.abs(pays(tabular, "js", "encoder", through) / 2 - wanted).max()
        assert off > 0.05 * np.abs(wanted).max(), through
    np.testing.assert_allclose(pays(tabular, "ml", "encoder", "r"), 0, rtol=0, atol=1e-12)
    # Through the negative pair alone the other direction of KL is not descended either.
    backwards = lambda q, r: kl(r, q)
    off = pays(tabular, "rkl", "encoder") - truly(tabular, backwards, "encoder")
    assert np.abs(off).max() > 0.05 * np.abs(truly(tabular, backwards, "encoder")).max()
    np.testing.assert_allclose(
        pays(tabular, "rkl", "decoder"), truly(tabular, backwards, "decoder"), rtol=0, atol=1e-9
    )


def test_swapped_labels_keep_the_sign_of_each_pair():
    """softplus has a positive slope: what pulls T(q) down and T(r) up, whatever the name."""
    on_q, on_r = jax.random.normal(key(), (2, 20))  # well within the bounds of ml
    for name in PAIR_LOSSES:
        game = pair_losses(name)
        by_q, by_r = jax.grad(lambda q, r, g=game: jnp.sum(g.source_loss(q, r)), (0, 1))(on_q, on_r)
        assert (by_q >= 0).all(), name
        assert (by_r <= 0).all(), name
        assert (jax.grad(lambda r, g=game: jnp.sum(g.reconstructor_loss(r)))(on_r) < 0).all(), name
    both, pos, neg = (
        pair_losses(f"ns_{part}").source_loss(on_q, on_r) for part in ("both", "pos", "neg")
    )
    np.testing.assert_allclose(both, pos + neg, rtol=1e-6)


def test_exp_is_bounded():
    game = pair_losses("ml")
    np.testing.assert_allclose(
        game.reconstructor_loss(jnp.array([-50.0, 0.0, 50.0])),
        [-np.exp(LOGIT_CLIP[0]), -1, -np.exp(LOGIT_CLIP[1])], rtol=1e-6,
    )  # fmt: skip


def test_an_unknown_game_is_named():
    with pytest.raises(ValueError, match="recon_gan='gan' is unknown"):
        pair_losses("gan")


# -- the step --------------------------------------------------------------------------------------


def without(params, network):
    """The last layer of a critic at zero: it says the same of everything."""
    deepest = jax.tree.map(jnp.zeros_like, params[network])
    return params | {network: deepest}


def test_the_encoder_hears_both_critics():
    for weight in (0.0, 1.0):
        model = made(task="clustering", code_weight=weight)
        state = model.init(key())
        step = jax.jit(model.step)
        mute = state.replace(params=without(state.params, "critic_pair"))
        deaf = state.replace(params=without(without(state.params, "critic_pair"), "critic_code"))
        with mock.patch.object(iae.model, "step_players", only("encoder")):
            moved = lambda state: (
                not same(step(state, BATCH, key())[0].params["enc"], state.params["enc"])
            )
            assert moved(state)
            assert moved(mute) == bool(weight)
            assert not moved(deaf)


def only(name):
    true_play = iae.model.step_players
    return lambda players, losses, *args: true_play(
        {name: players[name]},
        {name: lambda p, stats: (lambda c, aux: (c, ({"decoder": c} | aux[0], aux[1])))(
            *losses[name](p, stats))},
        *args,
    )  # fmt: skip


def test_a_critic_blind_to_images_learns_nothing_from_codes():
    """Both pairs have one code: 2 log 2, whatever the encoder does."""

    class Blind(DenseReader):
        def __call__(self, x, v):
            return super().__call__(x * (self.out != 1), v)

    plan = {"task": "clustering", "clusters": 3, "r1": 0.0, "average": 0.0}
    fields = plan | {"critic_rate": 3e-2, "learning_rate": 1e-2}
    for reader, learns in ((Blind, False), (DenseReader, True)):
        with mock.patch.object(iae.model, "DenseReader", reader):
            model = iae.make(iae.Config(**SMALL | fields), DATA.spec)
            state, step = model.init(key()), jax.jit(model.step)
            for i in range(120):
                batch = DATA.train.batch(0, i, tiny.BATCH)
                state, metrics = step(state, batch, jax.random.key(i))
        cost = float(metrics["critic_pair"])
        assert (cost < TWO_LOG_TWO - 0.05) if learns else (abs(cost - TWO_LOG_TWO) < 0.005), cost


def test_averages_are_what_evaluation_reads():
    model = made(task="clustering", average=0.9)
    state = model.init(key())
    after = jax.jit(model.step)(state, BATCH, key())[0]
    for name in ("enc", "dec"):
        # At step 0 a tenth is kept.
        wanted = jax.tree.map(
            lambda old, new: 0.1 * old + 0.9 * new, state.params[name], after.params[name]
        )
        tiny.assert_close(after.extra["average"][name], wanted, 1e-6, 1e-7)
    x = BATCH["image"]
    assert not same(model.encode(state, x, key()), model.encode(after, x, key()))
    back = after.replace(extra=state.extra)
    assert same(model.encode(state, x, key()), model.encode(back, x, key()))


def test_a_convolutional_reader_by_hand():
    """A vector joins what the first convolution gives, before the rectifier, and nowhere else."""
    rng = np.random.default_rng(0)
    reader = ConvReader(width=1, out=2)
    x, v = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((2, 16, 16, 1), (2, 3)))
    params = reader.init(key(), x, v)["params"]
    params = jax.tree.map(lambda p: rng.normal(size=p.shape).astype(np.float32), params)
    assert {name: set(layer) for name, layer in params.items()} == {
        "Conv_0": {"kernel", "bias"}, "Dense_0": {"kernel"}, "Conv_1": {"kernel", "bias"},
        "Dense_1": {"kernel", "bias"},
    }  # fmt: skip

    def convolved(number, image):
        layer = params[f"Conv_{number}"]
        padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
        planes = [correlate2d(padded[..., 0], layer["kernel"][:, :, 0, o], "valid")[::2, ::2]
                  for o in range(layer["kernel"].shape[-1])]  # fmt: skip
        return np.stack(planes, -1) + layer["bias"]

    leaky = lambda h: np.where(h > 0, h, 0.2 * h)
    found = reader.apply({"params": params}, x, v)
    for image, vector, out in zip(np.asarray(x), np.asarray(v), found, strict=True):
        h = leaky(convolved(0, image) + vector @ params["Dense_0"]["kernel"])
        h = leaky(convolved(1, h))
        assert h.shape == (4, 4, 2)
        wanted = h.reshape(-1) @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]
        np.testing.assert_allclose(out, wanted, rtol=1e-4, atol=1e-4)


def test_noise_of_size_zero_is_no_noise():
    x = BATCH["image"]
    for local, noise in ((0, 0), (2, 2)):
        model = made(local=local, noise=noise)
        state = model.init(key())
        z, other = (model.encode(state, x, jax.random.key(i)) for i in range(2))
        assert same(z, other) == (noise == 0)
        assert same(*(model.decode(state, z, jax.random.key(i)) for i in range(2))) == (local == 0)


@pytest.mark.parametrize(
    ("start", "warmup", "deviations"),  # after 1, 5, 10 and 100 steps
    [
        (0, 10, (0.1, 0.5, 1, 1)),
        (5, 10, (0, 0, 0.5, 1)),
        (5, 0, (0, 0, 1, 1)),
        (0, 0, (1, 1, 1, 1)),
    ],
)
def test_the_local_code_grows(start, warmup, deviations):
    model, seen = made(local_start=start, local_warmup=warmup, average=0.0), []
    state, z = model.init(key()), jnp.zeros((4, 3))
    true = iae.model.nets.Bundle.__call__

    def noted(self, params, stats, name, *inputs):
        seen.append(np.asarray(inputs[0])[:, 3:])
        return true(self, params, stats, name, *inputs)

    with mock.patch.object(iae.model.nets.Bundle, "__call__", noted):
        for steps in (1, 5, 10, 100):
            model.decode(state.replace(step=jnp.int32(steps - 1)), z, key())
    for local, deviation in zip(seen, deviations, strict=True):
        np.testing.assert_allclose(local, deviation * seen[-1], rtol=1e-6)


@pytest.mark.parametrize("domain", ["inverted", "rotated", "coarse"])
def test_other_domains_by_hand(domain):
    x = jnp.array([[1.0, 0.0], [0.5, 0.5]])[None, :, :, None]
    wanted = {"inverted": [0, 1, 0.5, 0.5], "rotated": [0, 0.5, 1, 0.5], "coarse": [0.5] * 4}
    np.testing.assert_allclose(to_other_domain(domain, x), [wanted[domain]])


# -- measures --------------------------------------------------------------------------------------


def test_information_of_tables(tables):
    data, code_given_x, _, _ = tables
    counts = np.array([3, 1, 4, 1, 5, 9, 2])
    data = (counts / counts.sum())[:, None]
    q = data * code_given_x
    wanted = kl(q, data * q.sum(0, keepdims=True))
    np.testing.assert_allclose(mutual_information(np.repeat(code_given_x, counts, axis=0)), wanted)
    np.testing.assert_allclose(mutual_information(np.eye(4)), np.log(4))
    assert mutual_information(np.full((9, 4), 0.25)) == 0


def test_variance_within_groups_by_hand():
    x, groups = np.array([[0.0, 1], [2, 1], [5, 5]]), np.array([7, 7, 8])
    np.testing.assert_allclose(within_group_variance(x, groups), 2 / 3)
    np.testing.assert_allclose(within_group_variance(x, np.zeros(3)), np.var(x, axis=0).sum())


def test_measures_of_perfect_and_of_copying_reconstructions():
    points, kinds = sample_points(4000, seed=2)
    images = np.float32((points + 10) / 20).reshape(-1, 1, 2, 1)
    data = from_arrays(images[:10], kinds[:10], images, kinds, Options(), levels=0)
    code = lambda state, batch, rng: jax.nn.one_hot(batch["label"], 2)
    means = np.stack([images[kinds == k].mean(0) for k in (0, 1)])
    mean = lambda state, z, rng: jnp.tensordot(z, jnp.asarray(means), 1)
    draw = lambda state, z, rng: (
        mean(state, z, rng) + jax.random.normal(rng, (len(z), 1, 2, 1)) / 20
    )
    state = State(jnp.int32(0), {}, {}, {})
    perfect, copying = (
        reconstruction_measures(code, decode, state, data, key(), categorical=True)
        for decode in (draw, mean)
    )
    # 8,000 squared normal numbers: within 5 standard errors of 2 (1 of x, 1 of the draw).
    off = 5 * 2 * np.sqrt(2 / 8000)
    np.testing.assert_allclose([perfect["rho"], perfect["delta"]], 2, atol=off)
    np.testing.assert_allclose(perfect["change_over_error"], 1, atol=off)
    np.testing.assert_allclose([copying["rho"], copying["delta"]], [1, 0], atol=1e-5)
    np.testing.assert_allclose(400 * copying["squared_error"], 2, atol=off)
    np.testing.assert_allclose(perfect["information"], np.log(2), atol=1e-3)
    by_label = reconstruction_measures(code, mean, state, data, key(), categorical=False)
    assert "information" not in by_label
    np.testing.assert_allclose(by_label["variance"], copying["variance"])
    each = from_arrays(images[:10], np.arange(10), images[:10], np.arange(10), levels=0)
    first = lambda state, z, rng: jnp.asarray(images[:10])
    code = lambda state, batch, rng: jax.nn.one_hot(batch["label"], 10)
    none = reconstruction_measures(code, first, state, each, key(), True, batch_size=10)
    assert none["rho"] is none["delta"] is none["change_over_error"] is None


# -- what a user can do wrong ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"latent": 0}, "latent=0"),
        ({"local": -1}, "local=-1"),
        ({"r1": -0.1}, "r1=-0.1"),
        ({"average": 1.0}, "average=1.0"),
        ({"widths": ()}, "widths"),
        ({"flipped": True, "task": "given"}, "flipped needs task=plain or task=clustering"),
        ({"task": "given", "noise": 2}, "noise=0"),
        ({"task": "translation", "network": "conv"}, "network=mlp"),
        ({"task": "translation", "output": "linear"}, "output=sigmoid"),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        iae.Config(**fields)


def test_data_that_does_not_fit_is_refused():
    bare = DATA.spec._replace(classes=0)
    for task in ("given", "semisupervised"):
        with pytest.raises(ValueError, match=f"task={task} needs labels"):
            iae.make(iae.Config(task=task), bare)
    wide = DATA.spec._replace(image_shape=(8, 7, 1), mean=DATA.spec.mean[:, :7])
    for domain, message in (("coarse", "even sides"), ("rotated", "square")):
        with pytest.raises(ValueError, match=message):
            iae.make(iae.Config(task="translation", domain=domain), wide)
    model = made(task="semisupervised")
    few = {name: value for name, value in BATCH.items() if name != "supervised"}
    with pytest.raises(ValueError, match="set labels_batch"):
        model.step(model.init(key()), few, key())
