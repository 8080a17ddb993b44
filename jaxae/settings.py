"""The settings of a run: given by a recipe, changed by flags, stored in config.json."""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from jaxae.data import Options
from jaxae.fields import Batch, Checked, Count, CountOrZero, Range
from jaxae.training import Plan


class UsageError(ValueError):
    """A wrong name, value or combination of arguments; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Report(Checked):
    """Sizes of the final evaluation. They do not affect training and may be changed: with --workdir
    alone, these flags replace the stored values."""

    test_examples: CountOrZero = 0
    """number of test images in the final evaluation, evenly spaced (0: all)"""
    iwae_samples: Annotated[int, Range(1, 10**6)] = 100
    """k of the importance-weighted bound, for models that have one"""
    probe_examples: Count = 20_000
    """number of training codes for the linear and the nearest-neighbour probe"""
    report_batch: Batch = 250
    """images per batch in the final evaluation"""
    images: CountOrZero = 2_000
    """number of test images to reconstruct, and of samples to compare with them (0: neither)"""


@dataclasses.dataclass(frozen=True)
class Settings(Checked):
    """All settings of a run."""

    data: str
    """data set: see --list for the names"""
    model: Any
    plan: Plan
    options: Options = dataclasses.field(default_factory=Options)
    report: Report = dataclasses.field(default_factory=Report)

    def identity(self, name: str) -> dict:
        """What determines the result of training, as JSON values for config.json; the report is
        stored apart from it."""
        return {
            "model": name,
            "data": self.data,
            "config": dataclasses.asdict(self.model),
            "plan": dataclasses.asdict(self.plan),
            "options": dataclasses.asdict(self.options),
        }


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """The end of a message on an unknown name: the closest of the choices, if one is close."""
    close = difflib.get_close_matches(name, [*choices], n=1)
    return f"; did you mean {close[0]}?" if close else ""


def with_changes(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """The settings with some fields changed, by field name as in the command's flags.

    Args:
        changes: `data`, or a field of the model's configuration, the plan, the data options or the
            report, by its name. No two of these share a name.
    Raises:
        UsageError: an unknown name; the message suggests the closest one.
        ValueError: a value that does not fit its field.
    """
    groups = ("model", "plan", "options", "report")
    owner = {f.name: g for g in groups for f in dataclasses.fields(getattr(settings, g))}
    by_group: dict[str, dict[str, Any]] = {group: {} for group in groups}
    for name, value in changes.items():
        if name != "data" and name not in owner:
            raise UsageError(f"unknown field {name!r}{did_you_mean(name, [*owner, 'data'])}")
        if name != "data":
            by_group[owner[name]][name] = value
    replaced = {
        group: dataclasses.replace(getattr(settings, group), **fields)
        for group, fields in by_group.items()
    }
    return dataclasses.replace(settings, data=changes.get("data", settings.data), **replaced)
