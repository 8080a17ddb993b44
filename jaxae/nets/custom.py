"""The user's own networks in place of a model's."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax


def replace_networks(
    defaults: Mapping[str, nn.Module], networks: Mapping[str, nn.Module] | None, **examples: Any
) -> dict[str, nn.Module]:
    """A model's networks by name, with the user's modules in place of those of the same name.

    A replacement takes the inputs of the module that it replaces and must give outputs of the same
    shapes. It is called as the default is: if it keeps batch statistics (collection `batch_stats`),
    also with `train` and `axis_name`.

    Args:
        defaults: the model's networks by name.
        networks: the user's by name, or None.
        examples: by network name, an input or a tuple of inputs, batch axis first.
    Raises:
        ValueError: a name that the model does not have, or outputs of other shapes; the message
            names the expected ones.
        TypeError: not a flax module.
    """
    for name, module in (networks or {}).items():
        if name not in defaults:
            raise ValueError(f"networks: {name!r} is not one of {', '.join(map(repr, defaults))}")
        if not isinstance(module, nn.Module):
            raise TypeError(f"networks[{name!r}] must be a flax.linen.Module, is {type(module)}")
        inputs = examples[name] if isinstance(examples[name], tuple) else (examples[name],)
        wanted, given = (_shapes(m, inputs) for m in (defaults[name], module))
        if wanted != given:
            shapes = ", ".join(str(list(x.shape)) for x in inputs if hasattr(x, "shape"))
            raise ValueError(
                f"networks[{name!r}]: outputs must have shape {wanted} for inputs of shape "
                f"{shapes}, have shape {given}"
            )
    return {**defaults, **(networks or {})}


def _shapes(module: nn.Module, inputs: tuple[Any, ...]) -> str:
    """The shapes of a module's outputs, as text."""
    out = jax.eval_shape(lambda: module.init_with_output(jax.random.key(0), *inputs)[0])
    return str(jax.tree.map(lambda x: list(x.shape), out))
