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
from jaxae.models.shared.discriminators import check_gradient_penalty


@dataclasses.dataclass(frozen=True)
class Config(Checked):
    """Every field is a flag of the command line; the line below a field is its help text."""

    variant: Literal["vaegan", "vae", "vae_dis_l", "gan"] = "vaegan"
    """vae: error of pixels, no discriminator; vae_dis_l: error of the features of a discriminator
    whose GAN is trained separately; gan: decoder and discriminator only"""
    conditional: bool = False
    """all networks have the label as an input (in training only that of labelled images)"""
    latent: Size = 16
    """size Z of the code"""
    network: Literal["mlp", "conv"] = "mlp"
    """dense or convolutional networks"""
    widths: tuple[Size, ...] = (256, 256)
    """hidden layers of each of the dense networks (in reverse order in the decoder)"""
    enc_channels: tuple[Size, ...] = (64, 128, 256)
    """channels of the encoder's convolutions, each of which halves the image"""
    dec_channels: tuple[Size, ...] = (256, 128, 32)
    """channels after each of the decoder's upsamplings"""
    dis_channels: tuple[Size, ...] = (32, 128, 256, 256)
    """channels of the discriminator's convolutions; the first has stride 1, the others 2"""
    enc_dense: Size = 1024
    """width of the convolutional encoder's dense layer (official code; 2048 in the paper, from
    memory)"""
    dis_dense: Size = 512
    """width of the convolutional discriminator's dense layer"""
    activation: str = "relu"
    """relu, tanh, gelu, silu, elu, leaky_relu, leaky_relu_0.2 or sigmoid"""
    encoder_norm: Literal["none", "batch", "layer"] = "batch"
    """normalisation of the encoder's hidden layers: over the batch, or over a layer's units"""
    generator_norm: Literal["none", "batch", "layer"] = "batch"
    """normalisation of the hidden layers of the decoder, which is the generator"""
    discriminator_norm: nets.Norm = "batch"
    """normalisation of the discriminator's hidden layers; spectral: its weights are divided by
    their largest singular values"""
    output: Literal["sigmoid", "linear"] = "sigmoid"
    """activation of the decoder's last layer: sigmoid for pixels in [0, 1]"""
    layer: Annotated[int, Range(-1, 65_536)] = -1
    """l, the discriminator's layer whose features are compared: its convolutions, or the hidden
    layers of a dense one, counted from 1; -1: the last; 0: compare pixels"""
    scale: Positive = 1.0
    """standard deviation of the Gaussian likelihood of Dis_l(x) (paper: 1)"""
    gamma: Share = 1e-2
    """weight of L in the decoder's loss; L is a sum over features, so with more features take a
    smaller weight (official code: 1e-6 for 16,384)"""
    beside_gamma: Literal["complement", "one"] = "complement"
    """weight of the adversarial term in the decoder's loss: 1 - gamma (official code), or 1 (the
    paper, from memory)"""
    fakes: Literal["both", "prior", "reconstructions"] = "both"
    """the discriminator's fakes: images of samples of the prior, reconstructions, or both (gan and
    vae_dis_l: always prior)"""
    real_weight: InnerShare = 0.5
    """weight of data in the discriminator's loss; all fakes together have the rest"""
    game: Literal["saturating", "non_saturating"] = "saturating"
    """adversarial loss of the decoder: log(1 - D), the paper's minimax, or -log D"""
    log_floor: Weight = 0.0
    """added to probabilities inside the logarithms of the adversarial losses (official code: 1e-3);
    the gradient then vanishes where a loss is largest; 0: exact, from logits"""
    r1: Weight = 0.0
    """weight of |grad T|^2 / 2 at data in the discriminator's loss (0: off)"""
    average: Decay = 0.0
    """decay of the moving averages of the weights of encoder and decoder, which codes, samples and
    evaluation use (0: no averages)"""
    gate: bool = False
    """skip the update of one player (official code): of the discriminator if its loss on data or on
    fakes is below equilibrium - margin, of the decoder if one is above equilibrium + margin"""
    gate_equilibrium: Weight = 0.68
    """equilibrium of the gate, in nats"""
    gate_margin: Annotated[float, Range(-1_000, 1_000)] = 0.35
    """margin of the gate, in nats; where both players would be skipped, both are updated"""
    gan_steps: StepsOrZero = 0
    """vae_dis_l: steps that train the GAN alone, after which only the VAE is trained (0: both at
    every step)"""
    simultaneous: bool = True
    """update all players from the same parameters; else one after the other, the encoder first"""
    learning_rate: Rate = 2e-4
    """initial learning rate of encoder and decoder"""
    dis_rate: Rate = 2e-4
    """initial learning rate of the discriminator"""
    beta1: Decay = 0.5
    """decay of Adam's first moment"""
    decay_steps: StepsOrZero = 0
    """steps over which the learning rates decay to their final value (0: constant)"""
    optimiser: Literal["adam", "rmsprop"] = "adam"
    """adam: rates decay to zero along a cosine; rmsprop (official code): decay 0.9, rates that fall
    as 1 - (t/T)^0.75, and weight decay 1e-5 in the gradient (of a mean over the batch here, of a
    sum over 64 images in the official code, where the same 1e-5 has 64 times less effect)"""

    def __post_init__(self):
        super().__post_init__()
        if self.layer > self.layers:
            raise ValueError(
                f"layer={self.layer} does not exist: take -1 (the last) or 0 (pixels) to "
                f"{self.layers}"
            )
        if self.variant == "vae" and self.layer > 0:
            raise ValueError(
                f"layer={self.layer}: variant=vae has no discriminator, leave layer alone or take "
                "variant=vae_dis_l"
            )
        if self.variant == "vae" and self.r1:
            raise ValueError(f"r1={self.r1}: variant=vae has no discriminator, leave r1=0")
        check_gradient_penalty(self.discriminator_norm, r1=self.r1)
        if self.gate and not self.simultaneous:
            raise ValueError("gate compares losses at the start of the step: it needs simultaneous")
        if self.gan_steps and (self.variant != "vae_dis_l" or not self.simultaneous):
            raise ValueError("gan_steps needs variant=vae_dis_l and simultaneous")
        if not len(self.enc_channels) == len(self.dec_channels) == len(self.dis_channels) - 1 > 0:
            raise ValueError(
                "enc_channels and dec_channels need one entry for each halving of the image, "
                "dis_channels one more"
            )

    @property
    def layers(self) -> int:
        """The number of layers of the discriminator whose features can be compared."""
        return len(self.dis_channels if self.network == "conv" else self.widths)

    @property
    def measured_in(self) -> int:
        """l: 0 for pixels, else a layer of the discriminator, counted from 1."""
        if self.variant in ("vae", "gan"):
            return 0
        return self.layers if self.layer == -1 else self.layer
