"""The lines of ACAI: radial segments, one per angle; correct interpolations are known.

Berthelot, Raffel, Roy & Goodfellow 2018, arXiv:1807.07543; brain-research/acai: lib/data.py.
"""

import numpy as np

from jaxae.data.source import Raw, synthetic_bits

SIZE = 32
_RADIUS, _WIDTH = 15.0, 2.0
_TRAIN, _TEST = 20_000, 5_000
_BLOCK = 2048  # images rendered at once, to bound memory


def lines() -> Raw:
    """20,000 train and 5,000 test lines, float32 `[32,32,1]` in [0, 1], continuous (levels 0).

    Angles are uniform on [0, 2 pi) from fixed seeds, labels are the tenths of the circle.
    Differences from the paper: the training set is finite (there new lines are sampled for every
    batch), and pixels are in [0, 1] instead of [-1, 1]. It has 5,000 test lines too.
    """
    train, test = line_angles(_TRAIN, seed=0), line_angles(_TEST, seed=1)
    return Raw(_pixels(train), line_labels(train), _pixels(test), line_labels(test), levels=0)


def line_angles(count: int, seed: int) -> np.ndarray:
    """Uniform angles `[count]` float64 in [0, 2 pi), a pure function of the seed."""
    return (synthetic_bits(count, seed, 0) >> np.uint64(11)) * (2 * np.pi / 2**53)


def line_labels(angles: np.ndarray) -> np.ndarray:
    """Class of each angle in [0, 2 pi): the tenth of the circle, int32 0..9."""
    return np.floor(10 * np.asarray(angles) / (2 * np.pi - 1e-6)).astype(np.int32).clip(max=9)


def render_lines(angles: np.ndarray) -> np.ndarray:
    """Segments of width 2 from the centre to radius 15, counter-clockwise from the right.

    A line is a sequence of rows (columns, if it is flatter than 45 degrees), each with an interval
    of width 2; the value of a pixel is the share of it covered by the interval. As in the
    original code, a partial first row counts in part, a partial last row in full.

    Args:
        angles: `[N]` in radians.
    Returns:
        `[N,32,32]` float64 in [-1, 1], background -1.
    """
    angles = np.asarray(angles, np.float64)
    centre = np.full_like(angles, SIZE / 2)
    column, row = centre + _RADIUS * np.cos(-angles), centre + _RADIUS * np.sin(-angles)
    flat = np.abs(centre - row) < np.abs(centre - column)
    x, y = np.where(flat, row, column), np.where(flat, column, row)
    upward = y < centre
    x0, x1 = np.where(upward, x, centre), np.where(upward, centre, x)
    y0, y1 = np.where(upward, y, centre), np.where(upward, centre, y)
    slope = ((x1 - x0) / (y1 - y0))[:, None]
    x0, y0, y1 = (v[:, None] for v in (x0 - _WIDTH / 2, y0, y1))
    rows = np.arange(SIZE, dtype=np.float64)[None]
    weight = np.where(rows < np.ceil(y0), np.ceil(y0) - y0, 1.0)
    weight = np.where((rows >= np.floor(y0)) & (rows < np.ceil(y1)), weight, 0.0)
    left = (x0 + (rows - y0 - 0.5) * slope)[:, :, None]
    pixel = rows[:, None, :]
    covered = np.minimum(pixel + 1, left + _WIDTH) - np.maximum(pixel, left)
    image = 2 * weight[:, :, None] * covered.clip(0, 1) - 1
    return np.where(flat[:, None, None], image.transpose(0, 2, 1), image).clip(-1, 1)


def _pixels(angles: np.ndarray) -> np.ndarray:
    """`[N,32,32,1]` float32 in [0, 1]."""
    images = np.empty((len(angles), SIZE, SIZE, 1), np.float32)
    for start in range(0, len(angles), _BLOCK):
        block = render_lines(angles[start : start + _BLOCK])
        images[start : start + _BLOCK, ..., 0] = (block + 1) / 2
    return images
