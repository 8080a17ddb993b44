"""Several networks by name, with their parameters and batch statistics.

Networks that normalise over the batch keep moving averages, which are not trained by gradients.
They are held apart from the parameters in `stats`, by network name; a network without them has no
entry.
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
            variables = network.init(key, *inputs)
            params[name] = variables["params"]
            if "batch_stats" in variables:
                stats[name] = variables["batch_stats"]
        return params, stats

    def __call__(self, params: Params, stats: Stats, name: str, *inputs: Any, **kwargs: Any) -> Any:
        """A network's output with its moving averages (evaluation)."""
        variables = {"params": params[name]}
        if name in stats:
            variables["batch_stats"] = stats[name]
        return self.networks[name].apply(variables, *inputs, **kwargs)

    def train(
        self,
        params: Params,
        stats: Stats,
        name: str,
        *inputs: Any,
        axis_name: str | None = None,
        **kwargs: Any,
    ) -> tuple[Any, Stats]:
        """A network's output with the statistics of this batch, and all updated statistics."""
        if name not in stats:
            return self(params, stats, name, *inputs, **kwargs), stats
        out, changed = self.networks[name].apply(
            {"params": params[name], "batch_stats": stats[name]},
            *inputs,
            train=True,
            axis_name=axis_name,
            mutable=["batch_stats"],
            **kwargs,
        )
        return out, stats | {name: cast_like(changed["batch_stats"], stats[name])}


def cast_like(new: Any, old: Any) -> Any:
    """The tree `new` cast to the dtypes of `old`, a tree of the same structure.

    With float64 noise, batch statistics become float64 too; without the cast a step would change
    the dtypes of the state.
    """
    return jax.tree.map(lambda new, old: new.astype(old.dtype), new, old)
