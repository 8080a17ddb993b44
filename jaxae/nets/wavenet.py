"""WaveNet: the distribution of each sample given all samples before it and conditions.

van den Oord et al. 2016, arXiv:1609.03499; the gate from memory. k [B,T] levels; local condition
c [B,T,C], one vector per sample; global condition g [B,S], one vector per signal:

    h_0 = embedding of the sample before     a = W_1 h_t + W_2 h_{t-d} + V c_t + U g
    z = tanh(a_1) * sigmoid(a_2)     h' = h + R z     logits = 1x1(relu(1x1(relu(sum of S z))))

The dilation d doubles with each layer. Layers are matrix products of shifted inputs, not
convolutions. For a c that is added to a network already trained without it, V starts at zero.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxae.nets.mlp import conditioning_layer


class WaveNet(nn.Module):
    """Levels `[B,T]` -> logits `[B,T,levels]`, each sample's from the samples before it."""

    levels: int
    width: int
    """features of the stack; the gates are twice as wide"""
    layers: int
    """layers of a stack, with dilations 1, 2, 4, ..."""
    stacks: int = 1
    """number of stacks, each with the same dilations"""
    skip: int = 0
    """features of the skip connections; 0: as `width`"""
    head: int = 0
    """features between the last two layers; 0: as `skip`"""
    cosine_embedding: bool = False
    """for ordered levels: initial embeddings are cosines of the level, not random"""
    zero_init_condition: bool = False
    """the local condition has no effect at the start, see `mlp.conditioning_layer`"""

    @nn.nowrap
    def dilations(self) -> list[int]:
        """Dilation of each layer, in order. The receptive field is 1 + their sum samples."""
        return [2**i for i in range(self.layers)] * self.stacks

    def setup(self):
        gates, skip = 2 * self.width, self.skip or self.width
        each = lambda features, **kwargs: [nn.Dense(features, **kwargs) for _ in self.dilations()]
        start = _cosines if self.cosine_embedding else nn.initializers.normal(1.0)
        self.embedding = self.param("embedding", start, (self.levels, self.width))
        self.now, self.before = each(gates), each(gates, use_bias=False)
        self.local = [conditioning_layer(gates, self.zero_init_condition) for _ in self.dilations()]
        self.whole = [conditioning_layer(gates, zero_init=False) for _ in self.dilations()]
        self.mix, self.past = each(self.width), each(skip)
        self.last, self.out = nn.Dense(self.head or skip), nn.Dense(self.levels)

    def __call__(
        self, k: jax.Array, c: jax.Array | None = None, g: jax.Array | None = None
    ) -> jax.Array:
        """k `[B,T]` int32, c `[B,T,C]` or None, g `[B,S]` or None -> `[B,T,levels]`."""
        return self.logits_from_embeddings(self.embedding[k], c, g)

    def logits_from_embeddings(
        self, vectors: jax.Array, c: jax.Array | None = None, g: jax.Array | None = None
    ) -> jax.Array:
        """The logits, given the levels' embeddings `[B,T,width]`."""
        h, skipped = _delay(vectors, 1), 0.0
        for i, dilation in enumerate(self.dilations()):
            h, past = self._layer(i, h, _delay(h, dilation), c, None if g is None else g[:, None])
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

    def step(self, buffers: list, k, t, c, g):
        """Logits `[B,levels]` of one sample, from the previous level and the layers' buffers.

        Args:
            buffers: per layer its last inputs `[B,dilation,width]`, the oldest at `t % dilation`.
            k: `[B]` int32, the previous level, or -1 at the start.
            t: int32 scalar, index of the sample.
            c: `[B,C]` or None; g: `[B,S]` or None.
        Returns:
            logits and the updated buffers.
        """
        h, skipped, updated = jnp.where(k[:, None] < 0, 0.0, self.embedding[k]), 0.0, []
        h = h.astype(buffers[0].dtype)
        for i, (buffer, dilation) in enumerate(zip(buffers, self.dilations(), strict=True)):
            slot = t % dilation
            earlier = jax.lax.dynamic_index_in_dim(buffer, slot, axis=1, keepdims=False)
            updated.append(jax.lax.dynamic_update_index_in_dim(buffer, h, slot, axis=1))
            h, past = self._layer(i, h, earlier, c, g)
            skipped = skipped + past
        return self._end(skipped), updated

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
        """Levels `[n, length]` int32, sampled one after the other, each in the same time.

        Args:
            variables: `{"params": ...}` of this network.
            rng: a key; sample t uses `fold_in(rng, t)`.
            c: `[n, length, C]` or None; g: `[n, S]` or None.
        """

        def sample_one(carry, inputs):
            buffers, k = carry
            t, local = inputs
            logits, buffers = self.apply(variables, buffers, k, t, local, g, method="step")
            k = jax.random.categorical(jax.random.fold_in(rng, t), logits).astype(jnp.int32)
            return (buffers, k), k

        conditions = [x for x in (c, g) if x is not None]
        dtype = jnp.result_type(*jax.tree.leaves(variables), *conditions)
        buffers = [jnp.zeros((n, dilation, self.width), dtype) for dilation in self.dilations()]
        times = jnp.arange(length, dtype=jnp.int32)
        local = None if c is None else jnp.moveaxis(c, 1, 0)
        first = jnp.full((n,), -1, jnp.int32)
        _, levels = jax.lax.scan(sample_one, (buffers, first), (times, local))
        return jnp.moveaxis(levels, 0, 1)


def _cosines(rng: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Similar vectors for neighbouring levels: cosines of the level, with mean square 1."""
    levels, width = shape
    position, waves = (
        (jnp.arange(levels, dtype=jnp.float32) + 0.5) / levels,
        jnp.arange(1, width + 1),
    )
    return math.sqrt(2) * jnp.cos(jnp.pi * position[:, None] * waves[None])


def _delay(h: jax.Array, steps: int) -> jax.Array:
    """h `[B,T,C]` delayed by `steps`, zeros before its start."""
    return jnp.pad(h, ((0, 0), (steps, 0), (0, 0)))[:, : h.shape[1]]
