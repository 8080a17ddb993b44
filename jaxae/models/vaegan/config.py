"""The settings of VAE/GAN."""

import dataclasses
from typing import Annotated, Literal

from jaxae import nets
from jaxae.fields import (
    Checked,
    Decay,
    InnerShare,
    Positive,
    Range,
    Rate,
    Share,
    Size,
    StepsOrZero,
    Weight,
)
from jaxae.models.shared.discriminators import refuse_batch_slopes


@dataclasses.dataclass(frozen=True)
class Config(Checked):
    """Every field is a flag of the command line; the line below a field is its help text."""

    variant: Literal["vaegan", "vae", "vae_dis_l", "gan"] = "vaegan"
    """vae: pixel error, no discriminator; vae_dis_l: error in the discriminator of a GAN that
    trains by itself; gan: decoder and discriminator only"""
    conditional: bool = False
    """all networks are told the label (in training where it may be seen)"""
    latent: Size = 16
    """size Z of the code"""
    network: Literal["mlp", "conv"] = "mlp"
    """dense or convolutional networks"""
    widths: tuple[Size, ...] = (256, 256)
    """hidden layers of each of the dense networks (the decoder's in reverse)"""
    enc_channels: tuple[Size, ...] = (64, 128, 256)
    """channels of the encoder's convolutions, each of which halves the image"""
    dec_channels: tuple[Size, ...] = (256, 128, 32)
    """channels after each of the decoder's up-samplings"""
    dis_channels: tuple[Size, ...] = (32, 128, 256, 256)
    """channels of the discriminator's convolutions; the first keeps the image's size"""
    enc_dense: Size = 1024
    """width of the convolutional encoder's dense layer (code; the paper's 2048 is recalled)"""
    dis_dense: Size = 512
    """width of the convolutional discriminator's dense layer"""
    activation: str = "relu"
    """relu, tanh, gelu, silu, elu, leaky_relu, leaky_relu_0.2 or sigmoid"""
    encoder_norm: Literal["none", "batch", "layer"] = "batch"
    """normalisation of the encoder's hidden layers: over the batch, or over each layer"""
    generator_norm: Literal["none", "batch", "layer"] = "batch"
    """the same for the decoder, which is the generator"""
    discriminator_norm: nets.Norm = "batch"
    """the same for the discriminator; spectral: its weights are divided by their largest singular
    values"""
    output: Literal["sigmoid", "linear"] = "sigmoid"
    """what the decoder's last layer passes through: sigmoid for pixels in [0, 1]"""
    layer: Annotated[int, Range(-1, 65_536)] = -1
    """l, the discriminator's layer in which errors are measured: counts its convolutions, or the
    hidden layers of a dense one, from 1; -1: the last; 0: the pixels"""
    scale: Positive = 1.0
    """standard deviation of the likelihood of Dis_l (paper: 1)"""
    gamma: Share = 1e-2
    """weight of L in the decoder's cost; L sums over features, so it is the smaller the more there
    are (official code: 1e-6 for 16,384)"""
    beside_gamma: Literal["complement", "one"] = "complement"
    """weight of the game in the decoder's cost: 1 - gamma (official code), or 1 (recalled)"""
    fakes: Literal["both", "prior", "reconstructions"] = "both"
    """what the discriminator must tell from data (gan and vae_dis_l: always prior)"""
    real_weight: InnerShare = 0.5
    """weight of data in the discriminator's cost; all fakes together have the rest"""
    game: Literal["saturating", "non_saturating"] = "saturating"
    """what the decoder pays: log(1 - D), the paper's minimax, or -log D"""
    log_floor: Weight = 0.0
    """added to probabilities inside the game's logarithms (official code: 1e-3), which takes the
    gradient from where a cost is largest; 0: exact, from logits"""
    r1: Weight = 0.0
    """weight gamma of |grad T|^2 / 2 at data, in the discriminator's cost (0: off)"""
    average: Decay = 0.0
    """what the moving averages of encoder and decoder keep of themselves at a step; codes, samples
    and evaluation read them (0: the networks themselves)"""
    gate: bool = False
    """skip the player that is ahead (official code): the discriminator where its cost for data or
    for fakes is under equilibrium - margin, the decoder where one is over equilibrium + margin"""
    gate_equilibrium: Weight = 0.68
    """nats"""
    gate_margin: Annotated[float, Range(-1_000, 1_000)] = 0.35
    """nats; where it is negative both can be ahead, and then both move"""
    gan_steps: StepsOrZero = 0
    """vae_dis_l: steps in which only its GAN trains, and after which only the VAE does (0: both
    at all times)"""
    simultaneous: bool = True
    """all players move from the same parameters; else one after the other, the encoder first"""
    learning_rate: Rate = 2e-4
    """rate of encoder and decoder at the first step"""
    dis_rate: Rate = 2e-4
    """rate of the discriminator at the first step"""
    beta1: Decay = 0.5
    """decay of Adam's first moment"""
    decay_steps: StepsOrZero = 0
    """steps in which the rates fall to their end (0: constant)"""
    optimiser: Literal["adam", "rmsprop"] = "adam"
    """adam: the rates fall along a cosine; rmsprop: decay 0.9 and rates that fall as (t/T)^0.75
    (official code), 1e-5 of each weight added to its gradient (ours is the mean over the batch,
    the official one its sum over 64 images, beside which the same 1e-5 weighs 64 times less)"""

    def __post_init__(self):
        super().__post_init__()
        if self.layer > self.layers:
            raise ValueError(
                f"layer={self.layer} is not there: take -1 (the last) or one of 0 (pixels) to "
                f"{self.layers}"
            )
        if self.variant == "vae" and self.layer > 0:
            raise ValueError(
                f"layer={self.layer}: variant=vae has no discriminator, leave layer alone or take "
                "variant=vae_dis_l"
            )
        if self.variant == "vae" and self.r1:
            raise ValueError(f"r1={self.r1}: variant=vae has no discriminator, leave r1=0")
        refuse_batch_slopes(self.discriminator_norm, r1=self.r1)
        if self.gate and not self.simultaneous:
            raise ValueError("gate judges the parameters the step began with: leave simultaneous")
        if self.gan_steps and (self.variant != "vae_dis_l" or not self.simultaneous):
            raise ValueError("gan_steps needs variant=vae_dis_l and simultaneous")
        if not len(self.enc_channels) == len(self.dec_channels) == len(self.dis_channels) - 1 > 0:
            raise ValueError(
                "enc_channels and dec_channels need one entry for each halving of the image, "
                "dis_channels one more"
            )

    @property
    def layers(self) -> int:
        """How many of the discriminator's layers errors can be measured in."""
        return len(self.dis_channels if self.network == "conv" else self.widths)

    @property
    def measured_in(self) -> int:
        """l: 0 for pixels, else a layer of the discriminator."""
        if self.variant in ("vae", "gan"):
            return 0
        return self.layers if self.layer == -1 else self.layer
