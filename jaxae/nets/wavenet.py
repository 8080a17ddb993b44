"""WaveNet: every sample's distribution given all samples before it and what it is told.

van den Oord et al. 2016, arXiv:1609.03499; the gate as we recall it. k [B,T] levels; local
condition c [B,T,C], a description of each moment; global condition g [B,S], of the whole:

    h_0 = embedding of the sample before     a = W_1 h_t + W_2 h_{t-d} + V c_t + U g
    z = tanh(a_1) * sigmoid(a_2)     h' = h + R z     logits = 1x1(relu(1x1(relu(sum of S z))))

Layers double their dilation d. They are matrix products of shifted inputs, not convolutions.
V and U begin at zero: what it is told changes nothing at first (see `pixelcnn`).
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxae.nets.mlp import condition


class WaveNet(nn.Module):
    """Levels `[B,T]` -> logits `[B,T,levels]`, each of a moment from the moments before it."""

    levels: int
    width: int
    """features of the stack; the gates are twice as wide"""
    layers: int
    """layers of a stack, dilations 1, 2, 4, ..."""
    stacks: int = 1
    """how often the dilations begin anew"""
    skip: int = 0
    """features that reach the end past the stack; 0: as `width`"""
    head: int = 0
    """features between the last two layers; 0: as `skip`"""
    scale: bool = False
    """levels lie on a scale: their embeddings begin as cosines along it, not at random"""

    @nn.nowrap
    def dilations(self) -> list[int]:
        """Of every layer, in order. The last moments seen are 1 + their sum."""
        return [2**i for i in range(self.layers)] * self.stacks

    def setup(self):
        gates, skip = 2 * self.width, self.skip or self.width
        each = lambda features, **how: [nn.Dense(features, **how) for _ in self.dilations()]
        start = _cosines if self.scale else nn.initializers.normal(1.0)
        self.embedding = self.param("embedding", start, (self.levels, self.width))
        self.now, self.before = each(gates), each(gates, use_bias=False)
        self.local, self.whole = ([condition(gates) for _ in self.dilations()] for _ in range(2))
        self.mix, self.past = each(self.width), each(skip)
        self.last, self.out = nn.Dense(self.head or skip), nn.Dense(self.levels)

    def __call__(
        self, k: jax.Array, c: jax.Array | None = None, g: jax.Array | None = None
    ) -> jax.Array:
        """k `[B,T]` int32, c `[B,T,C]` or None, g `[B,S]` or None -> `[B,T,levels]`."""
        return self.of_embedded(self.embedding[k], c, g)

    def of_embedded(
        self, vectors: jax.Array, c: jax.Array | None = None, g: jax.Array | None = None
    ) -> jax.Array:
        """The same from the levels' embeddings `[B,T,width]`."""
        h, skipped = _later(vectors, 1), 0.0
        for i, dilation in enumerate(self.dilations()):
            h, past = self._layer(i, h, _later(h, dilation), c, None if g is None else g[:, None])
            skipped = skipped + past
        return self._end(skipped)

    def _layer(self, i, h, earlier, c, g):
        pre = self.now[i](h) + self.before[i](earlier)
        if c is not None:
            pre = pre + self.local[i](c)
        if g is not None:
            pre = pre + self.whole[i](g)
        first, second = jnp.split(pre, 2, axis=-1)
        z = jnp.tanh(first) * nn.sigmoid(second)
        return h + self.mix[i](z), self.past[i](z)

    def _end(self, skipped):
        return self.out(nn.relu(self.last(nn.relu(skipped))))

    def moment(self, held: list, k, at, c, g):
        """Logits `[B,levels]` of one moment, from the one before and what the layers hold.

        Args:
            held: per layer its last inputs `[B,dilation,width]`, the oldest at `at % dilation`.
            k: `[B]` int32, the level before, or -1 at the beginning.
            at: int32 scalar, the moment.
            c: `[B,C]` or None; g: `[B,S]` or None.
        Returns:
            logits, and what is held afterwards.
        """
        h, skipped, after = jnp.where(k[:, None] < 0, 0.0, self.embedding[k]), 0.0, []
        h = h.astype(held[0].dtype)
        for i, (memory, dilation) in enumerate(zip(held, self.dilations(), strict=True)):
            place = at % dilation
            earlier = jax.lax.dynamic_index_in_dim(memory, place, axis=1, keepdims=False)
            after.append(jax.lax.dynamic_update_index_in_dim(memory, h, place, axis=1))
            h, past = self._layer(i, h, earlier, c, g)
            skipped = skipped + past
        return self._end(skipped), after

    @nn.nowrap
    def sample(
        self,
        variables: Any,
        n: int,
        length: int,
        rng: jax.Array,
        c: jax.Array | None = None,
        g: jax.Array | None = None,
    ) -> jax.Array:
        """Levels `[n, length]` int32, one moment after the other, each at the same cost.

        Args:
            variables: `{"params": ...}` of this network.
            rng: moment t is drawn with `fold_in(rng, t)`.
            c: `[n, length, C]` or None; g: `[n, S]` or None.
        """

        def step(carry, now):
            held, k = carry
            at, local = now
            logits, held = self.apply(variables, held, k, at, local, g, method="moment")
            k = jax.random.categorical(jax.random.fold_in(rng, at), logits).astype(jnp.int32)
            return (held, k), k

        told = [x for x in (c, g) if x is not None]
        kind = jnp.result_type(*jax.tree.leaves(variables), *told)
        held = [jnp.zeros((n, dilation, self.width), kind) for dilation in self.dilations()]
        moments = jnp.arange(length, dtype=jnp.int32)
        local = None if c is None else jnp.moveaxis(c, 1, 0)
        first = jnp.full((n,), -1, jnp.int32)
        _, drawn = jax.lax.scan(step, (held, first), (moments, local))
        return jnp.moveaxis(drawn, 0, 1)


def _cosines(rng: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Neighbouring levels alike: the first half-waves of a cosine, of mean square 1."""
    levels, width = shape
    place, waves = (jnp.arange(levels, dtype=jnp.float32) + 0.5) / levels, jnp.arange(1, width + 1)
    return math.sqrt(2) * jnp.cos(jnp.pi * place[:, None] * waves[None])


def _later(h: jax.Array, moments: int) -> jax.Array:
    """h `[B,T,C]` delayed, zeros before its beginning."""
    return jnp.pad(h, ((0, 0), (moments, 0), (0, 0)))[:, : h.shape[1]]
