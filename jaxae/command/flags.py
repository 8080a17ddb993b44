"""The flags of the command: from command-line arguments to the settings of a run."""

import argparse
import contextlib
import dataclasses
import pathlib
import sys
from typing import Annotated, Any

import tyro

from jaxae.data import Options
from jaxae.models import MODELS
from jaxae.recipes import choose
from jaxae.settings import Report, Settings, UsageError, did_you_mean, with_changes
from jaxae.training import Plan
from jaxae.training.workdir import read_config

WORDS = ("model", "recipe", "workdir", "data_dir", "checkpoint", "out", "n", "codes_from",
         "images_from", "list", "print_config", "help")  # fmt: skip
"""arguments that the command reads before the flags of a model; no field may have such a name"""


def say(line: str) -> None:
    """Prints a line to stderr; a closed stderr is no error."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def owners(name: str) -> dict[str, str]:
    """Owner of each flag of `jaxae --model <name>`: the name of a dataclass, or the command itself.

    Raises:
        TypeError: two of them have a field of the same name.
    """
    owner_of = dict.fromkeys(WORDS, "jaxae") | {"data": "Settings"}
    for kind in _groups(name).values():
        owner = f"{name}.Config" if kind is MODELS[name].Config else kind.__name__
        for field in dataclasses.fields(kind):
            if field.name in owner_of:
                raise TypeError(
                    f"{field.name} is a field of {owner} and of {owner_of[field.name]}, but a flag "
                    "has one meaning: rename one of them"
                )
            owner_of[field.name] = owner
    return owner_of


def _groups(name: str) -> dict[str, type]:
    """The dataclasses whose fields are flags, by their names in `Settings`."""
    return {"model": MODELS[name].Config, "plan": Plan, "options": Options, "report": Report}


def from_flags(name: str, recipe: Settings, flags: list[str], epilogue: str = "") -> Settings:
    """The recipe's settings changed by flags; with `--help` among them, prints all flags.

    The options of a recipe are for its data set. With `--data` of another one they are reset to
    their defaults, unless given as flags; a line on stderr names the options that were reset.
    """
    owners(name)
    data = _data_of(recipe, flags)
    original, recipe = recipe, dataclasses.replace(recipe, options=_options_for(recipe, data))
    fields = [("data", str, dataclasses.field(default=recipe.data))]
    for group, kind in _groups(name).items():
        kind = Annotated[kind, tyro.conf.arg(name="")]
        fields.append((group, kind, dataclasses.field(default=getattr(recipe, group))))
    kind = dataclasses.make_dataclass(f"{name}_settings", fields, frozen=True)
    try:
        parsed = tyro.cli(
            kind, args=flags, prog=f"jaxae --model {name}", description=epilogue, default=kind()
        )
    except ValueError as error:  # raised by __post_init__ for fields that contradict each other
        raise UsageError(str(error)) from error
    settings = Settings(*(getattr(parsed, field.name) for field in dataclasses.fields(Settings)))
    _print_reset_options(original, settings)
    return settings


def from_changes(
    name: str, recipe: Settings, changes: dict[str, Any], data: str | None = None
) -> Settings:
    """The recipe's settings with some fields changed: the flags, from Python.

    Args:
        changes: by field name; lists stand for tuples.
        data: another data set than the recipe's; for the options see `from_flags`.
    Raises:
        UsageError: an unknown field, or a value that is out of range or contradicts another field.
    """
    owner_of = {field: owner for field, owner in owners(name).items() if owner != "jaxae"}
    del owner_of["data"]
    for field in changes:
        if field not in owner_of:
            hint = did_you_mean(field, owner_of)
            raise UsageError(
                f"unknown field {field!r} of model {name}{hint} (`jaxae --model {name} --help` "
                "lists all, with - for _)"
            )
    data = data or recipe.data
    base = dataclasses.replace(recipe, data=data, options=_options_for(recipe, data))
    try:
        settings = with_changes(base, {f: _as_tuple(value) for f, value in changes.items()})
    except ValueError as error:
        raise UsageError(str(error)) from error
    _print_reset_options(recipe, settings)
    return settings


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _data_of(recipe: Settings, flags: list[str]) -> str:
    """The data set that the flags name, or the recipe's."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--data", nargs="?")
    return parser.parse_known_args(flags)[0].data or recipe.data


def _options_for(recipe: Settings, data: str) -> Options:
    """The recipe's options if `data` is the recipe's data set, else the defaults.

    All `folder:...` data sets count as the same one, and `tfds:mnist` as `mnist`.
    """
    kind = lambda name: "folder" if name.startswith("folder:") else name.removeprefix("tfds:")
    return recipe.options if kind(data) == kind(recipe.data) else Options()


def _print_reset_options(recipe: Settings, settings: Settings) -> None:
    """Prints to stderr which options of the recipe were reset for another data set."""
    if _options_for(recipe, settings.data) is recipe.options:
        return
    of_recipe, current = vars(recipe.options), vars(settings.options)
    reset = [f for f, default in vars(Options()).items() if current[f] == default != of_recipe[f]]
    if reset:
        flag = lambda field: f"--{field.replace('_', '-')}"
        keep = [flag(f) if of_recipe[f] is True else f"{flag(f)} {of_recipe[f]}" for f in reset]
        fields = ", ".join(f"{f}={of_recipe[f]}" for f in reset)
        say(
            f"note: this recipe has {fields} for {recipe.data}, "
            f"which is not used on {settings.data}; to keep it add {' '.join(keep)}"
        )


def from_folder(folder: pathlib.Path, flags: list[str]) -> tuple[str, Settings]:
    """The model's name and the settings that `<folder>/config.json` holds.

    Args:
        flags: --steps and fields of the report; no others may differ from the folder's settings.
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
    steps = Annotated[
        int, tyro.conf.arg(help="training steps in all; a larger number lengthens the run")
    ]
    report = Annotated[Report, tyro.conf.arg(name="")]
    fields = [("steps", steps, dataclasses.field(default=settings.plan.steps)),
              ("report", report, dataclasses.field(default=settings.report))]  # fmt: skip
    kind = dataclasses.make_dataclass("folder_settings", fields, frozen=True)
    try:
        parsed, others = tyro.cli(
            kind, args=flags, prog="jaxae --workdir", default=kind(), return_unknown_args=True
        )
        plan = dataclasses.replace(settings.plan, steps=parsed.steps)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if others:
        raise UsageError(
            f"{' '.join(others)}: a run's settings are fixed, but for --steps; to change them name "
            "--model and a new --workdir"
        )
    return name, dataclasses.replace(settings, plan=plan, report=parsed.report)


def _settings(config: dict) -> Settings:
    name = config["model"]
    choose("model", name, MODELS)
    tuples = lambda fields: {k: _as_tuple(v) for k, v in fields.items()}
    return Settings(
        config["data"],
        MODELS[name].Config(**tuples(config["config"])),
        Plan(**tuples(config["plan"])),
        Options(**tuples(config["options"])),
        Report(**config.get("report", {})),  # missing in folders of earlier versions
    )
