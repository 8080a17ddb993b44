"""By which optimiser each player of an adversarial model moves, and what else its turn moves.

The players are those that a step hands to `step_players`. Oracles: Adam in numpy, by the rates
that the fields' help promises; the turns in which the papers' codes update batch statistics.
"""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jaxae.fields import field_types
from jaxae.models import MODELS

DATA = tiny.images(labels_batch=8)
BATCH = DATA.train.batch(1, 0, tiny.BATCH)
RATES = {"learning_rate": 0.01, "critic_rate": 0.02, "dis_rate": 0.03, "reciprocity_rate": 0.04,
         "fool_rate": 0.05, "supervised_rate": 0.06}  # fmt: skip
BETA = 0.3


def built(variant, **changes):
    """The model, and its module."""
    name, fields = tiny.VARIANTS[variant]
    module = tiny.module_of(name)
    return module.make(module.Config(**fields | changes), DATA.spec), module


def at_play(variant, look, **changes):
    """What `look(players, losses, params, opt, stats)` gives at the start of a step."""
    model, module = built(variant, **changes)
    seen = {}

    def step_players(players, losses, params, opt, stats, *args):
        found, stats = look(players, losses, params, opt, stats)
        seen.update(found)
        return params, opt, stats, dict.fromkeys(("loss", "decoder", "generator"), jnp.zeros(()))

    @jax.jit
    def step(state):
        seen.clear()
        late = lambda _, first, second, s: second(s)
        with (
            mock.patch.object(module, "step_players", step_players),
            mock.patch.object(jax.lax, "cond", late),
        ):
            return model.step(state, BATCH, jax.random.key(0))[0], dict(seen)

    state = jax.jit(model.init)(jax.random.key(0))
    after, found = step(state)
    return state, after, found


# Variant -> player -> field of its rate, and decay of its first moment.
LEARN, CRITIC, DIS = (f"{name}_rate" for name in ("learning", "critic", "dis"))
OPTIMISERS = {
    "gan": {"critic": (CRITIC, BETA), "generator": (LEARN, BETA)},
    "vaegan": {"encoder": (LEARN, BETA), "decoder": (LEARN, BETA), "discriminator": (DIS, BETA)},
    "vaegan separate": {
        "encoder": (LEARN, BETA), "decoder": (LEARN, BETA), "generator": (LEARN, BETA),
        "discriminator": (DIS, BETA),
    },
    "ali": {"critic": (CRITIC, BETA), "generator": (LEARN, BETA)},
    "ali joint regressor": {
        "critic": (CRITIC, BETA), "generator": (LEARN, BETA), "regressor": (LEARN, BETA),
    },
    "ali post hoc": {
        "critic": (CRITIC, BETA), "generator": (LEARN, BETA), "pair_critic": (CRITIC, BETA),
        "encoder": (LEARN, BETA),
    },
    "aae semisupervised": {
        "reconstruction": (LEARN, 0.9), "critic_z": (CRITIC, BETA), "critic_y": (CRITIC, BETA),
        "fool": ("fool_rate", BETA), "supervised": ("supervised_rate", 0.9),
    },
    "aae reduction": {
        "reconstruction": (LEARN, 0.9), "critic_z": (CRITIC, BETA), "critic_y": (CRITIC, BETA),
        "fool": ("fool_rate", BETA), "heads": ("supervised_rate", 0.9),
    },
    "iae semisupervised": {
        "critic_pair": (CRITIC, BETA), "critic_code": (CRITIC, BETA), "decoder": (LEARN, BETA),
        "encoder": (LEARN, BETA), "supervised": ("supervised_rate", BETA),
    },
    "iae flipped": {
        "critic_pair": (CRITIC, BETA), "critic_image": (CRITIC, BETA), "decoder": (LEARN, BETA),
        "encoder": (LEARN, BETA),
    },
    "acai": {"autoencoder": (LEARN, 0.9), "critic": (CRITIC, 0.9)},
    "alae": {
        "critic": (CRITIC, BETA), "generator": (LEARN, BETA),
        "reciprocity": ("reciprocity_rate", BETA),
    },
}  # fmt: skip
GRADIENTS = (1.0, -0.5, 0.25)


