"""The settings of ACN."""

import dataclasses
from typing import Annotated, Literal

from jaxae.fields import (
    Checked,
    Count,
    Depth,
    DepthOrZero,
    Positive,
    Range,
    Rate,
    Size,
    SizeOrZero,
    StepsOrZero,
    Weight,
)

ASSOCIATIVE = ("acn", "gaussian_neighbour")


@dataclasses.dataclass(frozen=True)
class Config(Checked):
    """Every field is a flag of the command line; the line below a field is its help text."""

    latent: Size = 16
    """size d of the code"""
    variant: Literal["acn", "unconditional", "gaussian_neighbour", "vae", "vae_unit", "decoder"] = (
        "acn"
    )
    """acn, or a baseline with the same networks: a prior network without input (unconditional), the
    prior N(c^, s^2 I) with s learned (gaussian_neighbour), a VAE, a VAE whose posterior has unit
    variance, the decoder alone (z is 0)"""
    encoder: Literal["mlp", "conv"] = "mlp"
    """dense or convolutional encoder"""
    decoder: Literal["mlp", "conv", "vq", "made", "pixelcnn"] = "made"
    """independent pixels (mlp, conv, vq), or autoregressive ones (made, pixelcnn); vq passes the
    code through a codebook (experimental)"""
    widths: tuple[Size, ...] = (256, 256)
    """hidden layers of dense encoders and decoders"""
    activation: str = "relu"
    """relu, tanh, gelu, silu, elu, leaky_relu or sigmoid"""
    conv_width: Size = 32
    """channels of the first convolution, doubled at each halving of the image"""
    conv_blocks: DepthOrZero = 2
    """residual blocks of the convolutional networks"""
    pixelcnn_width: Size = 16
    """channels of the gated PixelCNN"""
    pixelcnn_layers: Depth = 5
    """layers of the gated PixelCNN"""
    pixelcnn_map: SizeOrZero = 0
    """channels of the map of the image's size to which z is projected for the PixelCNN's gates; 0:
    z conditions all pixels alike"""
    vq_codes: Size = 512
    """vectors in the codebook of decoder vq"""
    vq_width: Size = 256
    """length of a vector of the codebook; latent must be a multiple of the positions of a map whose
    sides are the image's divided by four, such as 98 for 28x28 and 8 for 8x8"""
    vq_weight: Weight = 0.1
    """weight of the squared distances between the codebook and its inputs, summed: at 1 the code
    carries no information, at 0.01 the two drift apart"""
    likelihood: Literal["bernoulli", "gaussian", "logistic_mixture"] = "bernoulli"
    """distribution of a pixel"""
    scale: Positive = 0.1
    """standard deviation of a pixel (gaussian)"""
    mixtures: Size = 5
    """components of the logistic mixture"""
    prior_widths: tuple[Size, ...] = (128, 128, 128)
    """tanh layers of the prior network; the code is an input of each, and each feeds the output"""
    components: Size = 4
    """components M of the Gaussian mixture that is the prior of each dimension"""
    neighbours: Size = 5
    """K: the neighbour is chosen at random from the K nearest codes"""
    kl: Literal["quadrature", "sample"] = "quadrature"
    """integrate the KL numerically, or estimate it from the one z that is decoded"""
    nodes: Annotated[int, Range(2, 1_000)] = 16
    """quadrature nodes per dimension in training; evaluation uses at least 64 (on digits, after
    2,000 steps, 16 and 64 differ by 5e-7 nats)"""
    only_written: bool = False
    """choose neighbours only from rows that a step has written, once these are more than K"""
    unique_neighbours: bool = False
    """use each row as a neighbour at most once per pass over the data"""
    decoder_first: StepsOrZero = 0
    """steps in which only the decoder trains, without the code; after them Adam's moments and
    decay_steps start again"""
    unordered: Literal["mixture", "gmm", "network"] = "mixture"
    """the prior of rate_unordered, one for all images: the mixture of the training codes'
    conditional priors, a Gaussian mixture fitted to these codes, or a prior network without input
    fitted to them"""
    unordered_items: Count = 1000
    """test images, spread evenly over the test set, on which rate_unordered and total_unordered are
    measured"""
    unordered_codes: Count = 10_000
    """training codes in the mixture of conditional priors (gmm has 50 Gaussians)"""
    daydream_mode: Literal["sample", "mean"] = "sample"
    """sample z and x at each step of a daydream, or take the means (ends in a fixed point)"""
    learning_rate: Rate = 1e-3
    """Adam's learning rate at the first step"""
    decay_steps: StepsOrZero = 0
    """steps in which the learning rate falls to zero along a cosine (0: constant)"""

    def __post_init__(self):
        super().__post_init__()
        if self.unique_neighbours and self.variant not in ASSOCIATIVE:
            raise ValueError(f"unique_neighbours needs neighbours, variant={self.variant} has none")
