"""Every player of an adversarial model applies exactly the gradient of its own loss.

One test over all of them. The oracle is `oracles.LOSSES`: the losses of each paper written
down once more, from the papers and not from the models, as plain sums over one batch. What the
model draws is recorded and handed to the oracle. Both are computed in float64, so that rounding,
which differs between processors, leaves room for no wrong term. The descent is plain, so that what
a player applies is its gradient times a constant; what it does not own must keep its bits.
"""

import contextlib
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest
import tiny

from jaxae.models import MODELS
from jaxae.training import state as contract

RATE = 0.05
# Both sides are computed in float64. Where batch normalisation divides by the square root of a
# variance near its floor of 1e-5, rounding of 2e-16 grows to 1e-11; a hundred times that is far
# below what any wrong term would be.
ROUNDING = 1e-9
DATA = tiny.images(labels_batch=8)
DRAWN = ("normal", "uniform", "randint", "categorical", "bernoulli", "permutation")
TRUE_DESCEND, TRUE_PLAY = contract.descend, contract.step_players


@contextlib.contextmanager
def recorded_draws():
    """The arrays that `jax.random` gives while this holds, in order."""
    draws = []

    def noted(true):
        def draw(*args, **kwargs):
            found = true(*args, **kwargs)
            draws.append(found)
            return found

        return draw

    with contextlib.ExitStack() as patches:
        for name in DRAWN:
            true = getattr(jax.random, name)
            patches.enter_context(mock.patch.object(jax.random, name, noted(true)))
        yield draws


def one_step(variant: str, step_players=TRUE_PLAY):
    """State before, batch, draws, and (owned before, update, owned after) of each of its moves."""
    moves = []

    def descend(loss_fn, tx, owned, opt_state, axis_name=None):
        updates = []

        def update(grads, opt_state, params):
            found, opt_state = tx.update(grads, opt_state, params)
            updates.append(found)
            return found, opt_state

        noting = optax.GradientTransformation(tx.init, update)
        moved, opt_state, metrics = TRUE_DESCEND(loss_fn, noting, owned, opt_state, axis_name)
        moves.append((owned, *updates, moved))
        return moved, opt_state, metrics

    module = tiny.module_of(tiny.VARIANTS[variant][0])
    with mock.patch.object(module, "adam", side_effect=lambda *_, **__: optax.sgd(RATE)):
        model = tiny.make(variant, DATA)
    before = tiny.in_float64(jax.jit(model.init)(jax.random.key(3)))
    if variant == "ali post hoc":  # the step after its GAN's last
        before = before.replace(step=jnp.int32(1))
    batch = tiny.in_float64(DATA.train.batch(1, 0, tiny.BATCH))
    with (
        mock.patch.object(contract, "descend", descend),
        mock.patch.object(module, "step_players", step_players),
        mock.patch.object(jax.lax, "cond", lambda early, a, b, s: a(s) if early else b(s)),
        recorded_draws() as draws,
    ):
        after, _ = model.step(before, batch, jax.random.key(4))
    return before, after, batch, draws, moves


@tiny.x64()
def check(variant: str, step_players=TRUE_PLAY) -> None:
    """Asserts that the moves of one step are those of the oracle, in its order."""
    before, after, batch, draws, moves = one_step(variant, step_players)
    oracle = oracles.LOSSES[variant](DATA.spec, before, batch, draws)
    assert len(moves) == len(oracle.losses)
    params = before.params
    for (name, loss), (owned, update, moved) in zip(oracle.losses.items(), moves, strict=True):
        assert set(owned) == set(oracle.owns[name]), name
        seen_by = before.params if oracle.simultaneous else params
        tiny.assert_same_bits(owned, {net: seen_by[net] for net in owned})
        wanted = jax.grad(lambda own, all_=seen_by, loss=loss: loss(all_ | own))(owned)
        tiny.assert_same_bits(moved, optax.apply_updates(owned, update))
        found = tiny.leaves(jax.tree.map(lambda u: u / -RATE, update))
        for key, gradient in tiny.leaves(wanted).items():
            scale = max(1.0, np.abs(gradient).max())
            assert found[key].dtype == gradient.dtype == np.float64, f"{variant}, {name}{key}"
            np.testing.assert_allclose(
                found[key] / scale, gradient / scale, rtol=0, atol=ROUNDING,
                err_msg=f"{variant}, {name}{key}",
            )  # fmt: skip
        params = params | moved
    tiny.assert_same_bits(after.params, params)


# One variant of each model shows that a broken copy is noticed.
ONE_EACH = ("aae", "acai aae", "alae ablated", "ali", "gan", "iae", "vaegan")


def test_every_adversarial_model_has_an_oracle():
    with_players = {name for name in MODELS if hasattr(tiny.module_of(name), "step_players")}
    assert {tiny.VARIANTS[name][0] for name in oracles.LOSSES} == with_players
    assert {tiny.VARIANTS[name][0] for name in ONE_EACH} == with_players


@pytest.mark.parametrize("variant", sorted(oracles.LOSSES))
def test_each_move_is_the_gradient_of_the_players_own_loss(variant):
    check(variant)


@pytest.mark.parametrize("variant", ONE_EACH)
def test_a_loss_that_leaks_into_another_is_noticed(variant):
    """A broken copy: the last player's loss has the first one's in it."""

    def leaking(players, losses, params, opt, stats, *args):
        first, *_, last = losses

        def sum_of(p, stats):
            cost, aux = losses[last](p, stats)
            return cost + losses[first](p, stats)[0], aux

        return TRUE_PLAY(players, losses | {last: sum_of}, params, opt, stats, *args)

    with pytest.raises(AssertionError):
        check(variant, leaking)


@pytest.mark.parametrize("variant", ONE_EACH)
def test_a_player_that_moves_anothers_network_is_noticed(variant):
    """A broken copy: the last player owns what the first one owns as well.

    No loss here has a stop-gradient that could be removed: what one would hold back is held back
    by what a player owns, and this copy is the one without.
    """

    def greedy(players, losses, params, opt, stats, *args):
        first, *_, last = losses
        owns = tuple(sorted({*players[first].owns, *players[last].owns, *params}))
        tx = optax.sgd(RATE)  # as all have here, over whatever networks
        players = players | {last: contract.Player(owns, tx)}
        opt = opt | {last: tx.init({name: params[name] for name in owns})}
        return TRUE_PLAY(players, losses, params, opt, stats, *args)

    with pytest.raises(AssertionError):
        check(variant, greedy)


@pytest.mark.parametrize("variant", ONE_EACH)
def test_a_flipped_sign_is_noticed(variant):
    """A broken copy: the first player climbs its loss."""

    def climbing(players, losses, params, opt, stats, *args):
        first = next(iter(losses))

        def flipped(p, stats):
            cost, aux = losses[first](p, stats)
            return -cost, aux

        return TRUE_PLAY(players, losses | {first: flipped}, params, opt, stats, *args)

    with pytest.raises(AssertionError):
        check(variant, climbing)
