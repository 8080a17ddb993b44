"""Priors against their definitions, what each phase moves, and what a user can do wrong."""

import dataclasses
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from scipy import stats

from jaxae.models import aae, ali, iae
from jaxae.models.aae.networks import head_repulsion
from jaxae.models.shared import priors
from jaxae.training import state as state_module
from jaxae.training.parallel import Engine, Mode

DATA = tiny.images(labels_batch=8)
TINY = aae.Config(latent=3, widths=(16,))
N = 20_000


def model_of(data=DATA, **fields):
    return aae.make(dataclasses.replace(TINY, **fields), data.spec)


# -- priors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cdf"),
    [("gaussian", stats.norm(0, 3).cdf), ("uniform", stats.uniform(-3, 6).cdf)],
)
def test_priors_without_pieces(name, cdf):
    prior = priors.make_prior(name, 2, 3.0)
    for z in (prior.sample(jax.random.key(0), N),
              prior.sample_given_label(jax.random.key(1), jnp.zeros(N, int))):  # fmt: skip
        assert z.shape == (N, 2)
        for axis in np.asarray(z).T:
            assert stats.kstest(axis, cdf).pvalue > 1e-3
        assert abs(np.corrcoef(np.asarray(z).T)[0, 1]) < 5 / np.sqrt(N)


def test_a_petal_is_a_gaussian_turned_by_its_label():
    prior, label = priors.make_prior("mixture", 2, 2.0, num_classes=8), 3
    z = np.asarray(prior.sample_given_label(jax.random.key(0), jnp.full(N, label)))
    turn = 2 * np.pi * label / 8
    back = z @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    for axis, mean, deviation in zip(back.T, (2 * 1.4, 0), (2 * 0.5, 2 * 0.05), strict=True):
        assert stats.kstest(axis, stats.norm(mean, deviation).cdf).pvalue > 1e-3
    centres = priors.petal_centres(2.0, 8)
    np.testing.assert_allclose(centres[label], z.mean(0), atol=5 * 1 / np.sqrt(N))


def test_the_roll_is_unrolled_label_by_label():
    prior = priors.make_prior("swiss_roll", 2, 1.0, num_classes=10)
    labels = jnp.arange(N) % 10
    z = np.asarray(prior.sample_given_label(jax.random.key(0), labels), np.float64)
    share = (np.linalg.norm(z, axis=1) / 3) ** 2  # how far along, in [0, 1)
    np.testing.assert_array_equal(np.minimum(share * 10 + 1e-4, 9.999).astype(int), labels)
    assert stats.kstest(share, stats.uniform(0, 1).cdf).pvalue > 1e-3
    angle = np.angle(z[:, 0] + 1j * z[:, 1])
    apart = np.angle(np.exp(1j * (angle - 4 * np.pi * np.sqrt(share))))
    assert np.abs(apart).max() < 1e-2


