"""Fields of configurations: what is refused, and that the message names the field and its range."""

import dataclasses
from typing import Annotated, Literal

import pytest
import tyro

from jaxae.fields import Checked, Decay, Positive, Range, Size, check_fields, unbounded


@dataclasses.dataclass(frozen=True)
class Config(Checked):
    latent: Size = 16
    decay: Decay = 0.9
    scale: Positive = 1.0
    layer: Annotated[int, Range(-1, 4)] = -1
    widths: tuple[Size, ...] = (8, 8)
    rates: tuple[Annotated[float, Range(0, 1)], ...] = ()
    kind: Literal["a", "b"] = "a"
    tied: bool = False
    name: str = "x"


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("latent", 0), ("latent", -1), ("latent", 10**21), ("latent", 1.5), ("latent", True),
        ("latent", "3"), ("latent", None), ("latent", NAN),
        ("decay", 1.0), ("decay", -1e-9), ("decay", NAN), ("decay", INFINITY), ("decay", "0.1"),
        ("scale", 0.0), ("scale", 0), ("scale", -INFINITY), ("scale", 2e9),
        ("layer", -2), ("layer", 5),
        ("widths", (8, 0)), ("widths", 8), ("widths", [8]), ("widths", (8, 8.0)),
        ("rates", (0.5, NAN)), ("rates", (1.1,)),
        ("kind", "c"), ("tied", 1), ("tied", "yes"), ("name", 3),
    ],
)  # fmt: skip
def test_what_a_field_may_not_hold_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=f"^{field}="):
        Config(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("latent", 1), ("latent", 65_536), ("decay", 0), ("decay", 0.999), ("scale", 1e-30),
        ("scale", 3), ("layer", -1), ("layer", 4), ("widths", ()), ("widths", (1, 2, 3)),
        ("rates", (0, 1)), ("kind", "b"), ("tied", True), ("name", ""),
    ],
)  # fmt: skip
def test_what_a_field_may_hold_is_taken(field, value):
    assert getattr(Config(**{field: value}), field) == value


def test_a_whole_number_in_a_floats_place_becomes_a_float():
    held = Config(scale=10**9, rates=(0, 1), latent=3)
    assert [type(n) for n in (held.scale, *held.rates, held.latent)] == [float, float, float, int]
    assert (held.scale, held.rates) == (1e9, (0.0, 1.0))


def test_the_message_states_the_range():
    with pytest.raises(ValueError, match=r"decay=1\.0 must be at least 0 and less than 1"):
        Config(decay=1.0)
    with pytest.raises(ValueError, match="scale=0 must be more than 0 and at most 1,000"):
        Config(scale=0)


def test_the_kind_of_error_is_the_callers():
    class OfData(ValueError): ...

    Loose = dataclasses.make_dataclass("Loose", [("latent", Size, 0)])
    with pytest.raises(OfData, match="latent=0"):
        check_fields(Loose(), OfData)


def test_numbers_without_a_range_are_found():
    @dataclasses.dataclass(frozen=True)
    class Bare:
        ranged: Size = 1
        whole: int = 1
        real: float = 1.0
        several: tuple[int, ...] = ()
        maybe: float | None = None
        either: Literal[1, 2] = 1
        word: str = ""
        noted: Annotated[int, "no range"] = 1
        flag: bool = False

    assert unbounded(Bare) == ["whole", "real", "several", "maybe", "noted"]
    assert unbounded(Config) == []


def test_the_command_line_reads_ranged_types_as_plain_ones(capsys):
    words = ["--latent", "3", "--widths", "4", "5", "--rates", "0.5", "--layer", "-1"]
    found = tyro.cli(Config, args=words)
    assert (found.latent, found.widths, found.rates, found.layer) == (3, (4, 5), (0.5,), -1)
    with pytest.raises(SystemExit):
        tyro.cli(Config, args=["--latent", "0"])
    assert "latent=0 must be at least 1 and at most 65,536" in capsys.readouterr().err
