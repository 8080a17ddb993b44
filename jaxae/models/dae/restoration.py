"""How well damaged images are restored: PSNR, with projection onto principal components beside it.

PSNR is the peak signal-to-noise ratio in dB of images in [0, 1], -10 log10(mean squared error).
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.models.shared import pca
from jaxae.models.shared.mirrored import flat

MAX_PSNR = 100.0  # dB; that of an image without error would be infinite
BLOCK = 500  # images at a time, where a whole set is read


def psnr(image, clean, missing=None, xp=jnp):
    """PSNR `[B]` in dB, at most `MAX_PSNR`.

    Args:
        image, clean: `[B,D]` in [0, 1].
        missing: bool `[B,D]`, the components that count (the others are known and have no error);
            None for all. An image without missing components has `MAX_PSNR`.
        xp: `jnp`, or `np` for float64.
    """
    squares = xp.square(image - clean)
    if missing is None:
        mean = xp.mean(squares, axis=1)
    else:
        mean = xp.sum(squares * missing, axis=1) / xp.maximum(xp.sum(missing, axis=1), 1)
    return -10 * xp.log10(xp.maximum(mean, 10 ** (-MAX_PSNR / 10)))


def measure_restoration(restore, data, rng: jax.Array) -> dict[str, float]:
    """Restores the test set, by a model and by the best projection onto principal components.

    With holes all numbers are over the missing components only, whatever their true value: the
    known ones can be copied and do not count.

    Args:
        restore: x `[B,H,W,C]`, rng -> corrupted, restored, and missing: bool of that shape, or
            None for noise.
        data: a data set with `train` and `test`.
        rng: key.
    Returns:
        PSNR, mean over images: `psnr_corrupted` (clipped to [0,1]), `psnr_restored`, and
        `psnr_pca`: that of the corrupted image projected onto `pca_components` components and
        clipped, where `pca_components` is the best number on a block of training images. Mean
        squared errors over the components whose value the corruption changed:
        `changed_squared_error_corrupted`, `..._restored`, and `..._mean_image` of the mean training
        image.
    """
    train_key, test_key = jax.random.split(rng)
    restore, components = jax.jit(restore), pca.fit(data.train)

    def restored_blocks(split, key):
        """clean, corrupted, restored `[n,D]` in float64, missing; block by block."""
        for number, (batch, mask) in enumerate(split.examples(BLOCK)):
            clean = batch["image"]
            corrupted, restored, missing = restore(clean, jax.random.fold_in(key, number))
            images = (np.float64(flat(np.asarray(x)[mask])) for x in (clean, corrupted, restored))
            yield *images, None if missing is None else flat(np.asarray(missing)[mask])

    def clipped_psnr(image, clean, missing):
        return psnr(np.clip(image, 0, 1), clean, missing, xp=np)

    clean, corrupted, _, missing = next(restored_blocks(data.train, train_key))
    projections = components.iterate_reconstructions(corrupted)
    best = int(np.argmax([clipped_psnr(image, clean, missing).mean() for image in projections]))

    ratios, squared_errors, changed_count = [], np.zeros(3), 0
    for clean, corrupted, restored, missing in restored_blocks(data.test, test_key):
        projected = components.reconstruct(corrupted, best)
        ratios.append([
            clipped_psnr(corrupted, clean, missing),
            psnr(restored, clean, missing, xp=np),
            clipped_psnr(projected, clean, missing),
        ])  # fmt: skip
        changed = corrupted != clean if missing is None else missing
        changed_count += changed.sum()
        for i, image in enumerate((corrupted, restored, components.mean)):
            squared_errors[i] += (np.square(image - clean) * changed).sum()
    psnr_corrupted, psnr_restored, psnr_pca = np.concatenate(ratios, axis=1).mean(1)
    result = {
        "psnr_corrupted": psnr_corrupted, "psnr_restored": psnr_restored, "psnr_pca": psnr_pca,
        "pca_components": best,
    }  # fmt: skip
    if changed_count:
        names = ("corrupted", "restored", "mean_image")
        for name, error in zip(names, squared_errors / changed_count, strict=True):
            result[f"changed_squared_error_{name}"] = error
    return {name: float(value) for name, value in result.items()}
