"""Settings that train well: the only place where a tuned number is written.

A recipe is a function without arguments that returns `Settings`; its docstring says the command,
the hardware and the time that it takes, and the number to expect. `get("vaegan", "mnist")` returns
one, `names("vaegan")` lists those of a model, its default first, and `list()` lists all.
"""

import difflib
import inspect
from collections.abc import Callable
from typing import NamedTuple

from jaxae.recipes import (
    aae,
    acai,
    acn,
    ae,
    alae,
    ali,
    dae,
    gan,
    hashing,
    iae,
    nvae,
    vae,
    vaegan,
    vqvae,
    vqvae_audio,
)
from jaxae.settings import Settings, UsageError

RECIPES: dict[str, dict[str, Callable[[], Settings]]] = {
    "aae": aae.RECIPES,
    "acai": acai.RECIPES,
    "acn": acn.RECIPES,
    "ae": ae.RECIPES,
    "alae": alae.RECIPES,
    "ali": ali.RECIPES,
    "dae": dae.RECIPES,
    "gan": gan.RECIPES,
    "hashing": hashing.RECIPES,
    "iae": iae.RECIPES,
    "nvae": nvae.RECIPES,
    "vae": vae.RECIPES,
    "vaegan": vaegan.RECIPES,
    "vqvae": vqvae.RECIPES,
    "vqvae_audio": vqvae_audio.RECIPES,
}


def get(model: str, recipe: str | None = None) -> Settings:
    """The settings of a recipe; without a name, of the model's default one.

    Raises:
        UsageError: no such model or recipe; the message lists the names.
    """
    there = choose("model", model, RECIPES)
    return choose("recipe", recipe or next(iter(there)), there)()


def names(model: str) -> list[str]:
    """The recipes of a model, its default first.

    Raises:
        UsageError: no such model.
    """
    return [*choose("model", model, RECIPES)]


def choose(kind: str, name: str, there):
    """`there[name]`, or a UsageError that lists the choices and guesses what was meant."""
    if name in there:
        return there[name]
    close = difflib.get_close_matches(name, [*there], n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise UsageError(f"unknown {kind} {name!r}: choose from {', '.join(there)}{hint}")


class Entry(NamedTuple):
    """A recipe in `list()`."""

    model: str
    recipe: str
    about: str
    """the first line of its docstring"""


# Last in this file, since below it the name no longer means Python's own list.
def list():
    """Every recipe: `[Entry(model, recipe, about)]`, each model's default first."""
    about = lambda make: inspect.getdoc(make).splitlines()[0]
    return [Entry(m, r, about(make)) for m, there in RECIPES.items() for r, make in there.items()]
