"""Several networks by name, and what their forward passes leave behind.

Networks that normalise over the batch keep moving averages, which no gradient moves. They travel
beside the parameters as `stats`, by network name; a network without them has no entry there.
"""

from typing import Any

import flax.linen as nn
import jax

Params = dict[str, Any]
Stats = dict[str, Any]


class Bundle:
    """Networks by name. Those with batch statistics take `train` and `axis_name` when called."""

    def __init__(self, **networks: nn.Module):
        self.networks = networks

    def init(self, rng: jax.Array, **examples: Any) -> tuple[Params, Stats]:
        """Parameters and statistics by network name.

        Args:
            rng: one key for all.
            examples: by network name, its input or a tuple of its inputs.
        """
        params, stats = {}, {}
        keys = jax.random.split(rng, len(self.networks))
        for key, (name, network) in zip(keys, self.networks.items(), strict=True):
            inputs = examples[name] if isinstance(examples[name], tuple) else (examples[name],)
            found = network.init(key, *inputs)
            params[name] = found["params"]
            if "batch_stats" in found:
                stats[name] = found["batch_stats"]
        return params, stats

    def __call__(self, params: Params, stats: Stats, name: str, *inputs: Any, **how: Any) -> Any:
        """A network's output with the statistics that it has learnt (evaluation)."""
        variables = {"params": params[name]}
        if name in stats:
            variables["batch_stats"] = stats[name]
        return self.networks[name].apply(variables, *inputs, **how)

    def train(
        self,
        params: Params,
        stats: Stats,
        name: str,
        *inputs: Any,
        axis_name: str | None = None,
        **how: Any,
    ) -> tuple[Any, Stats]:
        """A network's output with this batch's statistics, and all statistics after it."""
        if name not in stats:
            return self(params, stats, name, *inputs, **how), stats
        out, changed = self.networks[name].apply(
            {"params": params[name], "batch_stats": stats[name]},
            *inputs,
            train=True,
            axis_name=axis_name,
            mutable=["batch_stats"],
            **how,
        )
        return out, stats | {name: as_before(changed["batch_stats"], stats[name])}


def as_before(new: Any, old: Any) -> Any:
    """The numbers of `new` in the types of `old`, two trees of one structure.

    Where noise is of 64 bits, statistics of what it goes through are too, and a step would leave
    a state of other types than it found.
    """
    return jax.tree.map(lambda new, old: new.astype(old.dtype), new, old)
