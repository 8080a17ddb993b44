"""VQ-VAE's networks: strided encoder, its mirror image, and the autoregressive prior over codes.

x [B,H,W,C] image; z_e [B,h,w,G,D] the vectors that are quantised; k [B,h,w,G] codes in 0..K-1. h
and w are the image's sides halved `halvings` times, rounded up; every position has G codes, each
with its own codebook.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxae import nets
from jaxae.nets import codebook


def map_sizes(image_size: tuple[int, int], halvings: int) -> list[tuple[int, int]]:
    """The sides of the feature maps, from the image down to the codes.

    Raises:
        ValueError: a side would be halved below 1.
    """
    sizes = [tuple(image_size)]
    for _ in range(halvings):
        if min(sizes[-1]) < 2:
            raise ValueError(
                f"halvings={halvings} is too much for images of {image_size[0]}x{image_size[1]}: "
                "a map has a side of 1 earlier; take fewer"
            )
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    return sizes


class Encoder(nn.Module):
    """x `[B,H,W,C]` -> z_e `[B,h,w,G,D]`: 4x4 convolutions of stride 2, residual blocks, 1x1."""

    halvings: int
    width: int
    """channels; the layer next to the image has half as many where another follows"""
    blocks: int
    block_width: int
    """channels within a residual block; 0: as `width`"""
    groups: int
    code_width: int
    extra_conv: bool = False
    """a 3x3 convolution before the residual blocks"""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for level in range(self.halvings):
            first = level == 0 and self.halvings > 1
            x = nn.Conv(self.width // 2 if first else self.width, (4, 4), strides=(2, 2))(x)
            x = nn.relu(x) if level < self.halvings - 1 or self.extra_conv else x
        if self.extra_conv:
            x = nn.Conv(self.width, (3, 3))(x)
        for _ in range(self.blocks):
            x = nets.Residual(width=self.block_width)(x)
        z = nn.Dense(self.groups * self.code_width)(nn.relu(x))
        return z.reshape(*z.shape[:-1], self.groups, self.code_width)


class Decoder(nn.Module):
    """Quantised vectors `[B,h,w,G,D]` -> `[B,H,W,channels]`: 3x3, residual blocks, up-sampling."""

    image_size: tuple[int, int]
    halvings: int
    width: int
    blocks: int
    block_width: int
    channels: int
    """outputs per pixel, as the likelihood needs"""
    out_bias: Any = None

    @nn.compact
    def __call__(self, e: jax.Array) -> jax.Array:
        x = nn.Conv(self.width, (3, 3))(e.reshape(*e.shape[:-2], -1))
        for _ in range(self.blocks):
            x = nets.Residual(width=self.block_width)(x)
        for level, (rows, columns) in reversed(
            list(enumerate(map_sizes(self.image_size, self.halvings)[:-1]))
        ):
            if level:
                x = nets.Upsample(self.width // 2 if level == 1 else self.width)(nn.relu(x))
            else:
                x = nets.Upsample(self.channels, out_bias=self.out_bias)(nn.relu(x))
            x = x[:, :rows, :columns]
        return x


class CodePrior(nn.Module):
    """p(k): a gated PixelCNN over the codes, K-way softmaxes; positions in raster order.

    The G codes of a position are ordered: the features that the PixelCNN gives for the position are
    added to the embeddings of its earlier codes. The values of a code have no order, so they are
    embedded by a learnt table. Sizes are ours: the paper gives none.
    """

    codes: int
    groups: int
    width: int
    layers: int
    first_kernel: int = 5
    head: int = 0
    """features between the last two layers; 0: as `width`"""

    def setup(self):
        start = nn.initializers.normal(1.0)
        self.embedding = self.param("embedding", start, (self.groups, self.codes, self.width))
        self.pixels = self._pixels()
        if self.groups > 1:
            shape = (self.groups, self.groups, self.width, self.width)
            self.among = self.param("among", nn.initializers.normal(self.width**-0.5), shape)
            shape = (self.groups, self.width, self.codes)
            self.out = self.param("out", nn.initializers.normal(self.width**-0.5), shape)

    @nn.nowrap
    def _pixels(self) -> nets.GatedPixelCNN:
        out = self.codes if self.groups == 1 else self.groups * self.width
        return nets.GatedPixelCNN(
            out, self.width, self.layers, first_kernel=self.first_kernel, head=self.head
        )

    def __call__(self, k: jax.Array) -> jax.Array:
        """Codes `[B,h,w,G]` int32 -> logits `[B,h,w,G,K]` of each given those before it."""
        return self.of_embedded(codebook.gather_rows(self.embedding, k))

    def of_embedded(self, vectors: jax.Array) -> jax.Array:
        """The logits, from the codes' embeddings `[B,h,w,G,width]`."""
        features = self.pixels(_flat(vectors))
        if self.groups == 1:
            return features[..., None, :]
        before = jnp.tril(jnp.ones((self.groups, self.groups)), -1)[..., None, None]
        from_earlier = jnp.einsum("...je,gjef->...gf", vectors, before * self.among)
        features = features.reshape(*features.shape[:-1], self.groups, -1)
        return jnp.einsum("...gf,gfk->...gk", nn.relu(features + from_earlier), self.out)

    @nn.nowrap
    def sample(self, variables: Any, n: int, size: tuple[int, int], rng: jax.Array) -> jax.Array:
        """Samples of codes `[n,h,w,G]` int32, one code after the other."""
        params = variables["params"]
        embed = lambda k: _flat(codebook.gather_rows(params["embedding"], k))

        def sample_position(features, key):
            if self.groups == 1:
                return jax.random.categorical(key, features).astype(jnp.int32)[:, None]
            features = features.reshape(len(features), self.groups, -1)
            k = jnp.zeros((len(features), 0), jnp.int32)
            for g in range(self.groups):
                h = features[:, g]
                if g:
                    earlier = codebook.gather_rows(params["embedding"][:g], k)
                    h = h + jnp.einsum("nje,jef->nf", earlier, params["among"][g, :g])
                logits = nn.relu(h) @ params["out"][g]
                k_g = jax.random.categorical(jax.random.fold_in(key, g), logits)
                k = jnp.concatenate([k, k_g.astype(jnp.int32)[:, None]], axis=1)
            return k

        shape = (n, *size, self.groups)
        pixels = {"params": params["pixels"]}
        return self._pixels().sample(pixels, shape, None, rng, sample_position, embed)


def _flat(vectors: jax.Array) -> jax.Array:
    return vectors.reshape(*vectors.shape[:-2], -1)
