"""Plots of codes and of training curves, as PNG files."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxae.evaluation.canvas import DPI, PALETTE, PARTS, heading, write_png


def draw_latent_scatter(
    codes: np.ndarray,
    labels: np.ndarray | None,
    path: pathlib.Path,
    class_names: Sequence[str] = (),
) -> pathlib.Path:
    """Scatter plot of codes `[N, Z]`: two principal components, or the codes themselves if Z is 2.

    Args:
        codes: one per image, Z at least 2.
        labels: `[N]` integers, shown as colours and as numbers at each class's median; or None.
        path: the PNG file.
        class_names: names of the labels 0, 1, ..., shown instead of the numbers.
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
    labelled = labels is not None
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
        for colour, label in zip(colours, classes if labelled else (), strict=False):
            x, y = np.median(points[labels == label], axis=0)
            name = class_names[label] if class_names else str(label)
            axes.text(x, y, name, color=colour, weight="bold", fontsize=15, ha="center",
                      va="center", path_effects=halo)  # fmt: skip
        axes.set(xlabel=names[0], ylabel=names[1])
        axes.set_aspect("equal", adjustable="datalim")
        texts = "names" if class_names else "numbers"
        shown = f"{texts}: the class, at its median" if labelled else "the data has no labels"
        heading(figure, "Codes of test images", f"{len(points)} images; {shown}")

    return write_png(path, (7.2, 7.2), compose)


def _principal(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first two principal components `[N, 2]` and their shares of the variance."""
    centred = codes - codes.mean(0)
    variances, axes = np.linalg.eigh(centred.T @ centred)
    axes, total = axes[:, [-1, -2]], max(variances.sum(), np.finfo(float).tiny)
    # The sign of an axis is arbitrary: its largest entry is made positive.
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), [0, 1]])
    return centred @ axes, np.maximum(variances[[-1, -2]], 0) / total


def draw_training_curves(
    records: Sequence[Mapping[str, Any]],
    path: pathlib.Path,
    units: Mapping[str, str] | None = None,
) -> pathlib.Path:
    """One panel per metric: training, and validation or test, over steps; a line per seed.

    Args:
        records: dicts of `metrics.jsonl`: `step`, and `train/<name>`, `validation/<name>` or
            `test/<name>` with a number or a list of one per seed.
        path: the PNG file.
        units: by metric name, shown at the axis.
    Raises:
        ValueError: the records have no metric.
    """
    curves: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for key in dict.fromkeys(key for record in records for key in record):
        part, _, name = key.partition("/")
        if part not in PARTS or name.endswith("_se"):
            continue
        points = [(r["step"], np.atleast_1d(r[key])) for r in records if r.get(key) is not None]
        if points:
            steps, values = zip(*points, strict=True)
            curves.setdefault(name, {})[part] = (np.array(steps), np.array(values, np.float64))
    if not curves:
        raise ValueError(
            "draw_training_curves: records have no train/, validation/ or test/ metric"
        )
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
            "test": "test: test images, not used for any choice",
        }
        notes = [means[part] for part in PARTS if any(part in by for by in curves.values())]
        notes += [f"one line for each of {seeds} seeds"] if seeds > 1 else []
        notes += ["the first steps are outside the frame"] if cut else []
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
    """Draws the curves of one metric; True if the steep start is outside the scale."""
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
