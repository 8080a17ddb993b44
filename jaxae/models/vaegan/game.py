"""VAE/GAN's game between decoder and discriminator, as the official code plays it.

andersbll/autoencoding_beyond_pixels: model/aegan.py. D is the probability that the discriminator
gives to "data"; costs are in nats.
"""

import jax
import jax.numpy as jnp

from jaxae import losses


def balance_gate(
    cost_real: jax.Array, cost_fake: jax.Array, equilibrium: float = 0.68, margin: float = 0.35
) -> tuple[jax.Array, jax.Array]:
    """Whether the discriminator moves, and whether the decoder does; at least one does.

    Args:
        cost_real: scalar, the mean of -log D over data, in nats.
        cost_fake: scalar, the mean of -log(1 - D) over fakes.
        equilibrium: what both are when nobody is ahead, about log 2.
        margin: how far from it a player is held back.
    """
    least, most = jnp.minimum(cost_real, cost_fake), jnp.maximum(cost_real, cost_fake)
    discriminator, decoder = least >= equilibrium - margin, most <= equilibrium + margin
    nobody = ~(discriminator | decoder)
    return discriminator | nobody, decoder | nobody


def adversarial_game(name: str, log_floor: float) -> losses.GanLoss:
    """`losses.gan_loss(name)`; with a floor, the official log(D + floor) and log(1 - D + floor).

    Args:
        name: saturating or non_saturating.
        log_floor: at least 0. With one, costs stay below -log(log_floor), and flat near there.
    """
    if not log_floor:
        return losses.gan_loss(name)
    cost = lambda t: -jnp.log(jax.nn.sigmoid(t) + log_floor)
    fool = {"saturating": lambda t: -cost(-t), "non_saturating": cost}[name]
    return losses.GanLoss(cost, lambda t: cost(-t), fool)
