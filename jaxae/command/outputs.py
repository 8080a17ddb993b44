"""What a trained model gives, as files: samples and codes."""

import math
import os
import pathlib
import shutil

import jax
import numpy as np

from jaxae import evaluation
from jaxae.command.results import diverged_where_not_finite
from jaxae.command.run import EVALUATION_KEY, Run
from jaxae.settings import UsageError
from jaxae.training import State
from jaxae.training.divergence import Diverged

SAMPLES = 250  # drawn at a time
MOST_SAMPLES = 1_000_000


def write_samples(run: Run, state: State, folder: pathlib.Path, n: int) -> int:
    """Writes n samples of the first seed's state as numbered PNGs, `SAMPLES` at a time.

    Raises:
        UsageError: the model cannot sample, or n is too small, too large, or more than fits on the
            disk (by the size of the pixels: a PNG seldom takes more).
    """
    from PIL import Image

    if run.model.sample is None:
        raise UsageError(f"{run.name} cannot sample")
    if not 1 <= n <= MOST_SAMPLES:
        raise UsageError(f"--n {n}: must be at least 1 and at most {MOST_SAMPLES:,}")
    folder.mkdir(parents=True, exist_ok=True)
    block = os.statvfs(folder).f_frsize if hasattr(os, "statvfs") else 4096
    needed = n * -(-math.prod(run.data.spec.image_shape) // block) * block
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UsageError(
            f"--n {n}: about {needed / 2**20:,.0f} MiB of pictures, and {folder} has room for "
            f"{free / 2**20:,.0f} MiB: ask for fewer, or choose another --out"
        )
    low, high = evaluation.value_range(evaluation.pixels_of(run.data.test, 500, 500))
    draw = jax.jit(run.model.sample, static_argnums=2)
    digits, key = max(5, len(str(n - 1))), jax.random.key(EVALUATION_KEY)
    for first in range(0, n, SAMPLES):
        images = np.asarray(draw(state, jax.random.fold_in(key, first), min(n, SAMPLES)))
        if not np.isfinite(images).all():
            raise Diverged("the samples hold NaN or infinity: the run has diverged")
        pixels = np.uint8(np.round(np.clip((images - low) / (high - low), 0, 1) * 255))
        for i, image in enumerate(pixels[: n - first], first):
            Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(
                folder / f"{i:0{digits}d}.png"
            )
    print(f"{n} samples of seed {run.settings.plan.seed} in {folder}")
    return 0


def write_codes(run: Run, state: State, file: pathlib.Path) -> int:
    """Writes a .npz file: the first seed's codes of every split, labels, and names of classes."""
    if run.model.encode is None:
        raise UsageError(f"{run.name} has no code")
    arrays, batch = {}, run.settings.report.report_batch
    for name in ("train", "test", "validation"):
        if (split := getattr(run.data, name)) is None:
            continue
        with diverged_where_not_finite(run, [state]):
            codes, labels = evaluation.encode_split(
                run.model, state, split, batch, jax.random.key(EVALUATION_KEY)
            )
        arrays[name] = codes
        if labels is not None:
            arrays[f"{name}_labels"] = labels
            arrays["class_names"] = np.array(run.data.class_names)
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "wb") as stream:  # to a name, numpy would add .npz
        np.savez(stream, **arrays)
    shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    print(f"{shapes} of seed {run.settings.plan.seed} in {file}")
    return 0
