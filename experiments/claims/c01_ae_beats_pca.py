"""A deep autoencoder's code against as many principal components."""

import jax
import numpy as np
from claims_common import KEY, Claim, Measure, assessed, learned, opened, pictured, rows_of

from jaxae import evaluation
from jaxae.models import ae
from jaxae.models.shared import pca

LATENT, WIDTHS, STEPS = 30, (500, 250), 3000


def test(data, seeds, picture, data_dir):
    source = opened(data, data_dir)
    latent = LATENT if data == "mnist" else 8
    model, states = learned(ae, source, seeds, STEPS, latent=latent, widths=WIDTHS,
                            decay_steps=STEPS)  # fmt: skip
    found = assessed(model, states, source)
    ours, theirs = found["squared_error_test"], found["squared_error_test_pca"]

    images = evaluation.pixels_of(source.test, 500, 10)
    components = pca.fit(source.train)
    codes = jax.jit(model.encode)(states[0], images.reshape(-1, *source.spec.image_shape), None)
    back = jax.jit(model.decode)(states[0], codes, jax.random.key(KEY))
    projected = np.clip(components.reconstruct(images.reshape(10, -1), latent), 0, 1)
    shape = (10, *source.spec.image_shape)
    pictured([images.reshape(shape), np.asarray(back), projected.reshape(shape)],
             ["image", "AE", "PCA"], picture, "Through a small code",
             f"test images; {latent} numbers each")  # fmt: skip
    return (
        [Measure("squared error of PCA minus the AE's", theirs - ours, "per image")],
        rows_of(["squared error per test image"], {"AE": [ours], f"PCA, {latent}": [theirs]}),
    )


CLAIM = Claim(
    "A deep autoencoder reconstructs better than PCA with as many numbers",
    "Hinton & Salakhutdinov 2006, with 784-1000-500-250-30 on MNIST",
    f"AE 784-500-250-30 (8 numbers on digits), {STEPS} steps of Adam, no pretraining, beside PCA; "
    "squared error summed over pixels, averaged over the test images.",
    test,
    published="MNIST, 30 numbers: 3.00 (recalled) against PCA's 13.87",
)
