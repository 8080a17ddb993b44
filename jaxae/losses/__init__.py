"""Losses of the autoencoder family: pure functions of arrays, per example, in nats.

They need jax and optax, know no parameters, and never average over a batch unless their definition
does (`free_bits`, `kl_balance`, `feature_matching`, `mean_squared_gradient_norm`).

Arguments may be anything that `jnp.asarray` turns into an array of floats, including lists. Half
precision is computed and returned in float32, float64 (with `jax_enable_x64`) in float64. A wrong
type raises TypeError, a wrong shape or size ValueError; both name the function and the argument.

Values are never checked, because under `jit` they are not known. A NaN in an array, or a target
outside the range that its function states, gives NaN for the result and its gradients, traced or
not, and never a finite number.
"""

from jaxae.losses.adversarial import (
    GanLoss,
    feature_matching,
    gan_loss,
    gradient_penalty,
    mean_squared_gradient_norm,
    r1_penalty,
    squared_gradient_norms,
)
from jaxae.losses.balance import group_weights, kl_balance
from jaxae.losses.bounds import (
    BoundCarry,
    bits_per_dim,
    empty_bound,
    extend_bound,
    finish_bound,
    importance_weighted_bound,
)
from jaxae.losses.coding import (
    kl_mixture_upper_bound,
    kl_unit_gaussian_to_gaussian,
    kl_unit_gaussian_to_mixture,
    kl_unit_gaussian_to_mixture_sampled,
    mixture_log_prob,
    order_credit,
)
from jaxae.losses.counts import constrained_poisson_nll, multinomial_nll, words_nll
from jaxae.losses.divergence import (
    capacity_penalty,
    free_bits,
    free_bits_per_example,
    gaussian_log_prob,
    kl_diagonal_gaussians,
    kl_diagonal_gaussians_per_dimension,
    kl_monte_carlo,
    kl_to_standard_normal,
    kl_to_standard_normal_per_dimension,
)
from jaxae.losses.likelihood import Likelihood, likelihood
from jaxae.losses.reconstruction import (
    bernoulli_nll,
    categorical_nll,
    gaussian_nll,
    half_squared_error,
    logistic_mixture_mean,
    logistic_mixture_nll,
    logistic_mixture_sample,
    logistic_mixture_width,
)
from jaxae.losses.schedules import linear_warmup

__all__ = [
    "BoundCarry",
    "GanLoss",
    "Likelihood",
    "bernoulli_nll",
    "bits_per_dim",
    "capacity_penalty",
    "categorical_nll",
    "constrained_poisson_nll",
    "empty_bound",
    "extend_bound",
    "feature_matching",
    "finish_bound",
    "free_bits",
    "free_bits_per_example",
    "gan_loss",
    "gaussian_log_prob",
    "gaussian_nll",
    "gradient_penalty",
    "group_weights",
    "half_squared_error",
    "importance_weighted_bound",
    "kl_balance",
    "kl_diagonal_gaussians",
    "kl_diagonal_gaussians_per_dimension",
    "kl_mixture_upper_bound",
    "kl_monte_carlo",
    "kl_to_standard_normal",
    "kl_to_standard_normal_per_dimension",
    "kl_unit_gaussian_to_gaussian",
    "kl_unit_gaussian_to_mixture",
    "kl_unit_gaussian_to_mixture_sampled",
    "likelihood",
    "linear_warmup",
    "logistic_mixture_mean",
    "logistic_mixture_nll",
    "logistic_mixture_sample",
    "logistic_mixture_width",
    "mean_squared_gradient_norm",
    "mixture_log_prob",
    "multinomial_nll",
    "order_credit",
    "r1_penalty",
    "squared_gradient_norms",
    "words_nll",
]
