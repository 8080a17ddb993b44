"""What models with a discriminator share."""

import jax

from jaxae import nets

TWO_LOG_TWO = 1.3862943611198906


def excess_over_chance(real: jax.Array, fake: jax.Array) -> jax.Array:
    """By how much a discriminator beats chance, in nats per example; 0 where it cannot.

    Args:
        real, fake: `[B]` its logits of data and of fakes.
    """
    return TWO_LOG_TWO - (jax.nn.softplus(-real) + jax.nn.softplus(fake))


def refuse_batch_slopes(norm: nets.Norm, **penalties: float) -> None:
    """Refuses penalties of a discriminator's slope where it normalises over the batch.

    Args:
        norm: the discriminator's normalisation.
        penalties: weights by the name of their field.
    Raises:
        ValueError: one is not zero and `norm` is `batch`, with which no example has a slope of its
            own.
    """
    for field, weight in penalties.items():
        if weight and norm == "batch":
            raise ValueError(
                f"{field}={weight} asks for the slope at single examples, which "
                "discriminator_norm=batch does not have: take discriminator_norm=none, layer or "
                f"spectral, or {field}=0"
            )
