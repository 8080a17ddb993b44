"""The settings of the AAE."""

import dataclasses
from typing import Annotated, Literal

from jaxae import nets
from jaxae.fields import Checked, Decay, Positive, Range, Rate, Size, Steps, StepsOrZero, Weight
from jaxae.models.shared.discriminators import refuse_batch_slopes

LABELLED = ("conditioned", "supervised", "semisupervised")


@dataclasses.dataclass(frozen=True)
class Config(Checked):
    """Every field is a flag of the command line; the line below a field is its help text."""

    task: Literal[
        "plain", "conditioned", "supervised", "semisupervised", "clustering", "reduction"
    ] = "plain"
    """what the labels are used for, and what the code consists of"""
    latent: Size = 8
    """size Z of the continuous code"""
    posterior: Literal["deterministic", "gaussian", "universal"] = "deterministic"
    """z = f(x), z ~ N(m(x), s(x)^2), or z = f(x, noise)"""
    noise: Size = 16
    """size of the universal posterior's noise"""
    prior: Literal["gaussian", "mixture", "swiss_roll", "uniform"] = "gaussian"
    """distribution that the codes shall have"""
    prior_scale: Positive = 1.0
    """deviation (gaussian), half width (uniform), factor on the others"""
    clusters: Size = 16
    """classes K of y (clustering, reduction without labels)"""
    margin: Weight = 1.0
    """distance under which two cluster heads repel each other (reduction)"""
    reduction_labels: bool = False
    """reduction learns from labelled examples too, with a head for each class"""
    fixed_heads: Weight = 0.0
    """cluster heads fixed at so many times the unit vectors (reduction, latent = K); 0: learned"""
    heads_reconstruct: bool = True
    """the reconstruction moves the cluster heads too (reduction)"""
    widths: tuple[Size, ...] = (256, 256)
    """hidden layers of encoder, decoder and discriminators"""
    encoder_norm: Literal["none", "batch", "layer"] = "none"
    """normalisation of the encoder's hidden layers: over the batch, or over each layer"""
    generator_norm: Literal["none", "batch", "layer"] = "none"
    """the same for the decoder, which generates images"""
    discriminator_norm: nets.Norm = "none"
    """the same for the discriminators, which judge the prior's codes and the encoder's apart;
    spectral: their weights are divided by their largest singular values"""
    output: Literal["sigmoid", "linear"] = "sigmoid"
    """what the decoder's last layer passes through: sigmoid for pixels in [0, 1]"""
    deviation: Weight = 0.0
    """of the normal distribution from which all weights start; 0: LeCun's choice"""
    image_noise: Weight = 0.0
    """deviation of noise on the encoder's input in training; what is reconstructed stays clean"""
    image_dropout: Annotated[float, Range(0, 1, below_high=True)] = 0.0
    """share of the encoder's input pixels that are zeroed in training"""
    critic_noise: Weight = 0.0
    """deviation of noise on whatever a discriminator sees in training"""
    game: Literal["non_saturating", "saturating", "least_squares"] = "non_saturating"
    """the adversaries' costs"""
    r1: Weight = 0.0
    """weight gamma of |grad T|^2 / 2 at the prior's draws, in the discriminators' costs (0: off)"""
    average: Decay = 0.0
    """what the moving averages of encoder, decoder and heads keep of themselves at a step; codes,
    samples and evaluation read them (0: the networks themselves)"""
    optimiser: Literal["adam", "sgd"] = "adam"
    """sgd: momentum 0.9 (reconstruction, supervised) and 0.1 (adversaries), rates divided by ten
    at the steps of `drops`"""
    drops: tuple[Steps, ...] = ()
    """steps at which sgd divides its rates by ten"""
    learning_rate: Rate = 1e-3
    """rate of the reconstruction"""
    critic_rate: Rate = 5e-4
    """rate of the discriminators"""
    fool_rate: Rate = 5e-4
    """rate of the encoder against the discriminators"""
    supervised_rate: Rate = 1e-3
    """rate of the supervised phase, and of the heads'"""
    beta1: Decay = 0.5
    """decay of Adam's first moment in the adversarial phases"""
    decay_steps: StepsOrZero = 0
    """steps in which all of Adam's rates fall to zero along a cosine (0: constant)"""

    def __post_init__(self):
        super().__post_init__()
        if not self.widths:
            raise ValueError("widths must name at least one hidden layer")
        refuse_batch_slopes(self.discriminator_norm, r1=self.r1)
        if self.drops and self.optimiser != "sgd":
            raise ValueError("drops belong to optimiser=sgd; adam has decay_steps")
        if self.decay_steps and self.optimiser != "adam":
            raise ValueError("decay_steps belong to optimiser=adam; sgd has drops")
        for field in ("fixed_heads", "reduction_labels"):
            if getattr(self, field) and self.task != "reduction":
                raise ValueError(f"{field} needs task=reduction, task is {self.task}")

    @property
    def needs_labels(self) -> bool:
        """Whether training reads labels."""
        return self.task in LABELLED or self.reduction_labels

    @property
    def reads_every_label(self) -> bool:
        """Whether training reads the label of each image, so that there cannot be a few only."""
        return self.task == "supervised"

    @property
    def has_supervised_phase(self) -> bool:
        """Whether labelled examples beside each batch are classified."""
        return self.task == "semisupervised" or self.reduction_labels
