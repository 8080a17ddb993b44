import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from scipy.spatial.distance import cdist
from scipy.stats import entropy
from sklearn.datasets import load_digits

from jaxae.nets import codebook

GENERATOR = np.random.default_rng(0)
Z = np.float32(GENERATOR.normal(size=(5, 4, 2, 3)))  # 20 places of 2 vectors
TABLES = np.float32(GENERATOR.normal(size=(2, 7, 3)))


def nearest_by_scipy():
    found = [cdist(Z[:, :, g].reshape(-1, 3), TABLES[g]).argmin(1) for g in range(2)]
    return np.stack(found, axis=-1).reshape(5, 4, 2)


def test_the_nearest_rows_of_each_table():
    e, index = jax.jit(codebook.look_up)(Z, TABLES)
    np.testing.assert_array_equal(index, nearest_by_scipy())
    assert index.dtype == jnp.int32
    np.testing.assert_array_equal(e, np.stack([TABLES[g][index[..., g]] for g in (0, 1)], -2))


def test_a_tie_goes_to_the_lower_index():
    rows = jnp.float32([[1.0], [-1.0], [1.0]])
    np.testing.assert_array_equal(codebook.nearest_row(jnp.float32([[0.0], [2.0]]), rows), [0, 0])


@tiny.x64()
def test_the_gradient_of_a_look_up_flows_to_the_selected_rows_only():
    weights = GENERATOR.normal(size=Z.shape)
    value = lambda z, t: jnp.sum(weights * codebook.look_up(z, t)[0])
    of_z, of_tables = jax.jit(jax.grad(value, (0, 1)))(np.float64(Z), np.float64(TABLES))
    assert not of_z.any()
    expected, index = np.zeros(TABLES.shape), nearest_by_scipy()
    for place in np.ndindex(index.shape):
        expected[place[-1], index[place]] += weights[place]
    np.testing.assert_allclose(of_tables, expected, rtol=1e-12, atol=1e-12)


def test_straight_through_is_e_and_has_the_gradient_of_z():
    z, e = 1e3 * Z[0], Z[1]
    np.testing.assert_array_equal(codebook.straight_through(z, e), e)
    value = lambda z, e: jnp.sum(jnp.sin(codebook.straight_through(z, e)))
    of_z, of_e = jax.grad(value, (0, 1))(z, e)
    np.testing.assert_array_equal(of_z, jnp.cos(e))
    assert not of_e.any()


@tiny.x64()
def test_code_statistics_against_numpy():
    index, z = nearest_by_scipy(), np.float64(Z)
    counts, sums = codebook.code_statistics(z, index, 7)
    for g in range(2):
        chosen = index[..., g].reshape(-1)
        np.testing.assert_array_equal(counts[g], np.bincount(chosen, minlength=7))
        flat = z[:, :, g].reshape(-1, 3)
        expected = [flat[chosen == k].sum(0) for k in range(7)]
        np.testing.assert_allclose(sums[g], expected, rtol=1e-12, atol=1e-12)


def test_perplexity_against_scipy():
    counts = np.float32([[3, 0, 1, 4], [5, 5, 5, 5], [0, 9, 0, 0]])
    found = codebook.perplexity(counts)
    np.testing.assert_allclose(found, np.exp(entropy(counts, axis=1)), rtol=1e-5)
    np.testing.assert_allclose(found[1:], [4, 1], rtol=1e-5)


# -- moving averages --------------------------------------------------------------------------


def test_two_steps_by_hand():
    """decay 0.9, rows of width one; n and s of the batches, without smoothing."""
    count, total = jnp.ones((1, 3)), jnp.float32([[[0], [1], [2]]])
    for n, s in (([2, 0, 5], [4, 0, 1]), ([1, 3, 0], [2, 3, 0])):
        n, s = jnp.float32([n]), jnp.float32([s])[..., None]
        count, total, table = codebook.update_moving_average(count, total, n, s, 0.9, epsilon=0.0)
    np.testing.assert_allclose(count[0], [1.09, 1.11, 1.26], rtol=1e-6)
    np.testing.assert_allclose(total[0, :, 0], [0.56, 1.11, 1.71], rtol=1e-6)
    np.testing.assert_allclose(table[0, :, 0], [0.56 / 1.09, 1.0, 1.71 / 1.26], rtol=1e-6)


def test_smoothing_by_hand():
    """decay 3/4 and epsilon 1/2, two tables. Counts become 0, 1, 3 and 2, 2, 2, so that

    N' = (N + 1/2) / (4 + 3/2) 4 = 4/11, 12/11, 28/11    and    (N + 1/2) / (6 + 3/2) 6 = 2.
    """
    count = jnp.float32([[0, 0, 4], [2, 2, 2]])
    n = jnp.float32([[0, 4, 0], [2, 2, 2]])
    total = jnp.ones((2, 3, 1))
    moved, _, table = codebook.update_moving_average(count, total, n, total, 0.75, epsilon=0.5)
    np.testing.assert_allclose(moved, [[0, 1, 3], [2, 2, 2]], rtol=1e-6)
    smooth = [[4 / 11, 12 / 11, 28 / 11], [2, 2, 2]]
    np.testing.assert_allclose(table[..., 0], 1 / np.array(smooth), rtol=1e-6)
    # It takes from the many and gives to the few; the whole is kept.
    np.testing.assert_allclose(np.sum(1 / table[..., 0], axis=1), [4, 6], rtol=1e-6)


