"""Common parts of all figures: a grid of images, or a page of plots, as a PNG file.

Grids are composed pixel by pixel, so that the pixels of an image stay square and sharp. Images are
shown in `value_range` (black to white) and clipped to it.
"""

import math
import pathlib
from collections.abc import Sequence

import numpy as np

INK, FAINT, LINE = "#1d2129", "#69707d", "#d9dde3"
# Paul Tol's "muted" scheme, suitable for common forms of colour blindness, and black.
PALETTE = ("#332288", "#88ccee", "#44aa99", "#117733", "#999933",
           "#ddcc77", "#cc6677", "#882255", "#aa4499", "#000000")  # fmt: skip
PARTS = {"train": PALETTE[0], "validation": PALETTE[3], "test": PALETTE[6]}
DPI = 100
WAVE_ROWS, WAVE_COLUMNS = 48, 84  # size in pixels of the plot of a signal
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
}


def image_grid(
    images: np.ndarray,
    columns: int,
    path: pathlib.Path,
    *,
    title: str,
    note: str = "",
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    row_gap_every: int = 0,
    column_gaps: Sequence[int] = (),
    value_range: tuple[float, float] = (0.0, 1.0),
) -> pathlib.Path:
    """Writes images as a grid, enlarged by a whole number.

    Args:
        images: `[N,H,W,C]`, row by row; 3 channels are RGB, any other number is averaged to grey.
            Images of one long row are signals, and are drawn by `waveforms`.
        columns: images per row; the last row may have fewer.
        path: the PNG file.
        title: heading; `note` is below it, smaller.
        row_labels: one per row, at the left.
        column_labels: one per column, at the top.
        row_gap_every: number of rows after which there is a wider gap.
        column_gaps: indices of columns after which there is a wider gap.
        value_range: pixel values shown as black and as white.
    Returns:
        `path`.
    """
    low, high = value_range
    images = (np.asarray(images, np.float32) - low) / (high - low)
    if images.shape[-1] != 3:
        images = np.repeat(images.mean(-1, keepdims=True), 3, axis=-1)
    images = np.clip(np.nan_to_num(images), 0, 1)
    if images.shape[1] == 1 and images.shape[2] >= 2 * WAVE_COLUMNS:
        images = waveforms(images)
    images = np.rint(255 * images).astype(np.uint8)
    if value_range != (0.0, 1.0):
        note = f"{note}{'; ' if note else ''}black to white is {low:.2f} to {high:.2f}"
    count, height, width, _ = images.shape
    scale = max(1, round(84 / max(height, width)))
    height, width, rows = height * scale, width * scale, math.ceil(count / columns)
    gap, wide, margin = 4, 16, 24

    wider = [row_gap_every > 0 and r % row_gap_every == 0 for r in range(rows)]
    top = margin + 30 + (24 if note else 0) + (24 if column_labels else 0)
    left = margin + (max(len(label) for label in row_labels) * 8 + 10 if row_labels else 0)
    tops = top + np.cumsum([0] + [height + (wide if w else gap) for w in wider[1:]])
    lefts = left + np.cumsum(
        [0] + [width + (wide if c in column_gaps else gap) for c in range(columns - 1)]
    )
    # Wide enough for the title and the note, for any number of columns.
    min_width = 2 * margin + max(10 * len(title), 8 * len(note))
    page = (int(tops[-1]) + height + margin, max(int(lefts[-1]) + width + margin, min_width))
    canvas = np.full((*page, 3), 255, np.uint8)
    edge = np.array([int(LINE[i : i + 2], 16) for i in (1, 3, 5)], np.uint8)
    for number, image in enumerate(images):
        y, x = tops[number // columns], lefts[number % columns]
        canvas[y - 1 : y + height + 1, x - 1 : x + width + 1] = edge
        canvas[y : y + height, x : x + width] = image.repeat(scale, 0).repeat(scale, 1)

    def compose(figure):
        figure.figimage(canvas, origin="upper")
        write = lambda x, y, text, **how: figure.text(
            x / page[1], 1 - y / page[0], text, va="center", **how
        )
        write(margin, margin + 5, title, fontsize=13, weight="bold")
        if note:
            write(margin, margin + 31, note, fontsize=10, color=FAINT)
        for x, label in zip(lefts, column_labels, strict=False):
            write(x + width / 2, top - 13, label, fontsize=9, color=FAINT, ha="center")
        for y, label in zip(tops, row_labels, strict=False):
            write(left - 10, y + height / 2, label, fontsize=9, color=FAINT, ha="right")

    return write_png(path, (page[1] / DPI, page[0] / DPI), compose)


def waveforms(signals: np.ndarray) -> np.ndarray:
    """Plots of signals `[N,1,T,C]` in [0, 1], as images, low values at the bottom.

    Returns:
        `[N, WAVE_ROWS, WAVE_COLUMNS, C]`: black from the minimum to the maximum of the
        T / WAVE_COLUMNS samples of each column, white elsewhere.
    """
    columns = np.array_split(signals[:, 0], WAVE_COLUMNS, axis=1)
    level = lambda extreme: np.rint(
        (WAVE_ROWS - 1) * (1 - np.stack([extreme(c, axis=1) for c in columns], axis=1))
    )
    rows = np.arange(WAVE_ROWS)[:, None, None]
    inside = (rows >= level(np.max)[:, None]) & (rows <= level(np.min)[:, None])
    return 1.0 - inside


def write_png(path: pathlib.Path, size: tuple[float, float], compose) -> pathlib.Path:
    """A figure of `size` inches, drawn by `compose(figure)`, as a PNG file without a date."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
        compose(figure)
        figure.savefig(path, dpi=DPI, format="png", facecolor="white")
    return path


def heading(figure, title: str, note: str) -> None:
    """Title and note at the positions that `image_grid` uses."""
    width, height = figure.get_size_inches() * DPI
    figure.text(24 / width, 1 - 29 / height, title, fontsize=13, weight="bold", va="center")
    figure.text(24 / width, 1 - 55 / height, note, fontsize=10, color=FAINT, va="center")


def value_range(images: np.ndarray) -> tuple[float, float]:
    """The pixel values shown as black and white: 0 and 1, or minimum and maximum if outside."""
    inside = images.min() >= 0 and images.max() <= 1
    return (0.0, 1.0) if inside else (float(images.min()), float(images.max()))
