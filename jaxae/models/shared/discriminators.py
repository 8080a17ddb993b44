"""Functions that the models with a discriminator share."""

import jax

from jaxae import nets

TWO_LOG_TWO = 1.3862943611198906


def discriminator_advantage(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """2 log 2 minus the discriminator's cross-entropy, in nats per example.

    It is 0 for a discriminator that cannot tell data from fakes (all logits 0), at most 2 log 2.

    Args:
        real_logits: `[B]` logits of data.
        fake_logits: `[B]` logits of fakes.
    Returns:
        `[B]`.
    """
    return TWO_LOG_TWO - (jax.nn.softplus(-real_logits) + jax.nn.softplus(fake_logits))


def check_gradient_penalty(norm: nets.Norm, **penalties: float) -> None:
    """Checks that a penalty on the discriminator's gradient goes with its normalisation.

    Args:
        norm: the discriminator's normalisation.
        penalties: weights of the penalties by the names of their fields.
    Raises:
        ValueError: a weight is not zero and `norm` is `batch`: the logit of an example then depends
            on the other examples, and has no gradient of its own.
    """
    for field, weight in penalties.items():
        if weight and norm == "batch":
            raise ValueError(
                f"{field}={weight} needs the gradient of the logit at each example by itself, and "
                "with discriminator_norm=batch the logit depends on the other examples: take "
                f"discriminator_norm=none, layer or spectral, or {field}=0"
            )
