"""Declarations of a study: runs, measures, claims, tables, pictures.

A study is a module of `studies/` with `STUDY = Study(...)`. It names recipes and changes of their
settings, and trains nothing itself: `experiments/study.py` trains each run once.
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy import stats

from jaxae import recipes
from jaxae.command.run import EVALUATION_KEY
from jaxae.data import Data
from jaxae.settings import Settings, with_changes
from jaxae.training import Model, State

CONFIDENCE = 0.95
FIRST_SEED = 1000  # of runs that claims are evaluated on; settings are tuned on seeds from 0 on


@dataclasses.dataclass(frozen=True)
class Run:
    """A recipe with named changes, trained with several seeds."""

    model: str
    recipe: str
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """fields of the model, the plan or the data options, by name; `data` is the data set"""
    seeds: int = 1
    """training seeds, one after another from `first_seed` on"""
    first_seed: int = 0
    make: Callable[..., Model] | None = None
    """(config, spec) -> Model, for a change that no setting expresses"""

    def settings(self) -> Settings:
        """The settings of the run.

        Raises:
            UsageError: an unknown model, recipe or field, or values that do not fit.
        """
        base = recipes.get(self.model, self.recipe)
        seeds = {"seed": self.first_seed, "seeds": self.seeds}
        return with_changes(base, {**self.changes, **seeds})


class Trained(NamedTuple):
    """One seed of a run: the argument of a measure."""

    model: Model
    state: State
    data: Data
    settings: Settings
    seed: int
    records: list[dict[str, Any]]
    """the logged training metrics of this seed, as in metrics.jsonl"""

    def rng(self) -> jax.Array:
        """The key of evaluation: the same for every run and seed."""
        return jax.random.key(EVALUATION_KEY)


Numbers = Mapping[str, Any]
"""names -> JSON values: numbers, or lists of them"""
Measured = Mapping[str, Mapping[str, np.ndarray]]
"""by run and name of a number, `[seeds, ...]`"""


@dataclasses.dataclass(frozen=True)
class Measure:
    """A number for each training seed that a claim says is above zero."""

    name: str
    values: Sequence[float]
    unit: str = ""
    margin: float = 0.0
    """difference on another machine with the same code and seeds; 0: never compared"""

    @property
    def interval(self) -> tuple[float, float, float]:
        """Mean over seeds, and the ends of its 95 % interval (Student's t).

        Raises:
            ValueError: fewer than two seeds.
        """
        values = np.asarray(self.values, np.float64)
        if len(values) < 2:
            raise ValueError(f"{self.name}: one seed has no error; take at least two")
        mean, error = values.mean(), values.std(ddof=1) / math.sqrt(len(values))
        half = error * stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
        return float(mean), float(mean - half), float(mean + half)

    @property
    def verdict(self) -> str:
        """`reproduced`: the interval is above zero by more than the margin; `not reproduced`: it
        is below zero by more than the margin; else `inconclusive`."""
        if not np.all(np.isfinite(self.values)):
            return "inconclusive"
        _, low, high = self.interval
        if low > self.margin:
            return "reproduced"
        return "not reproduced" if high < -self.margin else "inconclusive"


def verdict(measures: Sequence[Measure]) -> str:
    """The verdict of a claim with several measures: the worst of theirs (`not reproduced`, then
    `inconclusive`, then `reproduced`)."""
    each = {measure.verdict for measure in measures}
    for worst in ("not reproduced", "inconclusive"):
        if worst in each:
            return worst
    return "reproduced"


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement of a paper, and the measures that test it."""

    name: str
    """short and stable, such as `acn_uses_its_code`"""
    statement: str
    where: str
    """paper, and where in it"""
    how: str
    """description of the comparison: what is equal, what differs, what is measured"""
    runs: tuple[str, ...]
    """the runs of the study that the measures are computed from"""
    measures: Callable[[Measured], list[Measure]]
    rows: Callable[[Measured], list[list[str]]]
    """a table of the numbers that the measures are computed from, the head first"""
    published: str = "none"
    """the paper's number, and its source"""
    picture: str | None = None
    """one of the study's pictures"""


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image of some runs."""

    runs: tuple[str, ...]
    draw: Callable[[Mapping[str, Sequence[Trained]], pathlib.Path], None]
    """arguments: runs by name, each a sequence of its seeds; the path of the PNG"""


@dataclasses.dataclass(frozen=True)
class Study:
    """The runs for a paper, and their evaluation."""

    title: str
    runs: Mapping[str, Run]
    measures: Mapping[str, Sequence[Callable[[Trained], Numbers]]]
    """by run; `*` stands for every run. A measure is a top-level function of a module; it maps one
    seed to names -> JSON values. Names must differ between the measures of a run."""
    page: Callable[[Measured], Iterable[str]]
    """the numbers -> parts of a Markdown page; must not train or evaluate models"""
    claims: Sequence[Claim] = ()
    pictures: Mapping[str, Picture] = dataclasses.field(default_factory=dict)
    """by file name, without folder and extension"""

    def measures_of(self, run: str) -> list[Callable[[Trained], Numbers]]:
        """The measures of a run."""
        return [*self.measures.get("*", ()), *self.measures.get(run, ())]
