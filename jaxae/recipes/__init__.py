"""Recipes: tuned settings of the models. Tuned numbers stand only here.

A recipe is a function without arguments that returns `Settings`. Its docstring states the command,
the hardware, the time and the number to expect. `get("vaegan", "mnist")` returns one recipe's
settings, `names("vaegan")` lists the recipes of a model, the default first, and `list()` lists all.
A number marked as recalled is quoted from memory and was not checked in the paper.
"""

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
from jaxae.settings import Settings, UsageError, did_you_mean

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
    """The settings of a recipe; without a recipe name, of the model's default recipe.

    Raises:
        UsageError: no such model or recipe; the message lists the names.
    """
    of_model = choose("model", model, RECIPES)
    return choose("recipe", recipe or next(iter(of_model)), of_model)()


def names(model: str) -> list[str]:
    """Names of the recipes of a model, its default first.

    Raises:
        UsageError: no such model.
    """
    return [*choose("model", model, RECIPES)]


def choose(kind: str, name: str, choices):
    """`choices[name]`.

    Raises:
        UsageError: no such name; the message lists the choices and suggests the closest one.
    """
    if name in choices:
        return choices[name]
    hint = did_you_mean(name, choices)
    raise UsageError(f"unknown {kind} {name!r}: choose from {', '.join(choices)}{hint}")


class Entry(NamedTuple):
    """A recipe in `list()`."""

    model: str
    recipe: str
    about: str
    """first line of its docstring"""


# Last in this file: below it, `list` is no longer Python's built-in.
def list():
    """Every recipe: `[Entry(model, recipe, about)]`, each model's default first."""
    about = lambda recipe: inspect.getdoc(recipe).splitlines()[0]
    return [
        Entry(model, name, about(recipe))
        for model, of_model in RECIPES.items()
        for name, recipe in of_model.items()
    ]
