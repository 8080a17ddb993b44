"""Pictures of what a model does, as PNG files: the same key, the same bytes."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.evaluation.canvas import (
    DPI,
    PALETTE,
    PARTS,
    heading,
    image_grid,
    value_range,
    write_png,
)
from jaxae.evaluation.codes import DECODED, decode_codes, encode_split, images_of
from jaxae.evaluation.fidelity import DRAWN
from jaxae.training.state import Model, State

COUNT = DECODED  # images encoded at a time: one compilation serves several figures
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
    count: int = DRAWN,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> pathlib.Path:
    """Images that `model.sample` draws from nothing but noise."""
    images = jax.jit(model.sample, static_argnums=2)(state, rng, count)
    return image_grid(
        images,
        COLUMNS,
        path,
        title="Samples",
        note="drawn without looking at any image; pixel means where the decoder gives them",
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
    """Images `[N,H,W,C]` in pairs of rows with what comes back through the code."""
    of_codes, of_images = jax.random.split(rng)
    images = np.asarray(images)
    images = images[: max(1, len(images) // COLUMNS) * COLUMNS]
    columns = min(COLUMNS, len(images))
    back = decode_codes(model, state, _encode(model, state, images, of_codes), of_images)
    pairs = [x for i in range(0, len(images), columns) for x in (images[i:][:columns],
                                                                 back[i:][:columns])]  # fmt: skip
    return image_grid(
        np.concatenate(pairs),
        columns,
        path,
        title="Reconstructions",
        note="pairs of rows: test images, and below them what their codes decode to",
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
    """Images `[N,H,W,C]` in triples of rows: as they are, damaged, and repaired."""
    images = np.asarray(images)
    images = images[: max(1, len(images) // COLUMNS) * COLUMNS]
    columns = min(COLUMNS, len(images))
    seen, restored = jax.jit(model.restore)(state, jnp.asarray(images), rng)
    parts = (images, np.clip(seen, *value_range), np.asarray(restored))
    triples = [x[i:][:columns] for i in range(0, len(images), columns) for x in parts]
    return image_grid(
        np.concatenate(triples),
        columns,
        path,
        title="Restorations",
        note="triples of rows: test images, the same damaged, and what the model makes of that",
        row_labels=["image", "damaged", "restored"] * (len(triples) // 3),
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
    """Decoded mixtures (1 - a) code(left) + a code(right), the images themselves on either side.

    Args:
        left: `[N,H,W,C]`, and `right` likewise: one row of the figure per pair.
        mixtures: a runs from 0 to 1 in so many columns.
    """
    of_codes, of_images = jax.random.split(rng)
    ends = np.concatenate([np.asarray(left), np.asarray(right)])
    short = max(0, COUNT - len(ends))  # to the shape that reconstructions have compiled
    padded = np.concatenate([ends, np.repeat(ends[:1], short, axis=0)])
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
        note="decoded mixtures of the codes of two images; per cent: share of the right one",
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
    """Images `[R,H,W,C]` down the left, and `[N,H,W,C]` along the top that lend them their styles.

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
        note="the image at the left, but the named part of its code is that of the image on top",
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
    """Chains of `model.daydream`, one row each, from the images `[N,H,W,C]` at the left."""
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
        note="each image is drawn by the model from the code of the one before it",
        column_labels=["image", *(str(n + 1) for n in range(links))],
        column_gaps=(0,),
        value_range=value_range,
    )


