import jax.numpy as jnp
import numpy as np
import pytest

from jaxae.nets.orderings import greedy_path, neighbour_graph


def codes(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def slow_tour(rows, start):
    """float64, by the definition: always on to the nearest code not yet visited."""
    rows, order, left = rows.astype(np.float64), [start], set(range(len(rows))) - {start}
    while left:
        here = rows[order[-1]]
        order.append(min(left, key=lambda i: (np.sum((rows[i] - here) ** 2), i)))
        left.remove(order[-1])
    return order


@pytest.mark.parametrize(("start", "order"), [(0, [0, 2, 3, 1]), (1, [1, 3, 2, 0])])
def test_path_on_a_line_by_hand(start, order):
    found = greedy_path(jnp.array([[0.0], [10.0], [1.0], [3.0]]), start)
    assert found.tolist() == order
    assert found.dtype == np.int32


@pytest.mark.parametrize(("shift", "start"), [(0.0, 0), (1000.0, 7)])
def test_path_equals_the_slow_tour(shift, start):
    rows = codes(60, 3) + np.float32(shift)
    assert greedy_path(jnp.asarray(rows), start).tolist() == slow_tour(rows, start)


def test_path_visits_equal_codes_by_lowest_index():
    assert greedy_path(jnp.zeros((5, 2)), 2).tolist() == [2, 0, 1, 3, 4]


def test_path_of_one_code():
    assert greedy_path(jnp.ones((1, 3))).tolist() == [0]


def test_graph_of_pairs_and_a_straggler_by_hand():
    # 0 and 1 have each other, as 2 and 3 have; 4 looks at 3, which does not look back.
    rows = jnp.array([[0.0], [1.0], [10.0], [11.0], [14.0]])
    indices, evenness = neighbour_graph(rows, 2)
    assert indices[:, 0].tolist() == [1, 0, 3, 2, 3]
    assert indices[4].tolist() == [3, 2]
    assert evenness == pytest.approx({"largest_in_degree": 2, "mutual_share": 0.8})


def test_graph_equals_brute_force():
    rows, k = codes(45, 4), 3
    indices, evenness = neighbour_graph(jnp.asarray(rows), k, batch=16)  # 45 is no multiple of 16
    distances = np.sum((rows[:, None].astype(np.float64) - rows[None]) ** 2, axis=2)
    np.fill_diagonal(distances, np.inf)
    expected = np.argsort(distances, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(indices, expected)
    closest = expected[:, 0].tolist()
    assert evenness["largest_in_degree"] == max(closest.count(i) for i in range(45))
    mutual = sum(closest[closest[i]] == i for i in range(45)) / 45
    assert evenness["mutual_share"] == pytest.approx(mutual)
