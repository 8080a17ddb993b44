"""The settings of the IAE."""

import dataclasses
from typing import Annotated, Literal

from jaxae.fields import (
    Checked,
    Decay,
    Positive,
    Range,
    Rate,
    Size,
    SizeOrZero,
    StepsOrZero,
    Weight,
)


@dataclasses.dataclass(frozen=True)
class Config(Checked):
    """Every field is a flag of the command line; the line below a field is its help text."""

    task: Literal["plain", "clustering", "semisupervised", "given", "translation"] = "plain"
    """what the global code z is; see the list in `model`"""
    flipped: bool = False
    """flipped IAE: start from codes instead of images (plain, clustering)"""
    latent: Size = 10
    """size Z of the global code (plain)"""
    local: SizeOrZero = 16
    """size N of the decoder's noise, the local code; 0: a deterministic decoder"""
    local_start: StepsOrZero = 0
    """steps at the start in which the decoder has no noise, so that it learns to use z"""
    local_warmup: StepsOrZero = 0
    """steps after these in which the noise grows linearly to its full size"""
    noise: SizeOrZero = 0
    """size of the encoder's noise; 0: a deterministic encoder"""
    prior: Literal["gaussian", "mixture", "swiss_roll", "uniform"] = "gaussian"
    """prior distribution p(z), which the codes are trained to match (plain)"""
    prior_scale: Positive = 1.0
    """deviation (gaussian), half width (uniform), factor on the others"""
    clusters: Annotated[int, Range(2, 65_536)] = 10
    """number of classes K of y (clustering)"""
    domain: Literal["inverted", "rotated", "coarse"] = "coarse"
    """the other domain, into which every second image of a batch is transformed (translation):
    inverted brightness, a quarter turn to the left, or means of 2x2 pixels"""
    recon_gan: Literal["ns_both", "ml", "ns_pos", "ns_neg", "js", "rkl"] = "ns_both"
    """losses of decoder and encoder in the reconstruction GAN; see `adversarial_losses`"""
    code_weight: Weight = 1.0
    """weight of the other GAN (codes and their prior) in the encoder's loss"""
    r1: Weight = 0.3
    """weight of |grad T|^2 / 2 at real pairs in the pair critic's loss, with respect to the half
    that is reconstructed; flipped: and in the image critic's loss, at data (0: off)"""
    code_r1: Weight = 0.0
    """weight of |grad S|^2 / 2 at samples of the prior in the code critic's loss (0: off)"""
    network: Literal["mlp", "conv"] = "mlp"
    """dense or convolutional networks for images; the code critic is always dense"""
    widths: tuple[Size, ...] = (256, 256)
    """hidden layers of the dense networks"""
    conv_width: Size = 32
    """channels of the first convolution, doubled at each halving of the image"""
    code_scale: Positive = 1.0
    """factor on the code in the pair critic's input (kaiu85's reimplementation: 0.1)"""
    output: Literal["sigmoid", "linear"] = "sigmoid"
    """activation of the decoder's last layer: sigmoid for pixels in [0, 1]"""
    deviation: Weight = 0.0
    """standard deviation of the initial weights of dense networks; 0: LeCun's initialisation"""
    average: Decay = 0.999
    """decay of the moving averages of the weights of encoder and decoder, which evaluation uses (0:
    no averages)"""
    simultaneous: bool = False
    """update all players from the same parameters; else one after the other, the critics first"""
    learning_rate: Rate = 1e-4
    """initial learning rate of encoder and decoder"""
    critic_rate: Rate = 2e-4
    """initial learning rate of the critics"""
    supervised_rate: Rate = 1e-4
    """initial learning rate of the supervised phase"""
    beta1: Decay = 0.5
    """decay of Adam's first moment, for all players"""
    decay_steps: StepsOrZero = 0
    """steps over which all learning rates decay to zero along a cosine (0: constant)"""

    def __post_init__(self):
        super().__post_init__()
        if not self.widths:
            raise ValueError("widths must name at least one hidden layer")
        if self.flipped and self.task not in ("plain", "clustering"):
            raise ValueError(f"flipped needs task=plain or task=clustering, task is {self.task}")
        if self.task == "given" and self.noise:
            raise ValueError("task=given has no encoder: leave noise=0")
        if self.task == "translation":
            if self.network != "mlp":
                raise ValueError("task=translation has dense networks only: take network=mlp")
            if self.output != "sigmoid":
                raise ValueError("task=translation needs pixels in [0, 1]: take output=sigmoid")

    @property
    def reads_every_label(self) -> bool:
        """Whether training needs the label of every image, not only of some."""
        return self.task == "given"
