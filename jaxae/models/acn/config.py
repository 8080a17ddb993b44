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
    """acn, or a baseline with the same networks: the prior network without its neighbour,
    N(c^, s^2 I) with s learned, a VAE, a VAE of unit variance, the decoder alone (without a code:
    z is 0)"""
    encoder: Literal["mlp", "conv"] = "mlp"
    """dense or convolutional encoder"""
    decoder: Literal["mlp", "conv", "vq", "made", "pixelcnn"] = "made"
    """independent pixels (mlp, conv, vq), or each pixel given those before it (made, pixelcnn);
    vq passes the code through a table of vectors (experimental)"""
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
    """channels of the map of the image's size as which z is laid out for the PixelCNN's gates; 0: z
    speaks to all places alike"""
    vq_codes: Size = 512
    """vectors in the table of decoder vq"""
    vq_width: Size = 256
    """length of a vector of the table; latent must be a multiple of the positions of a map with
    the image's sides divided by four, such as 98 for 28x28 and 8 for 8x8"""
    vq_weight: Weight = 0.1
    """weight of the squared distances, summed, that hold the table and its inputs together: at 1
    the code withers, at 0.01 both run away from each other"""
    likelihood: Literal["bernoulli", "gaussian", "logistic_mixture"] = "bernoulli"
    """distribution of a pixel"""
    scale: Positive = 0.1
    """standard deviation of a pixel (gaussian)"""
    mixtures: Size = 5
    """components of the logistic mixture"""
    prior_widths: tuple[Size, ...] = (128, 128, 128)
    """tanh layers of the prior network; each sees the code, each feeds the output"""
    components: Size = 4
    """Gaussians M in the prior of each dimension"""
    neighbours: Size = 5
    """K: the conditioning code is drawn from the K nearest"""
    kl: Literal["quadrature", "sample"] = "quadrature"
    """integrate the KL exactly, or estimate it at the decoder's z"""
    nodes: Annotated[int, Range(2, 1_000)] = 16
    """quadrature nodes per dimension in training; evaluation takes at least 64 (on digits, after
    2,000 steps, 16 and 64 differ by 5e-7 nats)"""
    only_written: bool = False
    """look only among rows that a step has written (any row while there are fewer than K)"""
    unique_neighbours: bool = False
    """let each row serve once per pass over the data"""
    decoder_first: StepsOrZero = 0
    """steps in which the decoder learns alone, before encoder and codes join; Adam's moments and
    decay_steps begin anew when they do"""
    unordered: Literal["mixture", "gmm", "network"] = "mixture"
    """the one prior of rate_unordered: mixture of the conditionals over training codes, a Gaussian
    mixture fitted to them, or a prior network without input fitted to them"""
    unordered_items: Count = 1000
    """test images, spread evenly over the test set, on which rate_unordered and total_unordered are
    measured"""
    unordered_codes: Count = 10_000
    """training codes in the mixture of conditionals; Gaussians in gmm are 50"""
    daydream_mode: Literal["sample", "mean"] = "sample"
    """sample z and x at each link of a daydream, or take the means (runs into a fixed point)"""
    learning_rate: Rate = 1e-3
    """Adam's rate at the first step"""
    decay_steps: StepsOrZero = 0
    """steps in which the rate falls to zero along a cosine (0: constant)"""

    def __post_init__(self):
        super().__post_init__()
        if self.unique_neighbours and self.variant not in ASSOCIATIVE:
            raise ValueError(f"unique_neighbours needs neighbours: variant={self.variant} has none")
