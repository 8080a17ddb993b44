"""A small classifier, independent of the models, to evaluate generated images.

Its last hidden layer also gives features for a Fréchet distance. Distances by different classifiers
are not comparable with each other, nor with published ones on Inception features; `features` has
fixed networks, with names.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

_TRAIN_BATCH, _EVAL_BATCH = 128, 500
_MIN_CONV_SIDE = 16  # smallest side of images for which convolutions are used
_LEARNING_RATE = 2e-3
_FEATURES = 128


class Classifier(NamedTuple):
    """A trained classifier, as functions of numpy images `[N,H,W,C]` of any N."""

    features: Callable[[np.ndarray], np.ndarray]
    """images -> `[N, F]` float32, the last hidden layer"""
    logits: Callable[[np.ndarray], np.ndarray]
    """images -> `[N, K]` float32"""
    test_accuracy: float
    """in 0..1, on the whole test set"""


class Network(nn.Module):
    """Images `[B,H,W,C]` to features `[B, F]` and logits `[B, K]`."""

    classes: int
    width: int = _FEATURES
    """F, the units of the last hidden layer"""

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        if min(x.shape[1:3]) >= _MIN_CONV_SIDE:
            x = nn.relu(nn.Conv(16, (5, 5), strides=(2, 2))(x))
            x = nn.relu(nn.Conv(32, (3, 3), strides=(2, 2))(x))
            x = x.reshape(x.shape[0], -1)
        else:
            x = nn.relu(nn.Dense(256)(x.reshape(x.shape[0], -1)))
        features = nn.relu(nn.Dense(self.width)(x))
        return features, nn.Dense(self.classes)(features)


def train_classifier(data: Any, seed: int = 0, steps: int = 2000) -> Classifier:
    """A classifier of the data set's own labels, trained on its training images.

    All training labels are used, including those that `Options.labels` hides from a model. Images
    are preprocessed as for the model. The result is reproducible (bit for bit on a CPU).

    Args:
        data: a data set with `train`, `test` and labels.
        seed: of the initial parameters and of the order of the batches.
        steps: training steps of Adam on batches of 128, with cosine decay to zero.
    Raises:
        ValueError: the data has no labels, or steps is below 1.
    """
    network = Network(data.spec.classes)
    params = fit_classifier(network, data, seed, steps)
    features, logits = network_functions(network, params)
    return Classifier(features, logits, accuracy(logits, data.test))


def fit_classifier(
    network: Network, data: Any, seed: int, steps: int, shift: int = 0
) -> dict[str, Any]:
    """Parameters of a network, fitted to the labels of all training images.

    Args:
        network: for as many classes as the data has.
        data, seed, steps: as in `train_classifier`.
        shift: augmentation: images are shifted by a random number of pixels, at most this many,
            in each direction, with zero padding.
    Raises:
        ValueError: the data has no labels, or steps is below 1.
    """
    if not data.spec.classes:
        raise ValueError(f"{data.name} has no labels; a classifier needs them")
    if steps < 1:
        raise ValueError(f"steps is {steps}; it must be at least 1")
    tx = optax.adam(optax.cosine_decay_schedule(_LEARNING_RATE, steps))
    params = network.init(jax.random.key(seed), jnp.zeros((1, *data.spec.image_shape)))
    opt = tx.init(params)

    def loss(params, batch):
        logits = network.apply(params, batch["image"])[1]
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    @jax.jit
    def update(params, opt, batch, rng):
        if shift:
            batch = batch | {"image": random_shift(batch["image"], rng, shift)}
        updates, opt = tx.update(jax.grad(loss)(params, batch), opt, params)
        return optax.apply_updates(params, updates), opt

    for step in range(steps):
        batch = data.train.batch(seed, step, min(_TRAIN_BATCH, data.train.size))
        # Key 0 is used for the noise of the batch.
        rng = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), 1)
        params, opt = update(params, opt, batch, rng)
    return params


def random_shift(images: jax.Array, rng: jax.Array, maximum: int) -> jax.Array:
    """Images `[B,H,W,C]`, each shifted by -maximum..maximum pixels on both axes, zero padding."""
    offsets = jax.random.randint(rng, (len(images), 2), 0, 2 * maximum + 1)
    padded = jnp.pad(images, ((0, 0), (maximum, maximum), (maximum, maximum), (0, 0)))
    crop = lambda image, at: jax.lax.dynamic_slice(image, (at[0], at[1], 0), images.shape[1:])
    return jax.vmap(crop)(padded, offsets)


def accuracy(logits: Callable[[np.ndarray], np.ndarray], split: Any) -> float:
    """Accuracy in 0..1 of the classifier on the labels of a split."""
    correct = [
        (logits(batch["image"]).argmax(1) == np.asarray(batch["label"]))[mask]
        for batch, mask in split.examples(_EVAL_BATCH)
    ]
    return float(np.concatenate(correct).mean())


def network_functions(network: Network, params: dict[str, Any]) -> tuple[Callable, Callable]:
    """Two functions of numpy images `[N,H,W,C]` of any N: features and logits."""
    apply = jax.jit(network.apply)
    both = lambda images: _in_batches(lambda batch: apply(params, batch), images)
    return lambda images: both(images)[0], lambda images: both(images)[1]


def _in_batches(fn: Callable, images: np.ndarray) -> tuple[np.ndarray, ...]:
    """Both outputs of `fn` for all images, in batches of one shape, so that it compiles once."""
    images, outputs = np.asarray(images, np.float32), []
    for start in range(0, max(1, len(images)), _EVAL_BATCH):
        batch = images[start : start + _EVAL_BATCH]
        padded = np.pad(batch, ((0, _EVAL_BATCH - len(batch)), (0, 0), (0, 0), (0, 0)))
        outputs.append([np.asarray(output)[: len(batch)] for output in fn(padded)])
    return tuple(np.concatenate(parts) for parts in zip(*outputs, strict=True))
