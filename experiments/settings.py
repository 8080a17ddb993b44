"""The settings of a run: what the command line can say, and what config.json holds."""

import dataclasses
import difflib
import pathlib
from typing import Annotated, Any

import tyro

from jaxae.data import Options
from jaxae.models import MODELS
from jaxae.training import Plan
from jaxae.training.workdir import read_config


@dataclasses.dataclass(frozen=True)
class Report:
    """How much the final evaluation looks at. Not part of a run's identity; beside --workdir alone
    these flags replace what the folder holds."""

    test_examples: int = 0
    """test images that the final numbers are read from, evenly spread (0: all)"""
    iwae_samples: int = 100
    """k of the importance-weighted bound, where a model has one"""
    probe_examples: int = 20_000
    """training codes that the linear and the nearest-neighbour probe are fitted on"""
    report_batch: int = 250
    """images at a time in the final evaluation"""
    images: int = 2_000
    """test images reconstructed, and samples drawn and compared with as many (0: neither)"""

    def __post_init__(self):
        for field, value in vars(self).items():
            if value < (field not in ("test_examples", "images")):
                raise ValueError(f"{field}={value} is too small")


@dataclasses.dataclass(frozen=True)
class Settings:
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


def choose(kind: str, name: str, there) -> Any:
    """`there[name]`, or an error that lists the choices and guesses what was meant."""
    if name in there:
        return there[name]
    close = difflib.get_close_matches(name, list(there), n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise UsageError(f"unknown {kind} {name!r}: choose from {', '.join(there)}{hint}")


def from_flags(name: str, preset: Settings, flags: list[str], epilogue: str = "") -> Settings:
    """The preset's settings as changed by typed flags; `--help` among them prints them all."""
    groups = {"model": MODELS[name].Config, "plan": Plan, "options": Options, "report": Report}
    fields = [("data", str, dataclasses.field(default=preset.data))]
    for group, kind in groups.items():
        kind = Annotated[kind, tyro.conf.arg(name="")]
        fields.append((group, kind, dataclasses.field(default=getattr(preset, group))))
    kind = dataclasses.make_dataclass(f"{name}_settings", fields, frozen=True)
    try:
        chosen = tyro.cli(
            kind, args=flags, prog=f"run.py --model {name}", description=epilogue, default=kind()
        )
    except ValueError as error:  # what __post_init__ says of fields that contradict each other
        raise UsageError(str(error)) from error
    return Settings(*(getattr(chosen, field.name) for field in dataclasses.fields(Settings)))


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
