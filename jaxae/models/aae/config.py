"""The settings of the AAE."""

import dataclasses
from typing import Annotated, Literal

from jaxae import nets
from jaxae.fields import Checked, Decay, Positive, Range, Rate, Size, Steps, StepsOrZero, Weight
from jaxae.models.shared.discriminators import check_gradient_penalty

WITH_CLASSES = ("semisupervised", "clustering", "reduction")  # tasks in which y is inferred
LABELLED = ("conditioned", "supervised", "semisupervised")


@dataclasses.dataclass(frozen=True)
class Config(Checked):
    """Every field is a flag of the command line; the line below a field is its help text."""

    task: Literal[
        "plain", "conditioned", "supervised", "semisupervised", "clustering", "reduction"
    ] = "plain"
    """what the labels are used for, and what the code consists of; see the list in `model`"""
    latent: Size = 8
    """size Z of the continuous code"""
    posterior: Literal["deterministic", "gaussian", "universal"] = "deterministic"
    """z = f(x), z ~ N(m(x), s(x)^2), or z = f(x, noise)"""
    noise: Size = 16
    """size of the universal posterior's noise"""
    prior: Literal["gaussian", "mixture", "swiss_roll", "uniform"] = "gaussian"
    """prior distribution p(z), which the codes are trained to match"""
    prior_scale: Positive = 1.0
    """deviation (gaussian), half width (uniform), factor on the others"""
    clusters: Size = 16
    """number of classes K of y (clustering, reduction without labels)"""
    margin: Weight = 1.0
    """two cluster heads closer than this distance are pushed apart (reduction)"""
    reduction_labels: bool = False
    """train on labelled examples too, with one cluster head for each class (reduction)"""
    fixed_heads: Weight = 0.0
    """fix the cluster heads at the unit vectors times this factor (reduction, latent = K); 0: the
    heads are learned"""
    heads_reconstruct: bool = True
    """the reconstruction loss updates the cluster heads too (reduction)"""
    widths: tuple[Size, ...] = (256, 256)
    """hidden layers of encoder, decoder and discriminators"""
    encoder_norm: Literal["none", "batch", "layer"] = "none"
    """normalisation of the encoder's hidden layers: over the batch, or over a layer's units"""
    generator_norm: Literal["none", "batch", "layer"] = "none"
    """normalisation of the decoder's hidden layers"""
    discriminator_norm: nets.Norm = "none"
    """normalisation of the discriminators' hidden layers (batch: samples of the prior and codes are
    separate batches); spectral: their weights are divided by their largest singular values"""
    output: Literal["sigmoid", "linear"] = "sigmoid"
    """activation of the decoder's last layer: sigmoid for pixels in [0, 1]"""
    deviation: Weight = 0.0
    """standard deviation of all initial weights; 0: LeCun's initialisation"""
    image_noise: Weight = 0.0
    """standard deviation of noise added to the encoder's input in training; the target of the
    reconstruction has none"""
    image_dropout: Annotated[float, Range(0, 1, below_high=True)] = 0.0
    """fraction of the encoder's input pixels that are set to zero in training"""
    critic_noise: Weight = 0.0
    """standard deviation of noise added to the discriminators' inputs in training"""
    game: Literal["non_saturating", "saturating", "least_squares"] = "non_saturating"
    """losses of the discriminators and of the encoder against them"""
    r1: Weight = 0.0
    """weight of |grad T|^2 / 2 at samples of the prior in the discriminators' losses (0: off)"""
    average: Decay = 0.0
    """decay of the moving averages of the weights of encoder, decoder and heads, which codes,
    samples and evaluation use (0: no averages)"""
    optimiser: Literal["adam", "sgd"] = "adam"
    """sgd: momentum 0.9 (reconstruction, supervised) and 0.1 (adversarial phases), learning rates
    divided by ten at the steps in `drops`"""
    drops: tuple[Steps, ...] = ()
    """steps at which sgd divides its learning rates by ten"""
    learning_rate: Rate = 1e-3
    """learning rate of the reconstruction phase"""
    critic_rate: Rate = 5e-4
    """learning rate of the discriminators"""
    fool_rate: Rate = 5e-4
    """learning rate of the encoder's adversarial phase"""
    supervised_rate: Rate = 1e-3
    """learning rate of the supervised phase and of the cluster heads"""
    beta1: Decay = 0.5
    """decay of Adam's first moment in the adversarial phases"""
    decay_steps: StepsOrZero = 0
    """steps over which all of Adam's learning rates decay to zero along a cosine (0: constant)"""

    def __post_init__(self):
        super().__post_init__()
        if not self.widths:
            raise ValueError("widths must name at least one hidden layer")
        check_gradient_penalty(self.discriminator_norm, r1=self.r1)
        if self.drops and self.optimiser != "sgd":
            raise ValueError("drops belong to optimiser=sgd; adam has decay_steps")
        if self.decay_steps and self.optimiser != "adam":
            raise ValueError("decay_steps belong to optimiser=adam; sgd has drops")
        for field in ("fixed_heads", "reduction_labels"):
            if getattr(self, field) and self.task != "reduction":
                raise ValueError(f"{field} needs task=reduction, task is {self.task}")

    @property
    def needs_labels(self) -> bool:
        """Whether training uses labels."""
        return self.task in LABELLED or self.reduction_labels

    @property
    def reads_every_label(self) -> bool:
        """Whether training needs the label of every image, not only of some."""
        return self.task == "supervised"

    @property
    def has_supervised_phase(self) -> bool:
        """Whether a step trains the label head on a batch of labelled examples."""
        return self.task == "semisupervised" or self.reduction_labels
