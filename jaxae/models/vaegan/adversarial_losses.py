"""VAE/GAN's adversarial losses and its choice of the players to update, as in the official code.

andersbll/autoencoding_beyond_pixels: model/aegan.py. D is the discriminator's probability of
"data"; losses are in nats.
"""

import jax
import jax.numpy as jnp

from jaxae import losses


def select_updates(
    real_loss: jax.Array, fake_loss: jax.Array, equilibrium: float = 0.68, margin: float = 0.35
) -> tuple[jax.Array, jax.Array]:
    """Whether to update the discriminator, and whether to update the decoder; at least one is.

    The discriminator is skipped where one of its losses is below equilibrium - margin, the decoder
    where one is above equilibrium + margin. Where this would skip both, both are updated.

    Args:
        real_loss: scalar, the mean of -log D over data, in nats.
        fake_loss: scalar, the mean of -log(1 - D) over fakes.
        equilibrium: both losses at the equilibrium of the players, about log 2.
        margin: distance from the equilibrium at which a player is skipped.
    Returns:
        two boolean scalars: discriminator, decoder.
    """
    smaller, larger = jnp.minimum(real_loss, fake_loss), jnp.maximum(real_loss, fake_loss)
    discriminator, decoder = smaller >= equilibrium - margin, larger <= equilibrium + margin
    neither = ~(discriminator | decoder)
    return discriminator | neither, decoder | neither


def adversarial_losses(name: str, log_floor: float) -> losses.GanLoss:
    """`losses.gan_loss(name)`; with a floor, the official log(D + floor) and log(1 - D + floor).

    Args:
        name: saturating or non_saturating.
        log_floor: at least 0. If it is not 0, losses are below -log(log_floor), and their gradient
            vanishes near that value.
    """
    if not log_floor:
        return losses.gan_loss(name)
    nll = lambda t: -jnp.log(jax.nn.sigmoid(t) + log_floor)
    generator_loss = {"saturating": lambda t: -nll(-t), "non_saturating": nll}[name]
    return losses.GanLoss(nll, lambda t: nll(-t), generator_loss)
