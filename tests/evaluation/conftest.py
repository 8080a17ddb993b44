"""A linear-Gaussian VAE, of which everything is known in closed form, as a `Model`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from jaxae.data import Data, from_arrays
from jaxae.training.state import Model, State

SHAPE = (2, 3, 1)
NOISE = 0.1  # standard deviation of a pixel given the code
# Orthogonal columns make the true posterior diagonal.
LOADINGS = 0.1 * np.array([[1, 1], [1, -1], [1, 1], [1, -1], [2, 0], [0, 2]], np.float32)


class Linear(NamedTuple):
    """The model with its exact posterior in `exact`, and with a poor one in `poor`."""

    model: Model
    exact: State
    poor: State
    data: Data

    def log_p(self, images: np.ndarray) -> np.ndarray:
        """`[N]` exact log p(x) in nats."""
        covariance = LOADINGS @ LOADINGS.T + NOISE**2 * np.eye(6)
        flat = images.reshape(len(images), -1).astype(np.float64)
        return multivariate_normal(np.full(6, 0.5), covariance).logpdf(flat)

    def elbo(self, state: State, images: np.ndarray) -> np.ndarray:
        """`[N]` exact ELBO in nats of the posterior in `state`."""
        p = jax.tree.map(lambda x: np.asarray(x, np.float64), state.params["enc"])
        x = images.reshape(len(images), -1).astype(np.float64) - 0.5
        mean, var = x @ p["weights"] + p["shift"], np.exp(2 * p["log_scale"])
        rate = 0.5 * np.sum(mean**2 + var - 1 - np.log(var), axis=1)
        squares = np.sum((x - mean @ LOADINGS.T) ** 2, 1) + np.sum(LOADINGS**2 @ var)
        distortion = 0.5 * squares / NOISE**2 + 3 * np.log(2 * np.pi * NOISE**2)
        return -rate - distortion


def _log_normal(x, mean, log_scale):
    z = (x - mean) / jnp.exp(log_scale)
    return jnp.sum(-0.5 * z**2 - log_scale - 0.5 * np.log(2 * np.pi), axis=-1)


def linear_model() -> Model:
    def posterior(state, x):
        p, centred = state.params["enc"], x.reshape(x.shape[0], -1) - 0.5
        mean = centred @ p["weights"] + p["shift"][None]
        return mean, jnp.broadcast_to(p["log_scale"], mean.shape)

    def draw(state, x, rng):
        mean, log_scale = posterior(state, x)
        return mean, log_scale, mean + jnp.exp(log_scale) * jax.random.normal(rng, mean.shape)

    def decode(state, z, rng):
        return 0.5 + (z @ LOADINGS.T).reshape(-1, *SHAPE)

    def log_likelihood(x, z):
        flat = lambda image: image.reshape(image.shape[0], -1)
        return _log_normal(flat(x), flat(decode(None, z, None)), jnp.full((1, 1), np.log(NOISE)))

    def evaluate(state, batch, rng):
        mean, log_scale, z = draw(state, batch["image"], rng)
        rate = 0.5 * jnp.sum(mean**2 + jnp.expm1(2 * log_scale) - 2 * log_scale, axis=-1)
        distortion = -log_likelihood(batch["image"], z)
        return {"loss": rate + distortion, "rate": rate, "distortion": distortion}

    def log_weight(state, x, rng):
        mean, log_scale, z = draw(state, x, rng)
        zero = jnp.zeros_like(z)
        return log_likelihood(x, z) + _log_normal(z, zero, zero) - _log_normal(z, mean, log_scale)

    def daydream(state, x, rng):
        of_z, of_x = jax.random.split(rng)
        mean = decode(state, draw(state, x, of_z)[2], None)
        return mean + NOISE * jax.random.normal(of_x, mean.shape)

    return Model(
        init=lambda rng: linear_state(),
        step=lambda state, batch, rng, axis_name=None: (state, {}),
        evaluate=evaluate,
        encode=lambda state, x, rng: posterior(state, x)[0],
        decode=decode,
        sample=lambda state, rng, n: decode(state, jax.random.normal(rng, (n, 2)), None),
        prior=lambda rng, n: jax.random.normal(rng, (n, 2)),
        assess=lambda state, data, rng: {"images_seen": np.int32(data.test.size)},
        log_weight=log_weight,
        daydream=daydream,
    )


def linear_state(shift: float = 0.0, widen: float = 1.0) -> State:
    """The exact posterior, shifted and widened by parts of its standard deviation."""
    precision = np.diag(LOADINGS.T @ LOADINGS) / NOISE**2 + 1
    encoder = {
        "weights": jnp.asarray(LOADINGS / NOISE**2 / precision, jnp.float32),
        "shift": jnp.asarray(shift / np.sqrt(precision), jnp.float32),
        "log_scale": jnp.asarray(np.log(widen) - 0.5 * np.log(precision), jnp.float32),
    }
    return State(jnp.int32(0), {"enc": encoder}, {}, {})


@pytest.fixture(scope="session")
def linear() -> Linear:
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(60, 2))
    flat = 0.5 + codes @ LOADINGS.T + NOISE * rng.normal(size=(60, 6))
    images = np.clip(flat, 0, 1).reshape(-1, *SHAPE).astype(np.float32)
    labels = (codes[:, 0] > 0).astype(int)
    data = from_arrays(images[:37], labels[:37], images[37:], labels[37:])  # 23 test images
    return Linear(linear_model(), linear_state(), linear_state(0.5, 1.3), data)