def test_smoothing_as_published():
    """epsilon 1e-5, which is twice the count that is left to the first row."""
    count, nothing = jnp.float32([[1e-5, 1.0]]), jnp.zeros((1, 2))
    total = jnp.ones((1, 2, 1))
    table = codebook.update_moving_average(count, total, nothing, 0 * total, 0.5)[2]
    # N = 0.5e-5 and 0.5, whole W = 0.500005: N' = (N + 1e-5) / (W + 2e-5) W.
    smooth = np.array([1.5e-5, 0.50001]) / 0.500025 * 0.500005
    np.testing.assert_allclose(table[0, :, 0], 0.5 / smooth, rtol=1e-5)


@tiny.x64()
def test_closed_form_of_many_steps():
    decay, steps = 0.8, 12
    n = GENERATOR.integers(0, 5, (steps, 2, 4)).astype(np.float64)
    s = GENERATOR.normal(size=(steps, 2, 4, 3))
    count, total = jnp.ones((2, 4)), jnp.asarray(GENERATOR.normal(size=(2, 4, 3)))
    age = decay ** np.arange(steps - 1, -1, -1)
    want_count = decay**steps + (1 - decay) * np.tensordot(age, n, 1)
    want_total = decay**steps * total + (1 - decay) * np.tensordot(age, s, 1)
    for each in zip(n, s, strict=True):
        count, total, table = codebook.update_moving_average(count, total, *each, decay)
    np.testing.assert_allclose(count, want_count, rtol=1e-12)
    np.testing.assert_allclose(total, want_total, rtol=1e-12, atol=1e-12)
    # The smoothing keeps the whole count and is smaller than the counts by five decades.
    np.testing.assert_allclose(table, want_total / want_count[..., None], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("start", "bound"), [(1.0, 1.05), (0.0, 1e4)])
def test_an_unused_row_stays_unless_counts_begin_at_zero(start, bound):
    rows = jnp.float32(GENERATOR.normal(size=(1, 4, 3)))
    n, s = jnp.float32([[8, 8, 8, 0]]), jnp.ones((1, 4, 3)).at[:, 3].set(0.0)
    table = codebook.update_moving_average(start * jnp.ones((1, 4)), rows, n, s, 0.99)[2]
    grown = np.linalg.norm(table[0, 3]) / np.linalg.norm(rows[0, 3])
    assert (grown < bound) == (start == 1.0)


def test_an_unused_row_goes_to_zero_in_the_end():
    count, total = jnp.ones((1, 2)), jnp.ones((1, 2, 1))
    n, s = jnp.float32([[8, 0]]), jnp.float32([[[8], [0]]])
    step = lambda c, _: (codebook.update_moving_average(*c[:2], n, s, 0.9), None)
    (_, _, table), _ = jax.lax.scan(step, (count, total, total), length=300)
    np.testing.assert_allclose(table[0, :, 0], [1.0, 0.0], atol=1e-5)


def test_on_digits_it_is_k_means():
    """Identity encoder and decoder, K = 64: within 5 % of scikit-learn's k-means, whose squared
    errors are 0.0218 on the first 1,437 digits and 0.0294 on the others."""
    x, unseen = np.split(np.float32(load_digits().data / 16), [1437])
    z = jnp.asarray(x)[:, None]  # one place, one codebook

    @jax.jit
    def fit(priority):
        table = codebook.select_vectors(z, priority, 64)

        def step(carry, _):
            index = codebook.look_up(z, carry[2])[1]
            return codebook.update_moving_average(
                *carry[:2], *codebook.code_statistics(z, index, 64), 0.8
            ), None

        carry, _ = jax.lax.scan(step, (jnp.ones((1, 64)), table, table), length=150)
        index = codebook.look_up(z, carry[2])[1]
        beyond = jnp.asarray(unseen)[:, None]
        errors = [jnp.mean(jnp.square(v - codebook.look_up(v, carry[2])[0])) for v in (z, beyond)]
        return errors, codebook.code_statistics(z, index, 64)[0]

    errors, counts = fit(jax.random.uniform(jax.random.key(0), (len(x),)))
    np.testing.assert_allclose(errors, [0.0218, 0.0294], rtol=0.05)
    assert codebook.perplexity(counts)[0] > 50


def test_vectors_are_selected_without_replacement_and_then_repeated():
    z = jnp.arange(12, dtype=jnp.float32).reshape(6, 2, 1)
    priority = jnp.float32([0.1, 0.9, 0.5, 0.2, 0.8, 0.3])
    some = codebook.select_vectors(z, priority, 3)
    np.testing.assert_array_equal(some[0, :, 0], [2, 8, 4])
    np.testing.assert_array_equal(some[1, :, 0], [3, 9, 5])
    many = codebook.select_vectors(z, priority, 8)
    np.testing.assert_array_equal(many[0, :, 0], [2, 8, 4, 10, 6, 0, 2, 8])
