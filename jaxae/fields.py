"""Types of configuration fields with their ranges, and the check of their values.

A configuration is a frozen dataclass that inherits from `Checked` and states the range of each
number in its type. Documentation, command line and tests read the range from there.

    @dataclasses.dataclass(frozen=True)
    class Config(Checked):
        latent: Size = 16
        threshold: Annotated[float, Range(-1, 1)] = 0.0
        widths: tuple[Size, ...] = (256, 256)
"""

import dataclasses
import functools
import math
import types
import typing
from typing import Annotated, Any, Literal

FOREVER = 10**9  # steps are int32, and the sum of two of these must fit


@dataclasses.dataclass(frozen=True)
class Range:
    """From `low` to `high`, by default both included; NaN and infinities are never included."""

    low: float
    high: float
    above_low: bool = False  # `low` itself is excluded
    below_high: bool = False  # `high` itself is excluded

    def __contains__(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        above = value > self.low if self.above_low else value >= self.low
        below = value < self.high if self.below_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        lower = f"{'more than' if self.above_low else 'at least'} {self.low:,}"
        upper = f"{'less than' if self.below_high else 'at most'} {self.high:,}"
        return f"{lower} and {upper}"


# The upper limits exclude sizes and counts that no machine could hold.
Size = Annotated[int, Range(1, 65_536)]
"""Units of a layer, channels, dimensions of a code, rows of a table: at least 1."""
SizeOrZero = Annotated[int, Range(0, 65_536)]
"""A size, or 0 with a special meaning, which the field's help states."""
Depth = Annotated[int, Range(1, 256)]
"""Layers, blocks, cells, which are traced and compiled one by one: at least 1."""
DepthOrZero = Annotated[int, Range(0, 256)]
"""The same; 0 means none."""
Halvings = Annotated[int, Range(1, 16)]
"""How often a side is halved: at least once, at most 16 times (a side of 2^16)."""
Side = Annotated[int, Range(0, 8_192)]
"""Side of an image in pixels; the field's help states the meaning of 0."""
Steps = Annotated[int, Range(1, FOREVER)]
"""A number of training steps: at least 1."""
StepsOrZero = Annotated[int, Range(0, FOREVER)]
"""The same; 0 means never, unless the field's help states another meaning."""
LayerSteps = Annotated[int, Range(0, 10**6)]
"""Steps of each layer, where the sum over layers must fit into int32; 0: none."""
Count = Annotated[int, Range(1, 2**31 - 1)]
"""Examples of a data set: at least 1."""
CountOrZero = Annotated[int, Range(0, 2**31 - 1)]
"""The same; 0 means none, unless the field's help states another meaning."""
Batch = Annotated[int, Range(1, 2**20)]
"""Examples of a batch: at least 1."""
Share = Annotated[float, Range(0, 1)]
"""A probability or a share: 0 to 1."""
InnerShare = Annotated[float, Range(0, 1, above_low=True, below_high=True)]
"""The same, without 0 and 1."""
Decay = Annotated[float, Range(0, 1, below_high=True)]
"""Decay of a moving average: 0 to less than 1."""
Weight = Annotated[float, Range(0, 10**9)]
"""Weight of a loss or penalty, standard deviation of noise: not negative; 0 is none."""
Positive = Annotated[float, Range(0, 10**9, above_low=True)]
"""A scale or standard deviation that divides: more than 0."""
Rate = Annotated[float, Range(0, 1_000)]
"""A learning rate; 0: no update."""


class Checked:
    """Base of dataclasses whose fields are checked against their types at construction.

    An int in a float field becomes a float (the square of the int 10^9 overflows int32). Subclasses
    with more checks in their own `__post_init__` call this one first.
    """

    def __post_init__(self) -> None:
        check_fields(self)
        for name, kind in field_types(type(self)).items():
            object.__setattr__(self, name, _as_float(getattr(self, name), kind))


def check_fields(config: Any, error: type[ValueError] = ValueError) -> None:
    """Raises `error`, with the field's name, if a value does not match the field's type.

    Types that are checked: bool, int, float (also accepts int), str, `Literal`, `Annotated` with a
    `Range`, unions, and `tuple[T, ...]` of these. Fields of other types are not checked.
    """
    for name, kind in field_types(type(config)).items():
        value = getattr(config, name)
        if wrong := _problem(value, kind):
            raise error(f"{name}={value!r} {wrong}")


@functools.cache
def field_types(kind: type) -> dict[str, Any]:
    """The types of a dataclass's fields by name, `Annotated` ones with their ranges."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def unbounded(kind: type) -> list[str]:
    """The numeric fields of a dataclass without a range: there should be none."""
    return [name for name, hint in field_types(kind).items() if _is_bare(hint)]


def _is_bare(hint: Any) -> bool:
    if hint in (int, float):
        return True
    if typing.get_origin(hint) is Annotated:
        ranges = [note for note in hint.__metadata__ if isinstance(note, Range)]
        return not ranges and _is_bare(hint.__origin__)
    return any(_is_bare(part) for part in typing.get_args(hint)
               if typing.get_origin(hint) is not Literal)  # fmt: skip


def _as_float(value: Any, kind: Any) -> Any:
    """An int as a float if `kind` is float, in tuples too; other values unchanged."""
    origin = typing.get_origin(kind)
    if origin is Annotated:
        return _as_float(value, kind.__origin__)
    if origin is tuple:
        return tuple(_as_float(item, typing.get_args(kind)[0]) for item in value)
    return float(value) if kind is float else value


def _problem(value: Any, kind: Any) -> str | None:
    """The problem of a value, as the end of a sentence; None if there is none."""
    origin = typing.get_origin(kind)
    if origin is Annotated:
        for note in kind.__metadata__:
            if isinstance(note, Range):
                if wrong := _problem(value, kind.__origin__):
                    return wrong
                if value not in note:
                    return f"must be {note}"
        return _problem(value, kind.__origin__)
    if origin is Literal:
        choices = typing.get_args(kind)
        return None if value in choices else f"is none of {', '.join(map(str, choices))}"
    if origin is tuple:
        if not isinstance(value, tuple):
            return "must be a tuple"
        found = (_problem(item, typing.get_args(kind)[0]) for item in value)
        return next((f"holds what {wrong}" for wrong in found if wrong), None)
    if origin in (typing.Union, types.UnionType):
        found = [_problem(value, part) for part in typing.get_args(kind)]
        return None if None in found else found[0]
    if kind is bool:
        return None if isinstance(value, bool) else "must be true or false"
    if kind is int:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return None if whole else "must be a whole number"
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return None if number and math.isfinite(value) else "must be a finite number"
    if kind is str:
        return None if isinstance(value, str) else "must be text"
    if kind is types.NoneType:
        return None if value is None else "must be None"
    return None
