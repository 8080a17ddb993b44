"""The settings of ALI and BiGAN."""

import dataclasses
from typing import Literal

from jaxae import nets
from jaxae.fields import Checked, Decay, Rate, Size, StepsOrZero, Weight
from jaxae.models.shared.discriminators import refuse_batch_slopes

POST_HOC = ("post_hoc_regressor", "post_hoc_ali")


@dataclasses.dataclass(frozen=True)
class Config(Checked):
    """Every field is a flag of the command line; the line below a field is its help text."""

    method: Literal[
        "ali", "gan", "regressor", "joint_regressor", "post_hoc_regressor", "post_hoc_ali"
    ] = "ali"
    """the game of pairs, or a GAN with another way (or none) to an encoder"""
    task: Literal["plain", "conditional", "semisupervised"] = "plain"
    """what the labels are used for (method=ali)"""
    latent: Size = 16
    """size Z of the code"""
    prior: Literal["gaussian", "uniform"] = "uniform"
    """N(0, I) (ALI), or uniform on (-1, 1) with codes squashed to it (BiGAN)"""
    posterior: Literal["deterministic", "gaussian", "universal"] = "deterministic"
    """z^ = f(x) (BiGAN), z^ ~ N(m(x), s(x)^2) (ALI), or z^ = f(x, noise) (ALI in the plane)"""
    noise: Size = 2
    """size of the universal posterior's noise"""
    network: Literal["bigan", "plane"] = "bigan"
    """the dense networks of BiGAN's MNIST, or those of ALI's 25 Gaussians (maxout discriminator)"""
    widths: tuple[Size, ...] = (256, 256)
    """hidden layers of the encoder, and of the others where they have none of their own"""
    gen_widths: tuple[Size, ...] = ()
    """hidden layers of the generator; none: as widths"""
    critic_widths: tuple[Size, ...] = ()
    """hidden layers of the discriminator; none: as widths"""
    encoder_norm: Literal["none", "batch", "layer"] = "batch"
    """normalisation of the encoder's hidden layers: over the batch, or over each layer"""
    generator_norm: Literal["none", "batch", "layer"] = "batch"
    """the same for the generator"""
    discriminator_norm: Literal["published", "none", "batch", "spectral", "layer"] = "published"
    """the same for the discriminators; published: batch (network=bigan), none (plane); spectral:
    their weights are divided by their largest singular values"""
    embedding: Size = 16
    """size of a label's embedding (conditional)"""
    freeze_embedding: bool = False
    """the embedding keeps its initial value (the official code's, where no player owns it)"""
    output: Literal["sigmoid", "linear"] = "sigmoid"
    """what the generator's last layer passes through: sigmoid for pixels in [0, 1]"""
    deviation: Weight = 0.02
    """of the normal distribution from which all weights start; 0: LeCun's choice"""
    zero_start: bool = False
    """the discriminator's last layer starts at zero (BiGAN's code)"""
    together: bool = False
    """the discriminator normalises both kinds of pairs as one batch (ALI's code), not apart"""
    game: Literal["non_saturating", "saturating"] = "non_saturating"
    """the generator's cost: with swapped labels, or minus the discriminator's"""
    r1: Weight = 0.0
    """weight gamma of |grad_x T|^2 / 2 at data, by x alone, in the discriminators' cost (0: off)"""
    average: Decay = 0.0
    """what the moving averages of encoder and generator keep of themselves at a step; codes,
    samples and evaluation read them (0: the networks themselves)"""
    halved: bool = False
    """both players' two terms are averaged (BiGAN's code), not summed (ALI's)"""
    feature_matching: bool = False
    """encoder and generator match the means of the discriminator's last hidden layer instead"""
    simultaneous: bool = True
    """both players move from the same parameters; else the discriminator moves first"""
    regression_weight: Weight = 0.25
    """share of the regressor's error that the generator pays (joint_regressor)"""
    gan_steps: StepsOrZero = 0
    """steps of the GAN, before it freezes and the encoder learns (post_hoc_...)"""
    critic_rate: Rate = 2e-4
    """rate of the discriminators"""
    learning_rate: Rate = 2e-4
    """rate of encoder and generator"""
    beta1: Decay = 0.5
    """decay of Adam's first moment, for all"""
    decay_steps: StepsOrZero = 0
    """steps in which the rates fall (0: constant)"""
    optimiser: Literal["adam", "bigan"] = "adam"
    """adam: rates fall to zero along a cosine; bigan: weight decay 2.5e-5 in the gradient, and
    rates that are constant for half of decay_steps, then fall exponentially to a hundredth"""

    def __post_init__(self):
        super().__post_init__()
        if not self.widths:
            raise ValueError("widths must name at least one hidden layer")
        if self.network == "bigan" and len(self.critic_widths or self.widths) < 2:
            raise ValueError(
                "network=bigan shows z to the discriminator's second hidden layer: give "
                "critic_widths (or widths) at least two"
            )
        refuse_batch_slopes(self.critic_norm, r1=self.r1)
        if self.zero_start and self.critic_norm == "spectral":
            raise ValueError(
                "zero_start leaves discriminator_norm=spectral nothing to measure: choose one"
            )
        if self.prior == "uniform" and self.posterior == "gaussian":
            raise ValueError(
                "posterior=gaussian leaves the interval of prior=uniform: take prior=gaussian"
            )
        for field, default in (("task", "plain"), ("feature_matching", False)):
            if getattr(self, field) != default and self.method != "ali":
                raise ValueError(f"{field}={getattr(self, field)} needs method=ali")
        if self.feature_matching and self.game == "saturating":
            raise ValueError("feature_matching replaces the generator's cost: leave game alone")
        if self.freeze_embedding and self.task != "conditional":
            raise ValueError("freeze_embedding needs task=conditional")
        if (self.method in POST_HOC) != (self.gan_steps > 0):
            raise ValueError(
                f"gan_steps={self.gan_steps}: method={self.method} "
                + ("needs the number of steps after which its GAN freezes, at least 1"
                   if self.method in POST_HOC else "never freezes its GAN, leave it at 0")
            )  # fmt: skip
        if self.optimiser == "bigan" and not self.decay_steps:
            raise ValueError("optimiser=bigan needs decay_steps, the length of its schedule")

    @property
    def critic_norm(self) -> nets.Norm:
        """The discriminators' normalisation, whatever `published` means."""
        if self.discriminator_norm != "published":
            return self.discriminator_norm
        return "none" if self.network == "plane" else "batch"

    @property
    def reads_every_label(self) -> bool:
        """Whether training reads the label of each image, so that there cannot be a few only."""
        return self.task == "conditional"