def draw_latent_scatter(
    codes: np.ndarray,
    labels: np.ndarray | None,
    path: pathlib.Path,
    class_names: Sequence[str] = (),
) -> pathlib.Path:
    """Codes `[N, Z]`, Z at least 2, in the plane: their two principal components, or both of two.

    Args:
        codes: one per image.
        labels: `[N]` integers, shown as colours and as numbers at each class's median; or None.
        path: the PNG file.
        class_names: of the labels 0, 1, ..., shown in place of the numbers.
    Raises:
        ValueError: fewer than two dimensions.
    """
    codes = np.asarray(codes, np.float64)
    if codes.shape[1] < 2:
        raise ValueError("a scatter plot needs codes of at least two dimensions")
    names, points = ["code dimension 1", "code dimension 2"], codes
    if codes.shape[1] > 2:
        points, share = _principal(codes)
        names = [f"component {i + 1} ({100 * s:.0f} % of variance)" for i, s in enumerate(share)]
    told = labels is not None
    labels = np.zeros(len(points), int) if labels is None else np.asarray(labels)
    classes = np.unique(labels)

    def compose(figure):
        from matplotlib import colormaps, patheffects

        axes = figure.add_axes((0.11, 0.1, 0.85, 0.76))
        size = np.clip(9000 / len(points), 7, 28)
        few = len(classes) <= len(PALETTE)
        colours = PALETTE if few else colormaps["viridis"](np.linspace(0, 0.95, len(classes)))
        for colour, label in zip(colours, classes, strict=False):
            x, y = points[labels == label].T
            axes.scatter(x, y, s=size, color=colour, alpha=0.75, linewidths=0)
        halo = [patheffects.withStroke(linewidth=3.5, foreground="white")]
        for colour, label in zip(colours, classes if told else (), strict=False):
            x, y = np.median(points[labels == label], axis=0)
            name = class_names[label] if class_names else str(label)
            axes.text(x, y, name, color=colour, weight="bold", fontsize=15, ha="center",
                      va="center", path_effects=halo)  # fmt: skip
        axes.set(xlabel=names[0], ylabel=names[1])
        axes.set_aspect("equal", adjustable="datalim")
        written = "names" if class_names else "numbers"
        shown = f"{written}: the class, at its median" if told else "the data has no labels"
        heading(figure, "Codes of test images", f"{len(points)} images; {shown}")

    return write_png(path, (7.2, 7.2), compose)


