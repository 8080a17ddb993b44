"""NVAE's two towers: a bottom-up encoder from fine to coarse, a top-down decoder back.

Vahdat & Kautz 2020, arXiv:2007.03898; NVlabs/NVAE. Groups l = 0..L-1 run from the coarsest scale to
the finest. The decoder's first input is a learnt constant: it depends on an image only through z.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxae.models.nvae.cells import Conv, DecoderCell, EncoderCell, FlowCell

BOUND = 5.0  # of means and log-deviations
FLOOR = 0.01  # added to every standard deviation


class Normal(NamedTuple):
    """A diagonal Gaussian by its unbounded parameters, `[B,h,w,Z]` each.

    mean = 5 tanh(raw / 5), deviation = exp(5 tanh(raw / 5)) + 0.01, as in the official code; so the
    "standard normal" of the first group has a standard deviation of 1.01.
    """

    raw_mean: jax.Array
    raw_log: jax.Array

    @property
    def mean(self) -> jax.Array:
        """The means, in (-5, 5)."""
        return BOUND * jnp.tanh(self.raw_mean / BOUND)

    @property
    def deviation(self) -> jax.Array:
        """The standard deviations, above 0.01."""
        return jnp.exp(BOUND * jnp.tanh(self.raw_log / BOUND)) + FLOOR

    def add_residual(self, residual: "Normal") -> "Normal":
        """A Gaussian relative to this one: the parameters are added before they are bounded."""
        return Normal(self.raw_mean + residual.raw_mean, self.raw_log + residual.raw_log)


class Layout(NamedTuple):
    """The sizes of both towers."""

    image: tuple[int, int, int]
    """H, W (padded to a multiple of 2^halvings) and C"""
    groups: tuple[int, ...]
    """latent groups per scale, coarse to fine"""
    latent: int
    """channels Z of a group"""
    width: int
    """channels after the first convolution"""
    blocks: int
    """halvings before the finest scale of groups"""
    block_cells: int
    """cells in each of these blocks"""
    cells: int
    """cells before each group"""

    def scale_of(self) -> list[int]:
        """The scale of each group, 0 the coarsest."""
        return [s for s, count in enumerate(self.groups) for _ in range(count)]

    def map_of(self, scale: int) -> tuple[int, int, int]:
        """h, w and channels of the features at a scale."""
        halvings = self.blocks + len(self.groups) - 1 - scale
        factor = 2**halvings
        return self.image[0] // factor, self.image[1] // factor, self.width * factor

    def code_shapes(self) -> list[tuple[int, int, int]]:
        """h, w, Z of each group."""
        return [(*self.map_of(s)[:2], self.latent) for s in self.scale_of()]


class Tower(nn.Module):
    """Bottom-up: x `[B,H,W,C]` in [0,1] -> features for each group; and the posterior heads."""

    layout: Layout
    momentum: float

    def setup(self):
        lay = self.layout
        cell = lambda down=False: EncoderCell(self.momentum, down)
        self.stem = Conv(lay.width)
        self.blocks = [
            cell(down=i == lay.block_cells - 1)
            for _ in range(lay.blocks) for i in range(lay.block_cells)
        ]  # fmt: skip
        fine_to_coarse = lay.groups[::-1]
        self.tower = [cell() for count in lay.groups for _ in range(count * lay.cells)]
        self.downs = [cell(down=True) for _ in fine_to_coarse[1:]]
        coarsest = lay.map_of(0)[2]
        self.top = Conv(coarsest, 1)
        widths = [lay.map_of(s)[2] for s in lay.scale_of()]
        self.joins = [Conv(width, 1) for width in widths[1:]]
        self.heads = [Conv(2 * lay.latent) for _ in widths]

    def __call__(self, x: jax.Array, train: bool, axis_name: str | None) -> list[jax.Array]:
        lay = self.layout
        h = self.stem(2 * x - 1)
        for cell in self.blocks:
            h = cell(h, train, axis_name)
        cells, downs, features = iter(self.tower), iter(self.downs), []
        for scale, count in reversed(list(enumerate(lay.groups))):
            for _ in range(count):
                for cell in itertools.islice(cells, lay.cells):
                    h = cell(h, train, axis_name)
                features.append(h)
            if scale:
                h = next(downs)(h, train, axis_name)
        features[-1] = nn.elu(self.top(nn.elu(features[-1])))
        return features[::-1]

    def posterior(self, group: int, features: jax.Array, h: jax.Array) -> Normal:
        """q(z_l | x, z_<l), or its residual, from the group's features and the decoder's h."""
        if group:
            features = features + self.joins[group - 1](h)
        return Normal(*jnp.split(self.heads[group](features), 2, axis=-1))


class Decoder(nn.Module):
    """Top-down: the prior of each group given the earlier ones, and the outputs of all."""

    layout: Layout
    outputs: int
    momentum: float
    flows: int
    out_bias: Any

    def setup(self):
        lay = self.layout
        scales, total = lay.scale_of(), sum(lay.groups)
        widths = [lay.map_of(s)[2] for s in scales]
        cell = lambda expansion, up=False: DecoderCell(expansion, self.momentum, up)
        self.start = self.param("start", nn.initializers.uniform(1.0), lay.map_of(0))
        self.cells = [[cell(6) for _ in range(lay.cells)] for _ in range(total - 1)]
        self.priors = [Conv(2 * lay.latent, 1) for _ in range(total - 1)]
        self.absorbers = [Conv(width, 1) for width in widths]
        self.ups = [cell(6, up=True) for _ in lay.groups[1:]]
        self.flow_cells = [
            [FlowCell(mirrored=i % 2 == 1) for i in range(2 * self.flows)] for _ in range(total)
        ]
        self.blocks = [
            cell(3, up=i == 0) for _ in range(lay.blocks) for i in range(lay.block_cells)
        ]
        self.out = Conv(self.outputs, out_bias=self.out_bias)

    def initial_features(self, n: int) -> jax.Array:
        """h before the first group."""
        return jnp.broadcast_to(self.start[None], (n, *self.start.shape))

    def prior(self, group: int, h: jax.Array, train: bool, axis_name: str | None):
        """h, and the prior that it gives: p(z_l | z_<l)."""
        if group == 0:
            raw = jnp.zeros((h.shape[0], *self.layout.code_shapes()[0]))
            return h, Normal(raw, raw)
        for cell in self.cells[group - 1]:
            h = cell(h, train, axis_name)
        return h, Normal(*jnp.split(self.priors[group - 1](nn.elu(h)), 2, axis=-1))

    def flow(self, group: int, z: jax.Array) -> jax.Array:
        """The posterior's normalising flow, which preserves volume."""
        for cell in self.flow_cells[group]:
            z = cell(z)
        return z

    def add_group(self, group: int, h: jax.Array, z: jax.Array, train: bool, axis_name: str | None):
        """h after z_l."""
        h = self.absorbers[group](jnp.concatenate([h, z], axis=-1))
        scales = self.layout.scale_of()
        if group + 1 < len(scales) and scales[group + 1] > scales[group]:
            h = self.ups[scales[group]](h, train, axis_name)
        return h

    def output(self, h: jax.Array, train: bool, axis_name: str | None) -> jax.Array:
        """The likelihood's parameters `[B,H,W,outputs]`."""
        for cell in self.blocks:
            h = cell(h, train, axis_name)
        return self.out(nn.elu(h))