@pytest.mark.parametrize("name", ["mixture", "swiss_roll"])
def test_a_draw_without_a_label_takes_one_at_random(name):
    prior = priors.make_prior(name, 2, 1.0, num_classes=4)
    free = np.asarray(prior.sample(jax.random.key(0), N))
    mixed = np.concatenate([
        prior.sample_given_label(jax.random.key(1 + c), jnp.full(N // 4, c)) for c in range(4)
    ])  # fmt: skip
    for one, other in zip(free.T, mixed.T, strict=True):
        assert stats.ks_2samp(one, other).pvalue > 1e-3


@pytest.mark.parametrize(
    ("name", "word"), [("cauchy", "gaussian, mixture"), ("mixture", "latent=3")]
)
def test_unknown_priors_and_misfits_are_refused(name, word):
    with pytest.raises(ValueError, match=word):
        priors.make_prior(name, 3, 1.0)


# -- the step --------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
def test_the_discriminator_is_told_the_class_or_that_it_is_unknown(known):
    """Its first layer's rows, one for each of three classes and for none: those that are never
    told have no gradient."""
    with mock.patch.object(aae.model, "adam", side_effect=lambda *_, **__: optax.sgd(1.0)):
        model = model_of(task="conditioned", latent=2, widths=(8,))
    batch = DATA.train.batch(0, 0, tiny.BATCH)
    batch = batch | {"labelled": jnp.full(tiny.BATCH, known), "label": batch["label"] % 2}
    state = jax.jit(model.init)(jax.random.key(0))
    after = jax.jit(model.step)(state, batch, jax.random.key(1))[0]
    old, new = (s.params["critic_z"]["Dense_0"]["kernel"][2:] for s in (state, after))
    moved = np.any(old != new, axis=1)
    assert moved.tolist() == ([True, True, False, False] if known else [False, False, False, True])


def test_heads_repel_each_other_within_the_margin():
    rows = jnp.float32([[0, 0], [3, 4], [0, 1]])  # distances 5, 1 and sqrt(9 + 9)
    np.testing.assert_allclose(head_repulsion(rows, 2.0), 1.0, rtol=1e-6)
    np.testing.assert_allclose(head_repulsion(rows, 6.0), 1 + 5 + 6 - np.sqrt(18), rtol=1e-6)
    same = jax.grad(lambda r: head_repulsion(r, 1.0))(jnp.zeros((2, 2)))
    assert np.isfinite(same).all()


@pytest.mark.parametrize(("silent", "resting"), [("critic_z", "code"), ("critic_y", "label")])
def test_an_adversary_of_one_head_does_not_move_the_other(silent, resting):
    model = model_of(task="clustering", clusters=4)
    state, batch = model.init(jax.random.key(0)), DATA.train.batch(0, 0, 16)
    # A discriminator of zeros says nothing, and learns nothing either: it stays as it is.
    mute = jax.tree.map(jnp.zeros_like, state.params[silent])
    state = state.replace(params=state.params | {silent: mute})

    def without_reconstruction(players, losses, *args):
        return state_module.step_players(
            players,
            {name: loss for name, loss in losses.items() if name != "reconstruction"},
            *args,
        )

    with mock.patch.object(aae.model, "step_players", without_reconstruction):
        after, _ = model.step(state, batch, jax.random.key(1))
    tiny.assert_same_bits(after.params[silent], mute)
    tiny.assert_same_bits(after.params[resting], state.params[resting])
    moved = {"code", "label"} - {resting} | {"trunk"}
    for name in moved:
        with pytest.raises(AssertionError):
            tiny.assert_same_bits(after.params[name], state.params[name])


def test_a_deterministic_code_takes_no_notice_of_the_key():
    model, x = model_of(), DATA.train.batch(0, 0, 4)["image"]
    state = model.init(jax.random.key(0))
    one, other = (model.encode(state, x, jax.random.key(i)) for i in (1, 2))
    np.testing.assert_array_equal(one, other)


def test_ten_steps_from_one_seed_end_in_the_same_bits():
    one_device, found = Mode("mesh", 1, "calls", "sequence"), []
    for seed in (3, 3, 4):
        engine = Engine(
            model_of(posterior="gaussian"), DATA.train, tiny.plan(seed=seed), one_device
        )
        found.append(engine.run(engine.init(), 0, 10)[0])
    tiny.assert_same_bits(found[0], found[1])
    with pytest.raises(AssertionError):
        tiny.assert_same_bits(found[0], found[2])


@pytest.mark.parametrize("posterior", ["gaussian", "universal"])
def test_a_random_code_does(posterior):
    model, x = model_of(posterior=posterior), DATA.train.batch(0, 0, 4)["image"]
    state = model.init(jax.random.key(0))
    one, other = (model.encode(state, x, jax.random.key(i)) for i in (1, 2))
    assert np.abs(one - other).min() > 0


def test_the_cost_of_reconstruction_is_a_sum_over_pixels():
    """A mean would be 64 times smaller here, and the published rates would stand still."""
    model, batch = model_of(), DATA.train.batch(0, 0, 16)
    state = model.init(jax.random.key(0))
    _, metrics = model.step(state, batch, jax.random.key(1))
    back = model.decode(state, model.encode(state, batch["image"], jax.random.key(2)), None)
    wanted = 0.5 * np.sum((np.asarray(batch["image"]) - np.asarray(back)) ** 2) / 16
    np.testing.assert_allclose(metrics["reconstruction"], wanted, rtol=1e-5)
    found = model.evaluate(state, batch, jax.random.key(3))
    np.testing.assert_allclose(np.mean(found["loss"]), wanted, rtol=1e-5)
    np.testing.assert_allclose(np.mean(found["mse"]), 2 * wanted / 64, rtol=1e-5)


def test_codes_and_prior_of_a_task_with_classes_are_a_class_and_a_code():
    model, x = model_of(task="semisupervised"), DATA.train.batch(0, 0, 5)["image"]
    state = model.init(jax.random.key(0))
    code = model.encode(state, x, jax.random.key(1))
    assert code.shape == (5, 3 + 3)  # three classes
    np.testing.assert_allclose(code[:, :3].sum(1), 1, rtol=1e-6)
    drawn = model.prior(jax.random.key(2), 400)
    np.testing.assert_array_equal(np.sort(drawn[:, :3], 1), np.tile([0, 0, 1], (400, 1)))
    np.testing.assert_array_equal(
        np.argmax(model.predict(state, x, jax.random.key(1)), 1), np.argmax(code[:, :3], 1)
    )


def test_fixed_heads_are_no_parameters():
    model = model_of(task="reduction", reduction_labels=True, fixed_heads=10.0)
    state, x = model.init(jax.random.key(0)), DATA.train.batch(0, 0, 5)["image"]
    assert "heads" not in state.params
    logits = model.predict(state, x, jax.random.key(1))
    code = model.encode(state, x, jax.random.key(1))
    network = aae.networks.build_networks(
        dataclasses.replace(TINY, task="reduction", reduction_labels=True, fixed_heads=10.0),
        DATA.spec,
    )
    h = network(state.params, {}, "trunk", x.reshape(5, -1))
    wanted = 10 * jax.nn.softmax(logits) + network(state.params, {}, "code", h)
    np.testing.assert_allclose(code, wanted, rtol=1e-5)


def test_the_published_optimiser_by_hand():
    """Four steps of each player, the rates a tenth from the third on; momenta as in the paper."""
    config = dataclasses.replace(
        TINY, task="semisupervised", optimiser="sgd", drops=(2,), learning_rate=0.01,
        critic_rate=0.2, fool_rate=0.3, supervised_rate=0.4,
    )  # fmt: skip
    wanted = {
        "reconstruction": (0.01, 0.9),
        "critic_z": (0.2, 0.1),
        "critic_y": (0.2, 0.1),
        "fool": (0.3, 0.1),
        "supervised": (0.4, 0.9),
    }
    players = aae.model._players(config)
    assert set(players) == set(wanted)
    for name, (rate, momentum) in wanted.items():
        state, trace = players[name].tx.init(jnp.zeros(1)), 0.0
        for step, gradient in enumerate((1.0, -2.0, 0.5, 3.0)):
            found, state = players[name].tx.update(jnp.full(1, gradient), state)
            trace = momentum * trace + gradient
            share = 0.1 if step >= 2 else 1.0
            np.testing.assert_allclose(found, -share * rate * trace, rtol=1e-5, err_msg=name)


# -- mistakes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"latent": 0}, "latent=0"),
        ({"widths": ()}, "widths"),
        ({"image_dropout": 1.0}, "image_dropout"),
        ({"drops": (3,)}, "drops belong to optimiser=sgd"),
        ({"optimiser": "sgd", "decay_steps": 9}, "decay_steps belong to optimiser=adam"),
        ({"fixed_heads": 1.0}, "fixed_heads needs task=reduction"),
        ({"reduction_labels": True}, "reduction_labels needs task=reduction"),
    ],
)
def test_contradicting_fields_are_refused(fields, word):
    with pytest.raises(ValueError, match=word):
        dataclasses.replace(TINY, **fields)


@pytest.mark.parametrize(
    ("module", "task", "others"),
    [
        (aae, "supervised", ("plain", "conditioned", "semisupervised")),
        (ali, "conditional", ("plain", "semisupervised")),
        (iae, "given", ("plain", "semisupervised")),
    ],
)
def test_what_reads_every_label_says_so(module, task, others):
    assert module.Config(task=task).reads_every_label
    assert not any(module.Config(task=other).reads_every_label for other in others)


def test_tasks_that_need_labels_say_so():
    unlabelled = DATA.spec._replace(classes=0)
    for task in aae.config.LABELLED:
        with pytest.raises(ValueError, match=f"task={task} needs labels"):
            aae.make(dataclasses.replace(TINY, task=task), unlabelled)
    with pytest.raises(ValueError, match="latent=3 to be the number of classes, 16"):
        model_of(task="reduction", fixed_heads=1.0)
    model, batch = model_of(task="semisupervised"), tiny.images().train.batch(0, 0, 16)
    with pytest.raises(ValueError, match="set labels_batch"):
        model.step(model.init(jax.random.key(0)), batch, jax.random.key(1))
