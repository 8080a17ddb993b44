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
    """hidden layers of the dense encoder; the dense generator has them in reverse order"""
    conv_width: Size = 8
    """channels of StyleALAE at full resolution, doubled at each halving"""
    conv_most: Size = 64
    """maximum number of channels of StyleALAE"""
    last_gain: Positive = 1.0
    """gain of StyleALAE's last layer, which scales its effective learning rate (official code:
    0.03, for long training)"""
    norm_floor: Positive = 1e-8
    """epsilon added to the variances in StyleALAE's normalisations"""
    map_layers: Depth = 6
    """number of layers of F"""
    critic_layers: Depth = 3
    """number of layers of D"""
    d_activation: Literal["none", "leaky_relu"] = "none"
    """activation between D's layers; the published numbers are of none, which the author calls an
    error"""
    slope: Share = 0.2
    """negative slope of the leaky ReLU in the dense generator and after the dense encoder"""
    output: Literal["sigmoid", "linear"] = "sigmoid"
    """activation of the generator's last layer; the official code has none (linear)"""
    centred: bool = False
    """the networks have pixels in [-1, 1] instead of [0, 1] as input and output; R1's gradient is
    with respect to these"""
    reciprocity: Literal["w", "z"] = "w"
    """what the encoder recovers from a generated image: w, or z (an ablation)"""
    separate: bool = False
    """the discriminator has an encoder of its own, `eye` (an ablation)"""
    update_f_in_reciprocity: bool = True
    """the reciprocity loss updates F too, through G's input (official code); false: the published
    algorithm"""
    style_mixing: Share = 0.9
    """probability that the fine styles of an image come from another z (style)"""
    truncation: Weight = 1.0
    """psi: samples use mean + psi (w - mean) for the first 8 styles; 1: w itself"""
    r1: Weight = 10.0
    """weight of |grad_x D(E(x))|^2 / 2 at data in the critic's loss"""
    half_life: StepsOrZero = 10_000
    """half-life of the moving averages of the weights, in images (0: no averages)"""
    learning_rate: Rate = 2e-3
    """learning rate of the generator loss, F and G (Adam)"""
    critic_rate: Rate = 2e-3
    """learning rate of the critic loss, E and D (Adam)"""
    reciprocity_rate: Rate = 2e-3
    """learning rate of the reciprocity loss (Adam)"""
    moments: Literal["shared", "apart"] = "shared"
    """shared: one set of Adam's moments for each network, used by all losses (official code);
    apart: one set for each loss"""
    beta1: Decay = 0.0
    """decay of Adam's first moment (moments=shared: 0)"""
    beta2: Decay = 0.99
    """decay of Adam's second moment"""
    decay_steps: StepsOrZero = 0
    """steps over which all learning rates decay to zero along a cosine (0: constant)"""

    def __post_init__(self):
        super().__post_init__()
        if not self.widths:
            raise ValueError("widths must name at least one hidden layer")
        if self.beta1 and self.moments == "shared":
            raise ValueError(
                f"beta1={self.beta1}: with moments=shared the momentum of D would update it at the "
                "reciprocity loss, which has no gradient for it: take beta1=0 or moments=apart"
            )
        if self.truncation != 1 and self.reciprocity == "z":
            raise ValueError(
                "truncation applies to w, but with reciprocity=z the code is z: leave truncation=1"
            )
