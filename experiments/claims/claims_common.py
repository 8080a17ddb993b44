"""What claims share: what one consists of, how it is judged, and training with few words.

Settings were tried out with training seeds from 0 on; a verdict is of seeds from FIRST_SEED on, and
of as many as the claim says beforehand.
"""

import dataclasses
import functools
import math
import pathlib
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tables"))

import common
from common import KEY, assessed, at_random, gather, make, on_test, shown, train

from jaxae import evaluation
from jaxae.data import Data, Options, load
from jaxae.training import Model, State

__all__ = ["KEY", "Claim", "Measure", "assessed", "at_random", "coded", "gather", "learned", "make",
           "on_test", "opened", "pictured", "rows_of", "verdict"]  # fmt: skip
CONFIDENCE = 0.95
FIRST_SEED = 1000


@dataclasses.dataclass(frozen=True)
class Measure:
    """A number for each training seed, which the claim says is above zero."""

    name: str
    values: Sequence[float]
    unit: str = ""
    margin: float = 0.0
    """how far the same code and seeds were seen to differ on another machine; 0: never compared"""

    @property
    def interval(self) -> tuple[float, float, float]:
        """Mean over seeds, and Student's interval of 95 % for it."""
        values = np.asarray(self.values, np.float64)
        if len(values) < 2:
            raise ValueError(f"{self.name}: one seed has no error; take at least two")
        mean, error = values.mean(), values.std(ddof=1) / math.sqrt(len(values))
        half = error * stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
        return float(mean), float(mean - half), float(mean + half)

    @property
    def verdict(self) -> str:
        """reproduced: the interval is above zero, and by more than the margin; not reproduced:
        below by more than it; else inconclusive."""
        _, low, high = self.interval
        if not np.all(np.isfinite(self.values)):
            return "inconclusive"
        if low > self.margin:
            return "reproduced"
        return "not reproduced" if high < -self.margin else "inconclusive"


def verdict(measures: Sequence[Measure]) -> str:
    """Of a claim with several parts: reproduced if all are, not reproduced if any is not."""
    each = {measure.verdict for measure in measures}
    for worst in ("not reproduced", "inconclusive"):
        if worst in each:
            return worst
    return "reproduced"


@dataclasses.dataclass(frozen=True)
class Claim:
    """What a paper says, and how it is put to the test."""

    said: str
    where: str
    how: str
    test: Callable[[str, int, pathlib.Path, str | None], tuple[list[Measure], list[list[str]]]]
    """data, seeds, picture, data_dir -> measures, and the rows of a table of the numbers behind
    them, its head first; writes a PNG to `picture`"""
    published: str = "none"
    """the paper's figure, with how it is known, for the reader to hold beside ours"""
    seeds: int = 5
    """independent training runs: three where five would take more than ten minutes or so"""
    data: tuple[str, ...] = ("mnist", "digits")
    """on what it can be tested; the verdict of CLAIMS.md is that of the first"""
    margins: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """`Measure.margin` by the name of the measure, where other machines' numbers are known"""

    def measures(self, found: Mapping[str, Any]) -> list[Measure]:
        """The measures of what was found, with this claim's margins.

        Raises:
            ValueError: a margin of a measure that is not there.
        """
        names = [m["name"] for m in found["measures"]]
        if strange := sorted(set(self.margins) - set(names)):
            raise ValueError(f"margins of {strange[0]!r}, which is none of {', '.join(names)}")
        return [
            Measure(**m | {"margin": self.margins.get(m["name"], 0.0)}) for m in found["measures"]
        ]


# -- training and looking with few words -----------------------------------------------------------


def opened(data: str, data_dir: str | None, **options) -> Data:
    """The data set of a claim, with these options."""
    return load(data, Options(**options), data_dir)


def learned(
    module: types.ModuleType, data: Data, seeds: int, steps: int, batch_size: int = 100, **fields
) -> tuple[Model, list[State]]:
    """The model of `jaxae.models.<module>` with these fields of its Config, and its states after
    `steps` steps."""
    model = make(module, data, **fields)
    states, _ = train(model, data, seeds, steps, seed=FIRST_SEED, batch_size=batch_size,
                      log_every=100, eval_every=0, save_every=10**6)  # fmt: skip
    return model, states


# Codes of a claim's probes: of 10,000 training images.
coded = functools.partial(common.coded, batch=500, train_limit=10_000)


def pictured(images: np.ndarray, rows: Sequence[str], path: pathlib.Path, title: str, note: str):
    """Rows of images `[R, N, H, W, C]`, each with its name."""
    images = np.asarray(images)
    evaluation.image_grid(
        images.reshape(-1, *images.shape[2:]), images.shape[1], path, title=title, note=note,
        row_labels=list(rows),
    )  # fmt: skip


def rows_of(head: Sequence[str], rows: dict[str, Sequence]) -> list[list[str]]:
    """A table with a line per name: of the seeds' numbers, mean and standard deviation."""
    text = lambda value: value if isinstance(value, str) else shown(value, 4)
    return [["", *head], *([name, *map(text, values)] for name, values in rows.items())]
