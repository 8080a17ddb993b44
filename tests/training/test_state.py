"""Moving averages of networks, by hand."""

import jax.numpy as jnp
import numpy as np

from jaxae.training.state import ema_decay, init_ema, update_ema


def test_a_young_average_keeps_less_of_itself():
    """A tenth at step 0, 6/15 at step 5, and from step 26 on the 27/36 that was asked for."""
    for step, keep in ((0, 0.1), (5, 0.4), (26, 0.75), (27, 0.75), (1000, 0.75)):
        np.testing.assert_allclose(ema_decay(0.75, step), keep, rtol=1e-6)


def test_averages_move_towards_the_networks_they_are_of():
    params = {"enc": {"w": jnp.array(3.0)}, "critic": {"w": jnp.array(9.0)}}
    stats = {"enc": {"mean": jnp.array(5.0)}, "critic": {"mean": jnp.array(8.0)}}
    extra = init_ema(("enc", "dec"), params, stats)
    assert extra == {"average": {"enc": {"w": 3.0}}, "average_stats": {"enc": {"mean": 5.0}}}
    now = {"enc": {"w": jnp.array(1.0)}, "critic": {"w": jnp.array(0.0)}}
    found = update_ema(0.75, extra, now, {"enc": {"mean": jnp.array(1.0)}})
    np.testing.assert_allclose(found["average"]["enc"]["w"], 0.75 * 3 + 0.25)
    np.testing.assert_allclose(found["average_stats"]["enc"]["mean"], 0.75 * 5 + 0.25)
    assert set(found["average"]) == set(found["average_stats"]) == {"enc"}


def test_without_names_or_statistics_there_is_nothing_to_average():
    params = {"enc": {"w": jnp.array(3.0)}}
    assert init_ema((), params) == {"average": {}}
    assert init_ema(("enc",), params) == {"average": {"enc": {"w": 3.0}}}


def test_an_average_by_hand():
    """3/4 of 2 and 1/4 of 4 are 2.5."""
    extra = init_ema(("gen",), {"gen": {"w": jnp.full(2, 2.0)}})
    moved = update_ema(0.75, extra, {"gen": {"w": jnp.full(2, 4.0)}})
    np.testing.assert_array_equal(moved["average"]["gen"]["w"], [2.5, 2.5])
