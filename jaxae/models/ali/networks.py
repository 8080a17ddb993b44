"""The dense networks of BiGAN for MNIST and of ALI for data in the plane.

    bigan   leaky relu (relu in the generator), batch normalisation without scale and shift, no
            biases; generator and discriminator add a linear map of z to the pre-activations of
            every layer after the first (jeffdonahue/bigan: net.py, gan.py)
    plane   relu, batch normalisation with scale and shift; the discriminator has maxout units, the
            concatenation of x and z as input, and no normalisation (IshmaelBelghazi/ALI:
            experiments/ali_mixture.py)

Each network can have another normalisation. Layers have a bias unless the normalisation that
follows subtracts the mean.

x [B,D] flattened image; z [B,Z] code, with the embedding of a label appended where there is one.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxae import nets
from jaxae.models.ali.config import Config
from jaxae.nets.custom import replace_networks
from jaxae.training.state import Spec

MOMENTUM = 0.95  # decay of the moving averages of batch statistics


def build_networks(
    config: Config, spec: Spec, own: Mapping[str, nn.Module] | None = None
) -> nets.Bundle:
    """enc, gen, critic, and where the method or the task has them pair_critic and embed."""
    height, width, channels = spec.image_shape
    style, deviation = config.network, config.deviation
    code_size = 2 * config.latent if config.posterior == "gaussian" else config.latent
    critic = lambda out: Critic(
        config.critic_widths or config.widths, out, style, deviation,
        zero_start=config.zero_start, norm=config.critic_norm,
    )  # fmt: skip
    defaults = {
        "gen": Generator(
            config.gen_widths or config.widths, height * width * channels, style, deviation,
            config.generator_norm,
        ),
        "critic": critic(spec.classes if config.task == "semisupervised" else 1),
    }  # fmt: skip
    if config.method != "gan":
        defaults["enc"] = Encoder(config.widths, code_size, style, deviation, config.encoder_norm)
    if config.method == "post_hoc_ali":
        defaults["pair_critic"] = critic(1)
    if config.task == "conditional":
        defaults["embed"] = nn.Dense(config.embedding, kernel_init=nets.kernel_init(deviation))
    examples, keeping = example_inputs(config, spec), set(defaults) - {"embed"}
    return nets.Bundle(**replace_networks(defaults, own, examples, with_batch_stats=keeping))


def example_inputs(config: Config, spec: Spec) -> dict[str, Any]:
    """An input, or a tuple of inputs, of each network, by name."""
    height, width, channels = spec.image_shape
    pixels = height * width * channels
    noise = config.noise if config.posterior == "universal" else 0
    x, z = jnp.zeros((1, pixels)), jnp.zeros((1, config.latent))
    x_noise, e = jnp.zeros((1, pixels + noise)), jnp.zeros((1, config.embedding))
    conditional = config.task == "conditional"
    z_e = jnp.concatenate([z, e], axis=-1) if conditional else z
    return {
        "enc": (x_noise, e) if conditional else x_noise,
        "gen": z_e,
        "critic": (x, z_e) if config.method == "ali" else x,
        "pair_critic": (x, z),
        "embed": jnp.zeros((1, spec.classes)),
    }


def _dense(width: int, deviation: float, bias: bool) -> nn.Dense:
    return nn.Dense(width, use_bias=bias, kernel_init=nets.kernel_init(deviation))


def _activation(style: str) -> Callable[[jax.Array], jax.Array]:
    """The activation of encoder and discriminator."""
    return nn.relu if style == "plane" else lambda x: nn.leaky_relu(x, 0.2)


class Encoder(nn.Module):
    """x `[B, D]`, with noise appended for the universal posterior -> `[B, out]`.

    The embedding of a label is appended to the input of the last layer.
    """

    widths: tuple[int, ...]
    out: int
    style: str
    deviation: float
    norm: Literal["none", "batch", "layer"] = "batch"

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        label: jax.Array | None = None,
        train: bool = False,
        axis_name: str | None = None,
        hidden: bool = False,
    ) -> jax.Array:
        """With `hidden` the last hidden layer `[B, widths[-1]]`, as features for probes."""
        affine, act = self.style == "plane", _activation(self.style)
        bias = nets.needs_bias(self.norm)
        for layer, width in enumerate(self.widths):
            x = _dense(width, self.deviation, bias)(x)
            if layer or affine:
                x = nets.normalise(x, self.norm, train, axis_name, MOMENTUM, affine)
            x = act(x)
        if hidden:
            return x
        x = x if label is None else jnp.concatenate([x, label], axis=-1)
        return _dense(self.out, self.deviation, bias or affine)(x)


class Generator(nn.Module):
    """z `[B, Z]` -> `[B, out]`, before the activation of the output."""

    widths: tuple[int, ...]
    out: int
    style: str
    deviation: float
    norm: Literal["none", "batch", "layer"] = "batch"

    @nn.compact
    def __call__(
        self, z: jax.Array, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        x, affine, bias = z, self.style == "plane", nets.needs_bias(self.norm)
        for layer, width in enumerate(self.widths):
            x = _dense(width, self.deviation, bias)(x)
            if layer and not affine:
                x = x + _dense(width, self.deviation, bias=False)(z)
            x = nn.relu(nets.normalise(x, self.norm, train, axis_name, MOMENTUM, affine))
        return _dense(self.out, self.deviation, bias or affine)(x)


class Critic(nn.Module):
    """x `[B, D]` and z `[B, Z]` (or None) -> logits `[B, out]` and the last hidden layer."""

    widths: tuple[int, ...]
    out: int
    style: str
    deviation: float
    pieces: int = 5
    """number of linear functions in a maxout unit (plane)"""
    zero_start: bool = False
    """initialise the last layer's weights with zeros"""
    norm: nets.Norm = "batch"

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        z: jax.Array | None = None,
        train: bool = False,
        axis_name: str | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        plane, act = self.style == "plane", _activation(self.style)
        bias = nets.needs_bias(self.norm)
        linear = lambda layer: nets.linear(layer, self.norm, train)
        if plane and z is not None:
            x = jnp.concatenate([x, z], axis=-1)
        for layer, width in enumerate(self.widths):
            units = width * self.pieces if plane else width
            x = linear(_dense(units, self.deviation, bias))(x)
            if layer and not plane and z is not None:
                x = x + linear(_dense(width, self.deviation, bias=False))(z)
            if layer or plane:
                x = nets.normalise(x, self.norm, train, axis_name, MOMENTUM, affine=plane)
            if plane:
                x = jnp.max(x.reshape(*x.shape[:-1], width, self.pieces), axis=-1)
            else:
                x = act(x)
        start = nn.initializers.zeros if self.zero_start else nets.kernel_init(self.deviation)
        return linear(nn.Dense(self.out, use_bias=bias or plane, kernel_init=start))(x), x
