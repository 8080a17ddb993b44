"""The networks of the AAE. The encoder has three parts, because its phases train different parts.

x [B,D] flattened image (and noise) -> trunk h [B,W] -> code [B,Z or 2Z], label [B,K].
"""

from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxae import nets
from jaxae.models.aae.config import WITH_CLASSES, Config
from jaxae.models.shared.gaussian import output_start
from jaxae.nets.custom import replace_networks
from jaxae.training.state import Spec


class Trunk(nn.Module):
    """Hidden layers with normalisation (`norm`) and relu: `[B, D] -> [B, widths[-1]]`."""

    widths: tuple[int, ...]
    norm: Literal["none", "batch", "layer"] = "none"
    deviation: float = 0.0

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        start = nets.kernel_init(self.deviation)
        for width in self.widths:
            x = nn.Dense(width, use_bias=nets.needs_bias(self.norm), kernel_init=start)(x)
            x = nn.relu(nets.normalise(x, self.norm, train, axis_name))
        return x


class Heads(nn.Module):
    """Cluster heads, one vector for each cluster: `rows [K, n]`."""

    clusters: int
    size: int

    @nn.compact
    def __call__(self) -> jax.Array:
        return self.param("rows", nn.initializers.normal(1.0), (self.clusters, self.size))


def head_repulsion(rows: jax.Array, margin: float) -> jax.Array:
    """The sum over pairs of heads of max(0, margin - distance), a scalar.

    Args:
        rows: `[K, n]` the cluster heads.
        margin: pairs at this distance or farther have no loss.
    """
    first, second = jnp.triu_indices(rows.shape[0], 1)
    squares = jnp.sum(jnp.square(rows[first] - rows[second]), axis=-1)
    # sqrt has no gradient at zero: two equal heads get the gradient zero, not NaN.
    distances = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    return jnp.sum(jnp.maximum(0.0, margin - distances))


def num_classes(config: Config, spec: Spec) -> int:
    """K."""
    return spec.classes if config.needs_labels else config.clusters


def example_inputs(config: Config, spec: Spec) -> dict[str, Any]:
    """An input of each network, by name."""
    classes = num_classes(config, spec)
    height, width, channels = spec.image_shape
    noise = config.noise if config.posterior == "universal" else 0
    sizes = {
        "trunk": height * width * channels + noise,
        "code": config.widths[-1],
        "dec": config.latent,
        "critic_z": config.latent,
        "label": config.widths[-1],
        "critic_y": classes,
    }
    if config.task in ("supervised", "semisupervised", "clustering"):
        sizes["dec"] += classes
    if config.task == "conditioned":
        sizes["critic_z"] += classes + 1
    return {name: jnp.zeros((1, size)) for name, size in sizes.items()} | {"heads": ()}


def build_networks(
    config: Config, spec: Spec, own: Mapping[str, nn.Module] | None = None
) -> nets.Bundle:
    """The networks of the task, by name."""
    height, width, channels = spec.image_shape
    start = output_start("bernoulli" if config.output == "sigmoid" else "gaussian", spec, channels)
    classes = num_classes(config, spec)
    dense = lambda out: nn.Dense(out, kernel_init=nets.kernel_init(config.deviation))
    mlp = lambda widths, out, norm, bias=None: nets.MLP(
        widths, out, "relu", bias, norm, config.deviation
    )
    critic = lambda: mlp(config.widths, 1, config.discriminator_norm)
    pixels = height * width * channels
    defaults = {
        "trunk": Trunk(config.widths, config.encoder_norm, config.deviation),
        "code": dense(config.latent * (2 if config.posterior == "gaussian" else 1)),
        "dec": mlp(config.widths[::-1], pixels, config.generator_norm, start.reshape(-1)),
        "critic_z": critic(),
    }
    if config.task in WITH_CLASSES:
        defaults |= {"label": dense(classes), "critic_y": critic()}
    # `encode_batch` drops the statistics of the encoder's last layers.
    networks = replace_networks(
        defaults,
        own,
        example_inputs(config, spec),
        with_batch_stats=set(defaults) - {"code", "label"},
    )
    if config.task == "reduction" and not config.fixed_heads:
        networks["heads"] = Heads(classes, config.latent)
    return nets.Bundle(**networks)
