import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxae.nets import init_spectral_vectors, spectral_norms

WEIGHTS = {
    name: np.random.default_rng(i).normal(size=shape).astype(np.float32)
    for i, (name, shape) in enumerate({"a": (576, 64), "b": (576, 64), "c": (5, 9)}.items())
}
TRUE = {name: np.linalg.norm(w, 2) for name, w in WEIGHTS.items()}
NORMS = jax.jit(spectral_norms)


def converged(weights=WEIGHTS, rounds=200):
    return NORMS(weights, init_spectral_vectors(jax.random.key(0), weights), rounds)


def test_the_norms_are_the_largest_singular_values():
    norms, vectors = converged()
    assert vectors["576x64"].shape == (2, 576)
    np.testing.assert_allclose(norms, [TRUE["a"], TRUE["b"], TRUE["c"]], rtol=1e-3)


def test_forty_rounds_are_the_power_method_by_hand():
    """As many as a first step takes: on random matrices, whose two largest singular values nearly
    agree, they fall short by one per cent."""
    start = init_spectral_vectors(jax.random.key(0), WEIGHTS)
    norms, _ = converged(rounds=40)
    for name, norm, u in zip("ab", norms, np.float64(start["576x64"]), strict=False):
        for _ in range(40):
            v = u @ WEIGHTS[name]
            u = WEIGHTS[name] @ v
            u, v = u / np.linalg.norm(u), v / np.linalg.norm(v)
        np.testing.assert_allclose(norm, u @ WEIGHTS[name] @ v, rtol=1e-4)
        assert 0.98 * TRUE[name] < norm < TRUE[name]


def test_few_rounds_never_overestimate():
    norms, _ = converged(rounds=1)
    assert np.all(np.asarray(norms) <= np.array(list(TRUE.values())) * (1 + 1e-6))


def test_four_rounds_from_a_warm_start_follow_a_slow_change():
    _, vectors = converged()
    rng, w = np.random.default_rng(9), dict(WEIGHTS)
    for _ in range(20):
        w = {k: v + 1e-3 * rng.normal(size=v.shape).astype(np.float32) for k, v in w.items()}
        norms, vectors = NORMS(w, vectors, 4)
        wanted = [np.linalg.norm(v, 2) for v in w.values()]
        np.testing.assert_allclose(norms, wanted, rtol=1e-3)


def test_the_gradient_is_the_outer_product_of_the_singular_vectors():
    w = {"c": WEIGHTS["c"]}
    _, vectors = converged(w)
    grad = jax.grad(lambda w: jnp.sum(spectral_norms(w, vectors, 1)[0]))(w)["c"]
    u, _, v = np.linalg.svd(WEIGHTS["c"])
    np.testing.assert_allclose(grad, np.outer(u[:, 0], v[0]), atol=1e-4)
    of_vectors = jax.grad(lambda x: jnp.sum(spectral_norms(w, x, 1)[0]))(vectors)
    assert not np.any(of_vectors["5x9"])


def test_a_leaf_that_is_not_a_matrix_is_refused():
    with pytest.raises(ValueError, match=r"weights\['kernel'\] must be a matrix, has shape"):
        init_spectral_vectors(jax.random.key(0), {"kernel": jnp.zeros((3, 3, 2, 2))})