def adam_by_hand(rate, beta1, beta2):
    """The updates that follow `GRADIENTS`."""
    m = v = 0.0
    for t, g in enumerate(GRADIENTS, start=1):
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        yield -rate * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + 1e-8)


@pytest.mark.parametrize("variant", OPTIMISERS)
def test_each_player_has_the_optimiser_that_its_fields_promise(variant):
    kinds = field_types(MODELS[tiny.VARIANTS[variant][0]].Config)
    fields = {name: value for name, value in (RATES | {"beta1": BETA}).items() if name in kinds}
    beta2 = 0.8 if "beta2" in kinds else 0.999
    fields |= {"beta2": beta2, "moments": "apart"} if "beta2" in kinds else {}

    def look(players, losses, params, opt, stats):
        found = {}
        for name, player in players.items():
            owned = {net: params[net] for net in player.owns}
            state, found[name] = player.tx.init(owned), []
            for g in GRADIENTS:
                grads = jax.tree.map(lambda leaf, g=g: jnp.full_like(leaf, g), owned)
                updates, state = player.tx.update(grads, state, owned)
                found[name].append([u.reshape(-1)[0] for u in jax.tree.leaves(updates)])
        return found, stats

    found = at_play(variant, look, **fields)[2]
    assert found.keys() == OPTIMISERS[variant].keys()
    for name, (rate, beta1) in OPTIMISERS[variant].items():
        for updates, wanted in zip(
            found[name], adam_by_hand(RATES[rate], beta1, beta2), strict=True
        ):
            np.testing.assert_allclose(updates, wanted, rtol=1e-4, err_msg=name)


def test_every_adversarial_model_is_asked_for_its_optimisers():
    with_players = {name for name in MODELS if hasattr(tiny.module_of(name), "step_players")}
    assert {tiny.VARIANTS[variant][0] for variant in OPTIMISERS} == with_players


_ALL = dict.fromkeys(("encoder_norm", "generator_norm", "discriminator_norm"), "batch")
# Variant -> changed fields, and player -> the networks whose batch statistics its turn moves.
STATISTICS = {
    "gan": ({"generator_norm": "batch", "discriminator_norm": "batch", "r1": 0.0},
            {"critic": {"critic"}, "generator": {"gen"}}),
    "vaegan": (_ALL, {"encoder": {"enc"}, "decoder": {"dec"}, "discriminator": {"dis"}}),
    "vaegan separate": (_ALL, {"encoder": {"enc"}, "decoder": {"dec"}, "generator": {"gen"},
                               "discriminator": {"dis"}}),
    "ali feature matching": (_ALL, {"critic": {"critic"}, "generator": {"enc", "gen"}}),
    "ali joint regressor": (_ALL, {"critic": {"critic"}, "generator": {"gen"},
                                   "regressor": {"enc"}}),
    "ali post hoc": (_ALL, {"pair_critic": {"pair_critic"}, "encoder": {"enc"}}),
    "aae semisupervised": (_ALL, {"reconstruction": {"trunk", "dec"}, "critic_z": {"critic_z"},
                                  "critic_y": {"critic_y"}, "fool": set(), "supervised": set()}),
}  # fmt: skip


@pytest.mark.parametrize("variant", STATISTICS)
def test_each_turn_moves_the_statistics_of_what_it_trains(variant):
    changes, wanted = STATISTICS[variant]
    changed = lambda old, new: {
        net for net in old if not all(
            np.array_equal(a, b)
            for a, b in zip(jax.tree.leaves(old[net]), jax.tree.leaves(new[net]), strict=True))
    }  # fmt: skip

    def look(players, losses, params, opt, stats):
        found, last = {}, stats
        for name, loss in losses.items():
            found[name] = loss(params, stats)[1][1]
            last = loss(params, last)[1][1]
        return found, last

    before, after, found = at_play(variant, look, **changes)
    old = before.extra["stats"]
    assert {name: changed(old, stats) for name, stats in found.items()} == wanted
    # And the step keeps them.
    assert changed(old, after.extra["stats"]) == set().union(*wanted.values())
