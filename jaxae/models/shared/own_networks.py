"""The networks of a model, with the caller's own modules in place of some of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax

from jaxae import nets


def replace_networks(
    defaults: Mapping[str, nn.Module],
    own: Mapping[str, nn.Module] | None,
    examples: Mapping[str, Any],
    without_batch_stats: Sequence[str] = (),
) -> dict[str, nn.Module]:
    """`nets.with_own`, with a check of the variables that the caller's modules create.

    Args:
        defaults: the model's own networks by name.
        own: the caller's modules by name, or None.
        examples: by network name, an input or a tuple of inputs, batch axis first.
        without_batch_stats: names of the networks that the model calls without batch statistics.
    Returns:
        all networks by name, in the order of `defaults`.
    Raises:
        ValueError, TypeError: as `nets.with_own`.
        ValueError: a module without parameters, or with variables that the model does not keep.
    """
    networks = nets.with_own(defaults, own, **{name: examples[name] for name in own or {}
                                               if name in defaults})  # fmt: skip
    for name, module in (own or {}).items():
        inputs = examples[name] if isinstance(examples[name], tuple) else (examples[name],)
        created = set(jax.eval_shape(module.init, jax.random.key(0), *inputs))
        if "params" not in created:
            raise ValueError(f"networks[{name!r}] has no parameters to train")
        kept = {"params"} if name in without_batch_stats else {"params", "batch_stats"}
        if created - kept:
            raise ValueError(
                f"networks[{name!r}] keeps {', '.join(sorted(created - kept))}, and this model "
                f"keeps {' and '.join(sorted(kept))} of this network only: where it normalises "
                "over the batch, take nn.LayerNorm or nn.GroupNorm instead of nn.BatchNorm"
            )
    return networks
