"""The settings of a run: what the command line can say, and what config.json holds."""

import argparse
import contextlib
import dataclasses
import difflib
import pathlib
import sys
from typing import Annotated, Any

import tyro

from jaxae.data import Options
from jaxae.fields import Batch, Checked, Count, CountOrZero, Range
from jaxae.models import MODELS
from jaxae.training import Plan
from jaxae.training.workdir import read_config

WORDS = ("model", "preset", "workdir", "data_dir", "checkpoint", "out", "n", "list",
         "print_config", "help")  # fmt: skip
"""what run.py reads before the flags of a model, so that no field may be called so"""


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


class UsageError(ValueError):
    """Something on the command line is not there or does not fit."""


def say(line: str) -> None:
    """A line for whoever is watching."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def choose(kind: str, name: str, there) -> Any:
    """`there[name]`, or an error that lists the choices and guesses what was meant."""
    if name in there:
        return there[name]
    close = difflib.get_close_matches(name, list(there), n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise UsageError(f"unknown {kind} {name!r}: choose from {', '.join(there)}{hint}")


def owners(name: str) -> dict[str, str]:
    """Who reads each flag of `run.py --model <name>`: a dataclass's name, or run.py itself.

    Raises:
        TypeError: a field that two of them have, whose flag would be read by one only.
    """
    read = dict.fromkeys(WORDS, "run.py") | {"data": "Settings"}
    for kind in _groups(name).values():
        owner = f"{name}.Config" if kind is MODELS[name].Config else kind.__name__
        for field in dataclasses.fields(kind):
            if field.name in read:
                raise TypeError(
                    f"{field.name} is a field of {owner} and of {read[field.name]}, but a flag has "
                    "one meaning: rename one of them"
                )
            read[field.name] = owner
    return read


def _groups(name: str) -> dict[str, type]:
    """The dataclasses whose fields are flags, by their names in `Settings`."""
    return {"model": MODELS[name].Config, "plan": Plan, "options": Options, "report": Report}


def from_flags(name: str, preset: Settings, flags: list[str], epilogue: str = "") -> Settings:
    """The preset's settings as changed by typed flags; `--help` among them prints them all.

    A preset's options were chosen for its data set. With `--data` of another one they are back at
    their defaults, unless given as flags; a line on stderr names them.
    """
    owners(name)
    data = _data_of(preset, flags)
    left, preset = preset, dataclasses.replace(preset, options=_options_for(preset, data))
    fields = [("data", str, dataclasses.field(default=preset.data))]
    for group, kind in _groups(name).items():
        kind = Annotated[kind, tyro.conf.arg(name="")]
        fields.append((group, kind, dataclasses.field(default=getattr(preset, group))))
    kind = dataclasses.make_dataclass(f"{name}_settings", fields, frozen=True)
    try:
        chosen = tyro.cli(
            kind, args=flags, prog=f"run.py --model {name}", description=epilogue, default=kind()
        )
    except ValueError as error:  # what __post_init__ says of fields that contradict each other
        raise UsageError(str(error)) from error
    settings = Settings(*(getattr(chosen, field.name) for field in dataclasses.fields(Settings)))
    _tell_reset(left, settings)
    return settings


def _data_of(preset: Settings, flags: list[str]) -> str:
    """The data set that the flags name, or the preset's."""
    words = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    words.add_argument("--data", nargs="?")
    return words.parse_known_args(flags)[0].data or preset.data


def _options_for(preset: Settings, data: str) -> Options:
    """The preset's options where `data` is the set that they were chosen for, else the defaults.

    A preset on `folder:...` is for whatever folder holds those images, and `tfds:mnist` is `mnist`.
    """
    kind = lambda name: "folder" if name.startswith("folder:") else name.removeprefix("tfds:")
    return preset.options if kind(data) == kind(preset.data) else Options()


def _tell_reset(preset: Settings, settings: Settings) -> None:
    """Says on stderr which options of the preset did not go with another data set."""
    if _options_for(preset, settings.data) is preset.options:
        return
    there, now = vars(preset.options), vars(settings.options)
    gone = [f for f, default in vars(Options()).items() if now[f] == default != there[f]]
    if gone:
        flag = lambda field: f"--{field.replace('_', '-')}"
        keep = [flag(f) if there[f] is True else f"{flag(f)} {there[f]}" for f in gone]
        fields = ", ".join(f"{f}={there[f]}" for f in gone)
        say(
            f"note: this preset has {fields} for {preset.data}, "
            f"which is not used on {settings.data}; to keep it add {' '.join(keep)}"
        )


def from_folder(folder: pathlib.Path, flags: list[str]) -> tuple[str, Settings]:
    """The model's name and the settings that `<folder>/config.json` holds.

    Args:
        flags: fields of the report, and --steps, which alone may differ from the folder's.
    Raises:
        WorkdirError: the file is damaged, was edited or has another format.
        UsageError: other flags, or a file that does not hold the settings of a run.
    """
    config = read_config(folder)
    try:
        name, settings = config["model"], _settings(config)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{folder / 'config.json'} does not hold the settings of a run "
            f"({type(error).__name__}: {error}); "
            "put the file right, or name --model and a new --workdir"
        ) from error
    steps = Annotated[int, tyro.conf.arg(help="training steps in all: more lengthen the run")]
    report = Annotated[Report, tyro.conf.arg(name="")]
    fields = [("steps", steps, dataclasses.field(default=settings.plan.steps)),
              ("report", report, dataclasses.field(default=settings.report))]  # fmt: skip
    kind = dataclasses.make_dataclass("folder_settings", fields, frozen=True)
    try:
        chosen, others = tyro.cli(
            kind, args=flags, prog="run.py --workdir", default=kind(), return_unknown_args=True
        )
        plan = dataclasses.replace(settings.plan, steps=chosen.steps)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if others:
        raise UsageError(
            f"{' '.join(others)}: a run's settings are fixed, but for --steps; to change them name "
            "--model and a new --workdir"
        )
    return name, dataclasses.replace(settings, plan=plan, report=chosen.report)


def _settings(config: dict) -> Settings:
    name = config["model"]
    choose("model", name, MODELS)
    tuples = lambda fields: {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return Settings(
        config["data"],
        MODELS[name].Config(**tuples(config["config"])),
        Plan(**tuples(config["plan"])),
        Options(**tuples(config["options"])),
        Report(**config.get("report", {})),  # folders of earlier versions have none
    )
