"""Figures of a model's images, as PNG files; the same key gives the same bytes."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.evaluation.canvas import image_grid, value_range
from jaxae.evaluation.codes import DECODE_BATCH, decode_codes, encode_split, images_of
from jaxae.evaluation.fidelity import SAMPLE_BATCH
from jaxae.evaluation.plots import draw_latent_scatter, draw_training_curves
from jaxae.training.state import Model, State

COUNT = DECODE_BATCH  # images encoded at a time; the same everywhere, so that it compiles once
COLUMNS = 10
MIXTURES = 8
CHAINS, LINKS = 8, 10
MIXED = 3  # images whose styles are exchanged
POINTS = 2000  # codes in the scatter plot


def draw_samples(
    model: Model,
    state: State,
    path: pathlib.Path,
    rng: jax.Array,
    *,
    count: int = SAMPLE_BATCH,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> pathlib.Path:
    """Samples of `model.sample`."""
    images = jax.jit(model.sample, static_argnums=2)(state, rng, count)
    return image_grid(
        images,
        COLUMNS,
        path,
        title="Samples",
        note="images decoded from samples of the prior; pixel means if the decoder returns means",
        value_range=value_range,
    )


def _encode(model: Model, state: State, images: jax.Array, rng: jax.Array) -> jax.Array:
    return jax.jit(model.encode)(state, jnp.asarray(images), rng)


def draw_reconstructions(
    model: Model,
    state: State,
    images: np.ndarray,
    path: pathlib.Path,
    rng: jax.Array,
    *,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> pathlib.Path:
    """Images `[N,H,W,C]` in pairs of rows with their reconstructions."""
    of_codes, of_images = jax.random.split(rng)
    images = np.asarray(images)
    images = images[: max(1, len(images) // COLUMNS) * COLUMNS]
    columns = min(COLUMNS, len(images))
    decoded = decode_codes(model, state, _encode(model, state, images, of_codes), of_images)
    starts = range(0, len(images), columns)
    pairs = [x[i:][:columns] for i in starts for x in (images, decoded)]
    return image_grid(
        np.concatenate(pairs),
        columns,
        path,
        title="Reconstructions",
        note="pairs of rows: test images and, below them, their reconstructions",
        row_labels=["image", "decoded"] * (len(pairs) // 2),
        row_gap_every=2,
        value_range=value_range,
    )


def draw_restorations(
    model: Model,
    state: State,
    images: np.ndarray,
    path: pathlib.Path,
    rng: jax.Array,
    *,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> pathlib.Path:
    """Images `[N,H,W,C]` in triples of rows: original, corrupted, and restored."""
    images = np.asarray(images)
    images = images[: max(1, len(images) // COLUMNS) * COLUMNS]
    columns = min(COLUMNS, len(images))
    corrupted, restored = jax.jit(model.restore)(state, jnp.asarray(images), rng)
    parts = (images, np.clip(corrupted, *value_range), np.asarray(restored))
    triples = [x[i:][:columns] for i in range(0, len(images), columns) for x in parts]
    return image_grid(
        np.concatenate(triples),
        columns,
        path,
        title="Restorations",
        note="triples of rows: test images, corrupted, and restored by the model",
        row_labels=["image", "corrupted", "restored"] * (len(triples) // 3),
        row_gap_every=3,
        value_range=value_range,
    )


def draw_interpolations(
    model: Model,
    state: State,
    left: np.ndarray,
    right: np.ndarray,
    path: pathlib.Path,
    rng: jax.Array,
    *,
    mixtures: int = MIXTURES,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> pathlib.Path:
    """Decoded mixtures (1 - a) code(left) + a code(right), between the two images.

    Args:
        left: `[N,H,W,C]`, and `right` likewise: one row of the figure per pair.
        mixtures: number of columns, with a evenly spaced from 0 to 1.
    """
    of_codes, of_images = jax.random.split(rng)
    ends = np.concatenate([np.asarray(left), np.asarray(right)])
    missing = max(0, COUNT - len(ends))  # pad to the shape compiled for reconstructions
    padded = np.concatenate([ends, np.repeat(ends[:1], missing, axis=0)])
    codes = _encode(model, state, padded, of_codes)[: len(ends)]
    share = jnp.linspace(0, 1, mixtures)[None, :, None]
    mixed = (1 - share) * codes[: len(left), None] + share * codes[len(left) :, None]
    between = decode_codes(model, state, mixed.reshape(-1, mixed.shape[-1]), of_images)
    between = between.reshape(len(left), mixtures, *between.shape[1:])
    rows = np.concatenate([ends[: len(left), None], between, ends[len(left) :, None]], axis=1)
    percent = [f"{100 * a:.0f} %" for a in np.linspace(0, 1, mixtures)]
    return image_grid(
        rows.reshape(-1, *rows.shape[2:]),
        mixtures + 2,
        path,
        title="Interpolations",
        note="decoded mixtures of the codes of two images; per cent: weight of the right image",
        column_labels=["image", *percent, "image"],
        column_gaps=(0, mixtures),
        value_range=value_range,
    )


def draw_mixtures(
    model: Model,
    state: State,
    images: np.ndarray,
    styles: np.ndarray,
    path: pathlib.Path,
    rng: jax.Array,
    *,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> pathlib.Path:
    """Style mixing of images `[R,H,W,C]` (left) with the styles of images `[N,H,W,C]` (top).

    A block of R rows for each part of the code that `model.mix` exchanges, coarse to fine.
    """
    images, styles = np.asarray(images), np.asarray(styles)
    rows, columns = len(images), len(styles)
    left, top = np.repeat(images, columns, axis=0), np.tile(styles, (rows, 1, 1, 1))
    mixed = np.asarray(jax.jit(model.mix)(state, jnp.asarray(left), jnp.asarray(top), rng))
    blocks = mixed.reshape(len(mixed), rows, columns, *images.shape[1:])
    empty = np.full_like(styles[:1], value_range[1])
    page = [empty, styles]
    for block in blocks:
        for image, row in zip(images, block, strict=True):
            page += [image[None], row]
    parts = [*("coarse", "middle")[: len(blocks) - 1], "fine"]
    return image_grid(
        np.concatenate(page),
        columns + 1,
        path,
        title="Style mixing",
        note="the image at the left, with the named part of its code from the image at the top",
        row_labels=["", *(part for part in parts for _ in range(rows))],
        column_gaps=(0,),
        value_range=value_range,
    )


def draw_daydream(
    model: Model,
    state: State,
    images: np.ndarray,
    path: pathlib.Path,
    rng: jax.Array,
    *,
    links: int = LINKS,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> pathlib.Path:
    """Chains of `model.daydream`, one per row, starting from the images `[N,H,W,C]`."""
    link = jax.jit(model.daydream)
    chain = [jnp.asarray(images)]
    for number in range(links):
        chain.append(link(state, chain[-1], jax.random.fold_in(rng, number)))
    rows = np.stack([np.asarray(x) for x in chain], axis=1)
    return image_grid(
        rows.reshape(-1, *rows.shape[2:]),
        links + 1,
        path,
        title="Daydreams",
        note="each image is sampled by the model from the code of the image before it",
        column_labels=["image", *(str(n + 1) for n in range(links))],
        column_gaps=(0,),
        value_range=value_range,
    )


def draw_all(
    model: Model,
    state: State,
    data: Any,
    records: Sequence[Mapping[str, Any]],
    folder: pathlib.Path,
    rng: jax.Array,
    batch_size: int = 200,
) -> list[pathlib.Path]:
    """All figures that the model's capabilities allow, on the test set.

    Args:
        model: the bundle; figures that need a capability it lacks are left out.
        state: the trained state.
        data: a data set with `test` and `spec`.
        records: dicts of `metrics.jsonl`; empty: no training curves.
        folder: folder of the PNG files; created if missing.
        rng: the same key gives the same figures.
        batch_size: images encoded at a time for the scatter plot.
    Returns:
        the files, in the order in which the report shows them.
    """
    folder, paths = pathlib.Path(folder), []
    keys = dict(zip(("samples", "back", "mix", "dream", "codes"), jax.random.split(rng, 5)))  # noqa: B905
    images = images_of(data.test, 500, COUNT)
    shown = value_range(images)
    if model.sample is not None:
        paths.append(
            draw_samples(model, state, folder / "samples.png", keys["samples"], value_range=shown)
        )
    if model.encode is not None and model.decode is not None:
        path = folder / "reconstructions.png"
        paths.append(
            draw_reconstructions(model, state, images, path, keys["back"], value_range=shown)
        )
        pairs, path = min(COUNT // MIXTURES, len(images) // 2), folder / "interpolations.png"
        if pairs:
            left, right = images[:pairs], images[pairs : 2 * pairs]
            paths.append(
                draw_interpolations(model, state, left, right, path, keys["mix"], value_range=shown)
            )
    if model.restore is not None:
        path = folder / "restorations.png"
        paths.append(
            draw_restorations(model, state, images, path, keys["dream"], value_range=shown)
        )
    if model.mix is not None and len(images) > 1:
        path, rows = folder / "mixtures.png", min(MIXED, len(images) // 2)
        left, top = images[:rows], images[rows : rows + COLUMNS]
        paths.append(draw_mixtures(model, state, left, top, path, keys["dream"], value_range=shown))
    if model.daydream is not None:
        path = folder / "daydream.png"
        paths.append(
            draw_daydream(model, state, images[:CHAINS], path, keys["dream"], value_range=shown)
        )
    if model.encode is not None:
        codes, labels = encode_split(model, state, data.test, batch_size, keys["codes"], POINTS)
        if codes.shape[1] > 1:
            path = folder / "latent_scatter.png"
            paths.append(draw_latent_scatter(codes, labels, path, data.class_names))
    if any("/" in key for record in records for key in record):
        units = dict.fromkeys(("loss", "rate", "distortion", "elbo"), "nats per image")
        units = units if model.log_weight is not None else {}
        paths.append(draw_training_curves(records, folder / "training_curves.png", units))
    return paths
