"""Networks of the caller's own in place of a model's."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax


def with_own(
    defaults: Mapping[str, nn.Module], own: Mapping[str, nn.Module] | None, **examples: Any
) -> dict[str, nn.Module]:
    """A model's networks by name, with the caller's modules in place of those of the same name.

    A module of the caller's takes the inputs of the one that it replaces and must give outputs of
    the same shapes. It is called as the default one is: where it keeps batch statistics
    (collection `batch_stats`) also with `train` and `axis_name`.

    Args:
        defaults: the model's own networks by name.
        own: the caller's, or None for none.
        examples: by network name, an input or a tuple of inputs, batch axis first.
    Raises:
        ValueError: a name that the model does not have, or outputs of other shapes; the message
            says which are wanted.
        TypeError: what is given is no flax module.
    """
    for name, module in (own or {}).items():
        if name not in defaults:
            raise ValueError(f"networks: {name!r} is none of {', '.join(map(repr, defaults))}")
        if not isinstance(module, nn.Module):
            raise TypeError(f"networks[{name!r}] must be a flax.linen.Module, is {type(module)}")
        inputs = examples[name] if isinstance(examples[name], tuple) else (examples[name],)
        wanted, given = (_shapes(m, inputs) for m in (defaults[name], module))
        if wanted != given:
            said = ", ".join(str(list(x.shape)) for x in inputs if hasattr(x, "shape"))
            raise ValueError(
                f"networks[{name!r}]: for inputs of shape {said} the model wants outputs of shape "
                f"{wanted}, and this module gives {given}"
            )
    return {**defaults, **(own or {})}


def _shapes(module: nn.Module, inputs: tuple[Any, ...]) -> str:
    """The shapes of a module's outputs, as text."""
    out = jax.eval_shape(lambda: module.init_with_output(jax.random.key(0), *inputs)[0])
    return str(jax.tree.map(lambda x: list(x.shape), out))