def _principal(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first two principal components `[N, 2]` and their shares of the variance."""
    centred = codes - codes.mean(0)
    variances, axes = np.linalg.eigh(centred.T @ centred)
    axes, total = axes[:, [-1, -2]], max(variances.sum(), np.finfo(float).tiny)
    # An axis has no sign of its own: its largest entry is made positive.
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), [0, 1]])
    return centred @ axes, np.maximum(variances[[-1, -2]], 0) / total


def draw_training_curves(
    records: Sequence[Mapping[str, Any]],
    path: pathlib.Path,
    units: Mapping[str, str] | None = None,
) -> pathlib.Path:
    """One small panel per metric: training, and validation or test, over steps; a line per seed.

    Args:
        records: dicts of `metrics.jsonl`: `step`, and `train/<name>`, `validation/<name>` or
            `test/<name>` with a number or a list of one per seed.
        path: the PNG file.
        units: by metric name, written at the axis.
    Raises:
        ValueError: the records hold no metric.
    """
    curves: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for key in dict.fromkeys(key for record in records for key in record):
        part, _, name = key.partition("/")
        if part not in PARTS or name.endswith("_se"):
            continue
        seen = [(r["step"], np.atleast_1d(r[key])) for r in records if r.get(key) is not None]
        if seen:
            steps, values = zip(*seen, strict=True)
            curves.setdefault(name, {})[part] = (np.array(steps), np.array(values, np.float64))
    if not curves:
        raise ValueError("the records hold no train/, validation/ or test/ metric to draw")
    first = [name for name in ("loss", "rate", "distortion") if name in curves]
    names = first + [name for name in curves if name not in first]
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    size = (max(3.4 * columns + 0.3, 5.2), 2.5 * rows + 0.9)

    def compose(figure):
        grid = figure.subplots(rows, columns, squeeze=False)
        cut = False
        for axes, name in zip(grid.flat, names, strict=False):
            cut = _panel(axes, curves[name]) or cut
            axes.set_title(name.replace("_", " "))
            axes.set_ylabel((units or {}).get(name, ""))
        for axes in list(grid.flat)[len(names) :]:
            axes.set_axis_off()
        for column in range(columns):
            last = [r for r in range(rows) if r * columns + column < len(names)][-1]
            grid[last, column].set_xlabel("step")
        seeds = max(v.shape[1] for by in curves.values() for _, v in by.values())
        means = {
            "train": "train: mean of the steps since the last point",
            "validation": "validation: held-out images",
            "test": "test: test images, which choose nothing",
        }
        notes = [means[part] for part in PARTS if any(part in by for by in curves.values())]
        notes += [f"a line for each of {seeds} seeds"] if seeds > 1 else []
        notes += ["the first steps leave the frame"] if cut else []
        heading(figure, "Training", "; ".join(notes))
        lines = {line.get_label(): line for axes in grid.flat for line in axes.get_lines()}
        handles = [lines[part] for part in PARTS if part in lines]
        width, height = size[0] * DPI, size[1] * DPI
        corner = (1 - 10 / width, 1 - 10 / height)
        figure.legend(
            handles=handles, loc="upper right", ncols=2, fontsize=10, bbox_to_anchor=corner
        )
        figure.subplots_adjust(
            left=64 / width,
            right=1 - 20 / width,
            bottom=52 / height,
            top=1 - 104 / height,
            wspace=0.34,
            hspace=0.42,
        )

    return write_png(path, size, compose)


def _panel(axes, curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> bool:
    """Draws one metric's curves; True if the scale leaves out the steep beginning."""
    end = max(steps[-1] for steps, _ in curves.values())
    every = np.concatenate([values.ravel() for _, values in curves.values()])
    later = np.concatenate([v[s > 0.1 * end].ravel() for s, v in curves.values()])
    for part, colour in PARTS.items():
        if part in curves:
            steps, values = curves[part]
            marker = "o" if len(steps) < 12 else None
            axes.plot(steps, values, color=colour, marker=marker, markersize=3.5, label=part)
    axes.margins(x=0.02)
    axes.locator_params(nbins=5)
    span = later.max() - later.min() if later.size else 0.0
    if not np.isfinite(span) or span == 0 or every.max() - every.min() < 2 * span:
        return False
    axes.set_ylim(
        max(every.min(), later.min() - 0.5 * span) - 0.08 * span,
        min(every.max(), later.max() + 0.5 * span) + 0.08 * span,
    )
    return True


def draw_all(
    model: Model,
    state: State,
    data: Any,
    records: Sequence[Mapping[str, Any]],
    folder: pathlib.Path,
    rng: jax.Array,
    batch_size: int = 200,
) -> list[pathlib.Path]:
    """Every figure that the model's capabilities allow, drawn from the test set.

    Args:
        model: the bundle; what needs a capability that it lacks is left out.
        state: the trained state.
        data: a data set with `test` and `spec`.
        records: dicts of `metrics.jsonl`; none, no training curves.
        folder: where the PNG files go; made if it is not there.
        rng: the same key draws the same figures.
        batch_size: images encoded at a time for the scatter plot.
    Returns:
        the files, in the order in which they are best looked at.
    """
    folder, drawn = pathlib.Path(folder), []
    keys = dict(zip(("samples", "back", "mix", "dream", "codes"), jax.random.split(rng, 5)))  # noqa: B905
    images = images_of(data.test, 500, COUNT)
    shown = value_range(images)
    if model.sample is not None:
        drawn.append(
            draw_samples(model, state, folder / "samples.png", keys["samples"], value_range=shown)
        )
    if model.encode is not None and model.decode is not None:
        path = folder / "reconstructions.png"
        drawn.append(
            draw_reconstructions(model, state, images, path, keys["back"], value_range=shown)
        )
        pairs, path = min(COUNT // MIXTURES, len(images) // 2), folder / "interpolations.png"
        if pairs:
            left, right = images[:pairs], images[pairs : 2 * pairs]
            drawn.append(
                draw_interpolations(model, state, left, right, path, keys["mix"], value_range=shown)
            )
    if model.restore is not None:
        path = folder / "restorations.png"
        drawn.append(
            draw_restorations(model, state, images, path, keys["dream"], value_range=shown)
        )
    if model.mix is not None and len(images) > 1:
        path, rows = folder / "mixtures.png", min(MIXED, len(images) // 2)
        left, top = images[:rows], images[rows : rows + COLUMNS]
        drawn.append(draw_mixtures(model, state, left, top, path, keys["dream"], value_range=shown))
    if model.daydream is not None:
        path = folder / "daydream.png"
        drawn.append(
            draw_daydream(model, state, images[:CHAINS], path, keys["dream"], value_range=shown)
        )
    if model.encode is not None:
        codes, labels = encode_split(model, state, data.test, batch_size, keys["codes"], POINTS)
        if codes.shape[1] > 1:
            path = folder / "latent_scatter.png"
            drawn.append(draw_latent_scatter(codes, labels, path, data.class_names))
    if any("/" in key for record in records for key in record):
        units = dict.fromkeys(("loss", "rate", "distortion", "elbo"), "nats per image")
        units = units if model.log_weight is not None else {}
        drawn.append(draw_training_curves(records, folder / "training_curves.png", units))
    return drawn