class Group(NamedTuple):
    """One latent group and its distributions; q and z_0 are None where there is no image."""

    z: jax.Array  # [B,h,w,Z], the decoder's input
    z_0: jax.Array | None  # before the flow
    p: Normal
    q: Normal | None


class Hierarchy(nn.Module):
    """Both towers; parameters `{"enc": ..., "dec": ...}`."""

    layout: Layout
    outputs: int
    residual: bool = True
    """the posterior is relative to the prior"""
    flows: int = 0
    """pairs of flow cells per group"""
    momentum: float = 0.95
    """decay of the moving averages of the batch statistics"""
    out_bias: Any = None

    def setup(self):
        self.enc = Tower(self.layout, self.momentum)
        self.dec = Decoder(self.layout, self.outputs, self.momentum, self.flows, self.out_bias)

    def infer(self, x, noise, train: bool = False, axis_name: str | None = None):
        """Outputs `[B,H,W,outputs]` and the groups, z_l ~ q(z_l | x, z_<l).

        Args:
            x: `[B,H,W,C]`, padded.
            noise: per group `[B,h,w,Z]`.
        """
        features = self.enc(x, train, axis_name)

        def sample_posterior(group, h, p):
            q = self.enc.posterior(group, features[group], h)
            q = p.add_residual(q) if self.residual else q
            z_0 = q.mean + q.deviation * noise[group]
            return Group(self.dec.flow(group, z_0), z_0, p, q)

        return self._top_down(x.shape[0], sample_posterior, train, axis_name)

    def generate(self, noise, temperature, train: bool = False, axis_name: str | None = None):
        """Outputs and groups, z_l ~ p(z_l | z_<l) with standard deviations times `temperature`."""

        def sample_prior(group, h, p):
            return Group(p.mean + temperature * p.deviation * noise[group], None, p, None)

        return self._top_down(noise[0].shape[0], sample_prior, train, axis_name)

    def decode(self, codes):
        """Outputs and groups of given codes, per group `[B,h,w,Z]`."""
        given_group = lambda group, h, p: Group(codes[group], None, p, None)
        return self._top_down(codes[0].shape[0], given_group, False, None)

    def _top_down(self, n: int, choose_group: Callable, train: bool, axis_name: str | None):
        """Outputs and groups; `choose_group(l, h, p(z_l | z_<l))` gives group l."""
        h, groups = self.dec.initial_features(n), []
        for number in range(sum(self.layout.groups)):
            h, p = self.dec.prior(number, h, train, axis_name)
            groups.append(choose_group(number, h, p))
            h = self.dec.add_group(number, h, groups[-1].z, train, axis_name)
        return self.dec.output(h, train, axis_name), groups
