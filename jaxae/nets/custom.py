"""The user's own networks in place of a model's."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import flax.linen as nn
import jax

Networks = Mapping[str, nn.Module] | None
Examples = Mapping[str, Any]


def replace_networks(
    defaults: Mapping[str, nn.Module],
    networks: Networks,
    examples: Examples | Callable[[], Examples],
    methods: Mapping[str, str] | None = None,
    with_batch_stats: Collection[str] = (),
) -> dict[str, nn.Module]:
    """A model's networks by name, with the user's modules in place of those of the same name.

    A replacement takes the inputs of the module that it replaces and must give outputs of the same
    shapes. If it keeps batch statistics (collection `batch_stats`), it is also called with `train`
    and `axis_name`.

    Args:
        defaults: the model's networks by name.
        networks: the user's by name, or None.
        examples: by network name, an input or a tuple of inputs, batch axis first; or a function
            without arguments that gives them.
        methods: by network name, the signature of a method that the model calls besides
            `__call__`, such as `sample(variables, n, rng)`.
        with_batch_stats: names of the networks whose batch statistics the model keeps.
    Returns:
        all networks, in the order of `defaults`.
    Raises:
        ValueError: a name that the model does not have, outputs of other shapes (the message names
            the expected ones), a missing method, a module without parameters, or one with
            variables that the model does not keep.
        TypeError: not a flax module.
    """
    if not networks:
        return dict(defaults)
    for name, module in networks.items():
        if name not in defaults:
            raise ValueError(f"networks: {name!r} is not one of {', '.join(map(repr, defaults))}")
        if not isinstance(module, nn.Module):
            raise TypeError(f"networks[{name!r}] must be a flax.linen.Module, is {type(module)}")
    examples = examples() if callable(examples) else examples
    for name, module in networks.items():
        inputs = examples[name] if isinstance(examples[name], tuple) else (examples[name],)
        _check_method(name, module, (methods or {}).get(name))
        _check_variables(name, module, inputs, name in with_batch_stats)
        expected, given = (_output_shapes(m, inputs) for m in (defaults[name], module))
        if expected != given:
            shapes = ", ".join(str(list(x.shape)) for x in inputs if hasattr(x, "shape"))
            raise ValueError(
                f"networks[{name!r}]: outputs must have shape {expected} for inputs of shape "
                f"{shapes}, have shape {given}"
            )
    return {**defaults, **networks}


def refuse_networks(networks: Networks, reason: str) -> None:
    """For a model whose networks cannot be replaced.

    Raises:
        ValueError: `networks` is not empty; the message is `reason`.
    """
    if networks:
        raise ValueError(f"networks={sorted(networks)}: {reason}")


def _check_method(name: str, module: nn.Module, signature: str | None) -> None:
    if signature and not hasattr(module, signature.split("(")[0]):
        raise ValueError(f"networks[{name!r}] must have a method {signature}")


def _check_variables(name: str, module: nn.Module, inputs: tuple, batch_stats: bool) -> None:
    created = set(jax.eval_shape(module.init, jax.random.key(0), *inputs))
    if "params" not in created:
        raise ValueError(f"networks[{name!r}] has no parameters to train")
    kept = {"params", "batch_stats"} if batch_stats else {"params"}
    if created - kept:
        raise ValueError(
            f"networks[{name!r}] has variables {', '.join(sorted(created - kept))}; of this "
            f"network the model keeps only {' and '.join(sorted(kept))}: to normalise, take "
            "nn.LayerNorm or nn.GroupNorm"
        )


def _output_shapes(module: nn.Module, inputs: tuple[Any, ...]) -> str:
    """The shapes of a module's outputs, as text."""
    out = jax.eval_shape(lambda: module.init_with_output(jax.random.key(0), *inputs)[0])
    return str(jax.tree.map(lambda x: list(x.shape), out))
