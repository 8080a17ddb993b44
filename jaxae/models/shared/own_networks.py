"""What models accept and refuse of the caller's own networks."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax

from jaxae import nets

Networks = Mapping[str, nn.Module] | None
PAIRED_LAYERS = (
    "model {} builds encoder and decoder from pairs of dense layers, which are trained layer by "
    "layer or share weights; it takes no networks of your own"
)


def replace_networks(
    defaults: Mapping[str, nn.Module],
    own: Networks,
    examples: Callable[[], Mapping[str, Any]],
    methods: Mapping[str, str] | None = None,
) -> dict[str, nn.Module]:
    """`nets.with_own`, for a model that keeps nothing of a network but its parameters.

    Args:
        defaults: the model's own networks by name.
        own: the caller's, or None.
        examples: gives by network name an input or a tuple of inputs, batch axis first; called
            only where `own` names a network.
        methods: by network name, the signature of the method that the model calls beside
            `__call__`, such as `sample(variables, n, rng)`.
    Raises:
        ValueError: an unknown name, outputs of other shapes, a missing method, or a network with
            variables that are no parameters (batch statistics).
        TypeError: not a flax module.
    """
    if not own:
        return dict(defaults)
    inputs = examples()
    networks = nets.with_own(defaults, own, **inputs)
    for name, module in own.items():
        signature = (methods or {}).get(name)
        if signature and not hasattr(module, signature.split("(")[0]):
            raise ValueError(f"networks[{name!r}] must have a method {signature}")
        args = inputs[name] if isinstance(inputs[name], tuple) else (inputs[name],)
        variables = jax.eval_shape(module.init, jax.random.key(0), *args)
        others = sorted(set(variables) - {"params"})
        if others:
            raise ValueError(
                f"networks[{name!r}] has variables {', '.join(others)}; this model keeps only "
                "parameters (params)"
            )
    return networks


def refuse_networks(own: Networks, reason: str) -> None:
    """For a model whose networks cannot be replaced.

    Raises:
        ValueError: `own` names a network; the message is `reason`.
    """
    if own:
        raise ValueError(f"networks={sorted(own)}: {reason}")
