import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxae.nets import nearest, neighbours

pytestmark = pytest.mark.usefixtures("optimised")
find = jax.jit(nearest, static_argnames=("k", "block", "axis_name"))


def brute_force(queries, rows, k, exclude=None):
    """float64, every distance, ties by lowest index."""
    gap = np.asarray(queries, np.float64)[:, None] - np.asarray(rows, np.float64)[None]
    distances = np.sum(gap**2, axis=2)
    if exclude is not None:
        distances[np.arange(len(queries)), exclude] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(distances, order, axis=1)


def codes(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def check(queries, rows, k, exclude=None, **options):
    indices, distances = find(queries, rows, k, exclude, **options)
    want_indices, want_distances = brute_force(queries, rows, k, exclude)
    assert indices.dtype == jnp.int32
    assert distances.dtype == jnp.float32
    np.testing.assert_array_equal(indices, want_indices)
    np.testing.assert_allclose(distances, want_distances, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("shift", [0.0, 1000.0])
@pytest.mark.parametrize("block", [7, 128, 4096])  # 501 is divisible by none
def test_equals_brute_force(shift, block):
    rows = codes(501, 8) + np.float32(shift)
    check(rows[:20], rows, 5, np.arange(20), block=block)
    check(codes(6, 8, seed=1) + np.float32(shift), rows, 3, block=block)


def test_large_blocks_select_by_groups():
    rows = codes(3000, 8)
    check(rows[-20:], rows, 5, np.arange(2980, 3000), block=1024)


def test_all_rows_but_its_own():
    rows = codes(60, 4)
    check(rows[10:20], rows, 59, np.arange(10, 20), block=16)
    own = np.arange(10, 20)[:, None]
    assert not np.any(find(rows[10:20], rows, 59, np.arange(10, 20), block=16)[0] == own)


def test_duplicates_come_by_lowest_index():
    # 40 copies of each of 7 rows: far more equal distances than there are spare candidates.
    rows = np.tile(codes(7, 8), (40, 1))
    check(rows[:9], rows, 50, np.arange(9), block=64)
    check(rows[:9] + np.float32(1e-3), rows, 3, block=96)


def test_all_rows_identical():
    rows = np.full((300, 5), 0.3, np.float32)
    indices, distances = find(rows[:3], rows, 4, np.array([0, 2, 299]), block=64)
    np.testing.assert_array_equal(indices, [[1, 2, 3, 4], [0, 1, 3, 4], [0, 1, 2, 3]])
    np.testing.assert_array_equal(distances, np.zeros((3, 4)))


def test_a_tight_cluster_far_from_the_other_queries():
    # The product cannot tell these rows apart: they differ by 1e-3 at 1e3 from the centre.
    cluster = 1e3 + np.arange(60, dtype=np.float32)[::-1, None] * np.float32([[2**-10, 0, 0]])
    rows = np.concatenate([codes(40, 3), cluster]).astype(np.float32)
    check(np.concatenate([rows[:4], rows[-3:]]), rows, 6, block=32)


def test_the_certificate_is_what_saves_them(monkeypatch):
    cluster = 1e3 + np.arange(60, dtype=np.float32)[::-1, None] * np.float32([[2**-10, 0, 0]])
    rows = np.concatenate([codes(40, 3), cluster]).astype(np.float32)
    queries, nobody, everybody = np.concatenate([rows[:4], rows[-3:]]), np.full(7, -1), np.ones(100)
    certain, *_ = neighbours._by_product(queries, rows, nobody, everybody > 0, 6, 32)
    assert not certain
    certain, *_ = neighbours._by_product(rows[:4], rows, nobody[:4], everybody > 0, 6, 32)
    assert certain  # and on ordinary rows the short way is taken


def test_rows_that_may_not_be_returned():
    rows = codes(100, 4)
    valid = np.zeros(100, bool)
    valid[[3, 50, 99]] = True
    indices, distances = find(rows[:2], rows, 5, np.array([3, -1]), valid, block=32)
    want, gaps = brute_force(rows[:2], rows[[3, 50, 99]], 3, None)
    assert {3, 50, 99} == set(np.asarray(indices[1, :3]).tolist())
    np.testing.assert_array_equal(indices[1, :3], np.array([3, 50, 99])[want[1]])
    np.testing.assert_allclose(distances[1, :3], gaps[1], rtol=1e-5)
    np.testing.assert_array_equal(indices[0, 2:], [-1, -1, -1])
    np.testing.assert_array_equal(indices[1, 3:], [-1, -1])
    assert np.all(np.isinf(distances[0, 2:]))


def case(name):
    rows = codes(400, 6)
    if name == "duplicates":
        rows[200:] = rows[:200][np.arange(200) % 5]
    return rows[:13], rows, np.arange(13, dtype=np.int32), np.arange(400) % 7 != 3


@pytest.mark.parametrize("name", ["random", "duplicates"])
def test_blocks_and_shards_agree_bit_for_bit(name):
    queries, rows, own, valid = case(name)
    for k in (4, 120) if name == "duplicates" else (4,):  # a shard of eight holds 50
        want = find(queries, rows, k, own, valid, block=400)
        for block in (32, 96):
            got = find(queries, rows, k, own, valid, block=block)
            jax.tree.map(np.testing.assert_array_equal, got, want)
        for devices in (2, 8):
            mesh = jax.make_mesh(
                (devices,),
                ("data",),
                axis_types=(jax.sharding.AxisType.Auto,),
                devices=jax.devices()[:devices],
            )
            local = functools.partial(nearest, k=k, block=32, axis_name="data")
            sharded = jax.shard_map(
                lambda q, r, e, v: local(q, r, exclude=e, valid=v),
                mesh=mesh,
                in_specs=(P(), P("data"), P(), P("data")),
                out_specs=P(),
                check_vma=False,
            )
            got = jax.jit(sharded)(queries, rows, own, valid)
            jax.tree.map(np.testing.assert_array_equal, got, want)


def test_pmap_agrees_bit_for_bit():
    queries, rows, own, valid = case("random")
    local = lambda r, v: nearest(queries, r, 5, own, v, block=32, axis_name="data")
    got = jax.pmap(local, "data")(rows.reshape(8, 50, 6), valid.reshape(8, 50))
    want = find(queries, rows, 5, own, valid)
    for each, whole in zip(got, want, strict=True):
        np.testing.assert_array_equal(each, np.broadcast_to(whole, each.shape))


def test_vmapped_seeds_each_have_their_own_rows():
    rows = np.stack([codes(100, 4), np.full((100, 4), 0.5, np.float32)])
    got = jax.vmap(lambda r: nearest(r[:3], r, 4, block=32))(jnp.asarray(rows))
    for seed in range(2):
        want = find(rows[seed, :3], rows[seed], 4, block=32)
        jax.tree.map(lambda g, w: np.testing.assert_array_equal(g[seed], w), got, want)


def test_temporary_memory_does_not_grow_with_the_rows():
    def temporary(n):
        shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((16, 32), (n, 32))]
        return find.lower(*shapes, k=5, block=1024).compile().memory_analysis().temp_size_in_bytes

    # All scores of the larger case would take 16 * 65,536 * 4 bytes = 4 MiB more.
    assert temporary(65536) < temporary(4096) + 200_000


def test_no_gradient_flows():
    rows = jnp.asarray(codes(30, 4))
    grads = jax.grad(lambda q, r: jnp.sum(nearest(q, r, 3)[1]), argnums=(0, 1))(
        rows[:5] + 0.1, rows
    )
    assert all(np.all(g == 0) for g in grads)


def test_wrong_arguments_are_refused():
    rows = codes(10, 4)
    with pytest.raises(ValueError, match=r"k must be in 1..10 \(the rows\), is 11"):
        nearest(rows, rows, 11)
    with pytest.raises(ValueError, match=r"must be \[B,d\] and \[N,d\]"):
        nearest(rows[:, :3], rows, 2)
