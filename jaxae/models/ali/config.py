"""The settings of ALI and BiGAN."""

import dataclasses
from typing import Literal

from jaxae import nets
from jaxae.fields import Checked, Decay, Rate, Size, StepsOrZero, Weight
from jaxae.models.shared.discriminators import check_gradient_penalty

POST_HOC = ("post_hoc_regressor", "post_hoc_ali")


@dataclasses.dataclass(frozen=True)
class Config(Checked):
    """Every field is a flag of the command line; the line below a field is its help text."""

    method: Literal[
        "ali", "gan", "regressor", "joint_regressor", "post_hoc_regressor", "post_hoc_ali"
    ] = "ali"
    """ali: a GAN over pairs; else a GAN over images, with an encoder trained as `model` says"""
    task: Literal["plain", "conditional", "semisupervised"] = "plain"
    """what the labels are used for (method=ali)"""
    latent: Size = 16
    """size Z of the code"""
    prior: Literal["gaussian", "uniform"] = "uniform"
    """N(0, I) (ALI), or uniform on (-1, 1), to which the encoder's codes are squashed (BiGAN)"""
    posterior: Literal["deterministic", "gaussian", "universal"] = "deterministic"
    """z^ = f(x) (BiGAN), z^ ~ N(m(x), s(x)^2) (ALI), or z^ = f(x, noise) (ALI's 2-D experiment)"""
    noise: Size = 2
    """size of the universal posterior's noise"""
    network: Literal["bigan", "plane"] = "bigan"
    """dense networks of BiGAN for MNIST, or of ALI for 25 Gaussians in the plane (maxout
    discriminator)"""
    widths: tuple[Size, ...] = (256, 256)
    """hidden layers of the encoder, and of the other networks unless these have their own"""
    gen_widths: tuple[Size, ...] = ()
    """hidden layers of the generator; empty: as widths"""
    critic_widths: tuple[Size, ...] = ()
    """hidden layers of the discriminator; empty: as widths"""
    encoder_norm: Literal["none", "batch", "layer"] = "batch"
    """normalisation of the encoder's hidden layers: over the batch, or over a layer's units"""
    generator_norm: Literal["none", "batch", "layer"] = "batch"
    """normalisation of the generator's hidden layers"""
    discriminator_norm: Literal["published", "none", "batch", "spectral", "layer"] = "published"
    """normalisation of the discriminators' hidden layers; published: batch (network=bigan), none
    (plane); spectral: their weights are divided by their largest singular values"""
    embedding: Size = 16
    """size of a label's embedding (conditional)"""
    freeze_embedding: bool = False
    """do not train the embedding (the official code does not)"""
    output: Literal["sigmoid", "linear"] = "sigmoid"
    """activation of the generator's last layer: sigmoid for pixels in [0, 1]"""
    deviation: Weight = 0.02
    """standard deviation of all initial weights; 0: LeCun's initialisation"""
    zero_start: bool = False
    """initialise the weights of the discriminator's last layer with zeros (BiGAN's code)"""
    together: bool = False
    """give the discriminator both kinds of pairs as one batch (ALI's code), not as two"""
    game: Literal["non_saturating", "saturating"] = "non_saturating"
    """loss of encoder and generator: the discriminator's with swapped labels, or minus that loss"""
    r1: Weight = 0.0
    """weight of |grad_x T|^2 / 2 at the encoder's pairs in the discriminators' losses (0: off)"""
    average: Decay = 0.0
    """decay of the moving averages of the weights of encoder and generator, which codes, samples
    and evaluation use (0: no averages)"""
    halved: bool = False
    """average the two terms of each player's loss (BiGAN's code) instead of summing them (ALI's)"""
    feature_matching: bool = False
    """encoder and generator match the mean of the discriminator's last hidden layer between the two
    kinds of pairs, instead of the loss of `game`"""
    simultaneous: bool = True
    """update all players from the same parameters; else one after the other (ali: the
    discriminator first)"""
    regression_weight: Weight = 0.25
    """weight of the regressor's loss in the generator's loss (joint_regressor)"""
    gan_steps: StepsOrZero = 0
    """steps that train the GAN, after which it is frozen and the encoder trained (post_hoc_...)"""
    critic_rate: Rate = 2e-4
    """learning rate of the discriminators"""
    learning_rate: Rate = 2e-4
    """learning rate of encoder and generator"""
    beta1: Decay = 0.5
    """decay of Adam's first moment, for all players"""
    decay_steps: StepsOrZero = 0
    """steps over which the learning rates decay (0: constant)"""
    optimiser: Literal["adam", "bigan"] = "adam"
    """adam: rates decay to zero along a cosine; bigan: weight decay 2.5e-5 in the gradient, and
    rates that are constant for half of decay_steps, then decay exponentially to a hundredth"""

    def __post_init__(self):
        super().__post_init__()
        if not self.widths:
            raise ValueError("widths must name at least one hidden layer")
        if self.network == "bigan" and len(self.critic_widths or self.widths) < 2:
            raise ValueError(
                "network=bigan feeds z into the discriminator's second hidden layer: give "
                "critic_widths (or widths) at least two entries"
            )
        check_gradient_penalty(self.critic_norm, r1=self.r1)
        if self.zero_start and self.critic_norm == "spectral":
            raise ValueError(
                "zero_start and discriminator_norm=spectral exclude each other: zero weights have "
                "singular values of zero"
            )
        if self.prior == "uniform" and self.posterior == "gaussian":
            raise ValueError(
                "posterior=gaussian gives codes outside the interval of prior=uniform: take "
                "prior=gaussian"
            )
        for field, default in (("task", "plain"), ("feature_matching", False)):
            if getattr(self, field) != default and self.method != "ali":
                raise ValueError(f"{field}={getattr(self, field)} needs method=ali")
        if self.feature_matching and self.game == "saturating":
            raise ValueError("feature_matching replaces the generator's loss: leave game alone")
        if self.freeze_embedding and self.task != "conditional":
            raise ValueError("freeze_embedding needs task=conditional")
        if (self.method in POST_HOC) != (self.gan_steps > 0):
            raise ValueError(
                f"gan_steps={self.gan_steps}: method={self.method} "
                + ("needs the number of steps that train its GAN, at least 1"
                   if self.method in POST_HOC else "never freezes its GAN: leave it at 0")
            )  # fmt: skip
        if self.optimiser == "bigan" and not self.decay_steps:
            raise ValueError("optimiser=bigan needs decay_steps, the length of its schedule")

    @property
    def critic_norm(self) -> nets.Norm:
        """The discriminators' normalisation, with `published` resolved."""
        if self.discriminator_norm != "published":
            return self.discriminator_norm
        return "none" if self.network == "plane" else "batch"

    @property
    def reads_every_label(self) -> bool:
        """Whether training needs the label of every image, not only of some."""
        return self.task == "conditional"
