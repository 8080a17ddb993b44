"""The settings of ALAE."""

import dataclasses
from typing import Literal

from jaxae.fields import Checked, Decay, Depth, Positive, Rate, Share, Size, StepsOrZero, Weight


@dataclasses.dataclass(frozen=True)
class Config(Checked):
    """Every field is a flag of the command line; the line below a field is its help text."""

    network: Literal["mlp", "style"] = "mlp"
    """dense networks, or StyleALAE's (square images, side a power of two)"""
    latent: Size = 16
    """size Z of z and of w"""
    widths: tuple[Size, ...] = (256, 256)
    """hidden layers of the dense encoder; the dense generator mirrors them"""
    conv_width: Size = 8
    """channels of StyleALAE at the full side, doubled at each halving"""
    conv_most: Size = 64
    """channels of StyleALAE at most"""
    last_gain: Positive = 1.0
    """gain, and so pace, of StyleALAE's last layer (official code: 0.03, for long training)"""
    norm_floor: Positive = 1e-8
    """added to the variances that StyleALAE's normalisations divide by"""
    map_layers: Depth = 6
    """layers of F"""
    critic_layers: Depth = 3
    """layers of D"""
    d_activation: Literal["none", "leaky_relu"] = "none"
    """between D's layers; the published numbers are of none, which its author calls an error"""
    slope: Share = 0.2
    """of the rectifiers in the dense generator and at the dense encoder's end"""
    output: Literal["sigmoid", "linear"] = "sigmoid"
    """what the generator's last layer passes through; the official code has nothing there"""
    centred: bool = False
    """networks see pixels in [-1, 1], not [0, 1]; the penalty's slope is that of what they see"""
    reciprocity: Literal["w", "z"] = "w"
    """what the encoder finds again in a generated image: w, or z (an ablation)"""
    separate: bool = False
    """the discriminator has an encoder of its own (an ablation)"""
    update_f_in_reciprocity: bool = True
    """reciprocity moves F too, through G's input (official code); false: the published algorithm"""
    style_mixing: Share = 0.9
    """probability that an image's later styles come from another z (style)"""
    truncation: Weight = 1.0
    """psi: samples have mean + psi (w - mean) at the first 8 styles; 1: w itself"""
    r1: Weight = 10.0
    """weight gamma of |grad D(E(x))|^2 / 2 at data"""
    half_life: StepsOrZero = 10_000
    """images after which the moving averages keep half of what they were (0: no averages)"""
    learning_rate: Rate = 2e-3
    """Adam's rate for F and G"""
    critic_rate: Rate = 2e-3
    """Adam's rate for E and D"""
    reciprocity_rate: Rate = 2e-3
    """Adam's rate for reciprocity"""
    moments: Literal["shared", "apart"] = "shared"
    """Adam's moments are each network's, whichever turn moves it (official code), or each turn's"""
    beta1: Decay = 0.0
    """decay of Adam's first moment, for all (moments=shared: 0)"""
    beta2: Decay = 0.99
    """decay of Adam's second moment, for all"""
    decay_steps: StepsOrZero = 0
    """steps in which all rates fall to zero along a cosine (0: constant)"""

    def __post_init__(self):
        super().__post_init__()
        if not self.widths:
            raise ValueError("widths must name at least one hidden layer")
        if self.beta1 and self.moments == "shared":
            raise ValueError(
                f"beta1={self.beta1}: with moments=shared the momentum of D would move it in "
                "reciprocity, which has no gradient for it: take beta1=0 or moments=apart"
            )
        if self.truncation != 1 and self.reciprocity == "z":
            raise ValueError(
                "truncation pulls w to its mean, but reciprocity=z decodes z: leave truncation=1"
            )
