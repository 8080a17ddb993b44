import itertools
import math

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from jaxae.evaluation.hamming import HashTable, ball, ball_size, distances, pack, rank

generator = np.random.default_rng(0)


def some_codes(kind: str, bits: int, count: int = 2000) -> np.ndarray:
    if kind == "random":
        return generator.integers(0, 2, (count, bits))
    centres = generator.integers(0, 2, (12, bits))  # clustered: a few flips around a few centres
    flips = generator.random((count, bits)) < 0.08
    return centres[generator.integers(0, 12, count)] ^ flips


def test_packing_puts_bit_j_at_place_j():
    bits = np.zeros((2, 40), int)
    bits[0, [0, 3, 31]], bits[1, [32, 39]] = 1, 1
    assert pack(bits).dtype == np.uint32
    np.testing.assert_array_equal(pack(bits), [[1 + 8 + 2**31, 0], [0, 1 + 2**7]])
    np.testing.assert_array_equal(pack(bits > 0), pack(np.float32(bits)))
    for wrong in (np.full((2, 3), 0.5), np.zeros(3)):
        with pytest.raises(ValueError, match="0 and 1"):
            pack(wrong)


@pytest.mark.parametrize("bits", [5, 32, 100])
def test_distances_count_differing_bits(bits):
    a, b = some_codes("random", bits, 7), some_codes("random", bits, 9)
    wanted = (a[:, None] != b[None]).sum(-1)
    np.testing.assert_array_equal(distances(pack(a), pack(b)), wanted)


@pytest.mark.parametrize(("kind", "bits", "block"), [("random", 16, 300), ("clustered", 64, 8192)])
def test_exact_ranking(kind, bits, block):
    """The order by distance and then by index, also across blocks that do not divide the set."""
    codes, queries = some_codes(kind, bits), some_codes(kind, bits, 11)
    far = (queries[:, None] != codes[None]).sum(-1)
    order = np.argsort(far, axis=1, kind="stable")[:, :50]
    found, near = rank(pack(queries), pack(codes), 50, block)
    np.testing.assert_array_equal(found, order)
    np.testing.assert_array_equal(near, np.take_along_axis(far, order, axis=1))
    for k in (0, 2001):
        with pytest.raises(ValueError, match="k must be in"):
            rank(pack(queries), pack(codes), k)


@pytest.mark.parametrize("bits", [16, 24, 40])
@pytest.mark.parametrize("kind", ["random", "clustered"])
def test_look_up_finds_exactly_the_ball(kind, bits):
    """Against scikit-learn's search by radius; 16 bits are a slot each, 24 and 40 are searched."""
    codes = some_codes(kind, bits)
    queries = np.concatenate([codes[:3], some_codes(kind, bits, 5)])
    table = HashTable(codes)
    search = NearestNeighbors(metric="hamming", algorithm="brute").fit(codes)
    for radius in range(4):
        share = (radius + 0.5) / bits
        brute = search.radius_neighbors(queries, share, return_distance=False)
        for query, wanted in zip(queries, brute, strict=True):
            found = table.lookup(query, radius)
            assert sorted(found) == sorted(wanted)
            far = (codes[found] != query).sum(1)
            assert (np.diff(far) >= 0).all()  # nearest first


def test_order_of_equal_distances():
    """By what is flipped, first place first, and not by address: 01 comes before 10."""
    table = HashTable(np.array([[1, 1], [0, 1], [1, 0], [0, 0], [0, 1]]))
    assert table.lookup(np.array([1, 1]), 2).tolist() == [0, 1, 4, 2, 3]
    assert table.lookup(np.array([1, 0]), 2).tolist() == [2, 3, 0, 1, 4]
    places = lambda pattern: tuple(i for i in range(4) if int(pattern) >> i & 1)
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert [*map(places, ball(4, 2))] == [(), (0,), (1,), (2,), (3,), *pairs]


def test_probes_are_the_balls_addresses():
    for bits, radius in itertools.product((1, 6, 10), range(4)):
        everywhere = np.arange(2**bits)
        near = [a for a in everywhere if int(a).bit_count() <= radius]
        assert ball_size(bits, radius) == len(near)
        assert sorted(ball(bits, radius)) == near
    assert ball_size(20, 4) == 6196  # the sum of binomial coefficients, by hand
    assert len(ball(20, 4)) == 1 + 20 + 190 + 1140 + math.comb(20, 4)


def test_codes_too_long_and_queries_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="use rank"):
        HashTable(np.zeros((3, 65)))
    with pytest.raises(ValueError, match=r"query must be \[8\]"):
        HashTable(np.zeros((3, 8))).lookup(np.zeros(9), 1)
