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
    """what the global code is"""
    flipped: bool = False
    """start from codes instead of images (FIAE; plain, clustering)"""
    latent: Size = 10
    """size Z of the global code (plain)"""
    local: SizeOrZero = 16
    """size N of the decoder's noise, the local code; 0: a deterministic decoder"""
    local_start: StepsOrZero = 0
    """steps in which the decoder has no noise, so that z is relied on first"""
    local_warmup: StepsOrZero = 0
    """steps after these in which its noise grows to full size"""
    noise: SizeOrZero = 0
    """size of the encoder's noise; 0: a deterministic encoder"""
    prior: Literal["gaussian", "mixture", "swiss_roll", "uniform"] = "gaussian"
    """distribution that the codes shall have (plain)"""
    prior_scale: Positive = 1.0
    """deviation (gaussian), half width (uniform), factor on the others"""
    clusters: Annotated[int, Range(2, 65_536)] = 10
    """classes K of y (clustering)"""
    domain: Literal["inverted", "rotated", "coarse"] = "coarse"
    """the other domain, made of every second image of a batch (translation): black for white, a
    quarter turn to the left, or means of 2x2 pixels"""
    recon_gan: Literal["ns_both", "ml", "ns_pos", "ns_neg", "js", "rkl"] = "ns_both"
    """what decoder and encoder pay in the reconstruction game"""
    code_weight: Weight = 1.0
    """weight of the other game (codes against their prior) in what the encoder pays"""
    r1: Weight = 0.3
    """weight gamma of |grad T|^2 / 2 at positive pairs, by the half that is remade (0: off)"""
    code_r1: Weight = 0.0
    """the same weight for the critic of codes, at draws of the prior"""
    network: Literal["mlp", "conv"] = "mlp"
    """dense or convolutional networks for images; codes are always judged by a dense one"""
    widths: tuple[Size, ...] = (256, 256)
    """hidden layers of the dense networks"""
    conv_width: Size = 32
    """channels of the first convolution, doubled at each halving of the image"""
    code_scale: Positive = 1.0
    """factor on the code where the pair critic sees it (kaiu85's reimplementation: 0.1)"""
    output: Literal["sigmoid", "linear"] = "sigmoid"
    """what the decoder's last layer passes through: sigmoid for pixels in [0, 1]"""
    deviation: Weight = 0.0
    """of the normal distribution from which dense weights start; 0: LeCun's choice"""
    average: Decay = 0.999
    """what the moving averages of encoder and decoder keep of themselves at a step; evaluation
    reads them (0: the networks themselves)"""
    simultaneous: bool = False
    """all players move from the same parameters; else in turn, the critics first"""
    learning_rate: Rate = 1e-4
    """rate of encoder and decoder at the first step"""
    critic_rate: Rate = 2e-4
    """rate of the critics at the first step"""
    supervised_rate: Rate = 1e-4
    """rate of the supervised phase at the first step"""
    beta1: Decay = 0.5
    """decay of Adam's first moment, for all"""
    decay_steps: StepsOrZero = 0
    """steps in which all rates fall to zero along a cosine (0: constant)"""

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
        """Whether training reads the label of each image, so that there cannot be a few only."""
        return self.task == "given"
