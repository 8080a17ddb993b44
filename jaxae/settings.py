"""The settings of a run: what a recipe gives, what the command changes, what config.json holds."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Annotated, Any

from jaxae.data import Options
from jaxae.fields import Batch, Checked, Count, CountOrZero, Range
from jaxae.training import Plan


class UsageError(ValueError):
    """Something that was asked for is not there or does not fit."""


@dataclasses.dataclass(frozen=True)
class Report(Checked):
    """How much the final evaluation looks at. Not part of a run's identity; beside --workdir alone
    these flags replace what the folder holds."""

    test_examples: CountOrZero = 0
    """test images that the final numbers are read from, evenly spread (0: all)"""
    iwae_samples: Annotated[int, Range(1, 10**6)] = 100
    """k of the importance-weighted bound, where a model has one"""
    probe_examples: Count = 20_000
    """training codes that the linear and the nearest-neighbour probe are fitted on"""
    report_batch: Batch = 250
    """images at a time in the final evaluation"""
    images: CountOrZero = 2_000
    """test images reconstructed, and samples drawn and compared with as many (0: neither)"""


@dataclasses.dataclass(frozen=True)
class Settings(Checked):
    """One run, whole."""

    data: str
    """data set: see --list for the names"""
    model: Any
    plan: Plan
    options: Options = dataclasses.field(default_factory=Options)
    report: Report = dataclasses.field(default_factory=Report)

    def identity(self, name: str) -> dict:
        """What decides the outcome of training, as JSON values; config.json holds it, and beside
        it the report."""
        return {
            "model": name,
            "data": self.data,
            "config": dataclasses.asdict(self.model),
            "plan": dataclasses.asdict(self.plan),
            "options": dataclasses.asdict(self.options),
        }


def with_changes(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """The settings with some fields changed, by the names of the command's flags.

    Args:
        changes: `data`, or a field of the model's configuration, the plan, the data options or the
            report, by its name. No two of these share a name.
    Raises:
        UsageError: an unknown name, with a guess at what was meant.
        ValueError: a value that does not fit its field.
    """
    groups = ("model", "plan", "options", "report")
    owner = {f.name: g for g in groups for f in dataclasses.fields(getattr(settings, g))}
    by_group: dict[str, dict[str, Any]] = {group: {} for group in groups}
    for name, value in changes.items():
        if name != "data" and name not in owner:
            close = difflib.get_close_matches(name, [*owner, "data"], n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise UsageError(f"unknown field {name!r}{hint}")
        if name != "data":
            by_group[owner[name]][name] = value
    replaced = {
        group: dataclasses.replace(getattr(settings, group), **fields)
        for group, fields in by_group.items()
    }
    return dataclasses.replace(settings, data=changes.get("data", settings.data), **replaced)
