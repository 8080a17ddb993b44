"""What do the two forms of our convolutions cost here, and what does cached sampling save?

    python experiments/speed_conv.py [--batch 32 --width 32 --layers 3 --side 28]

For up-sampling and the gated PixelCNN: time of forward pass and of value with gradient, in the
compiler's own form (`lax`) and as matrix products (`patches`, `phases`), with ratios; then
sampling by cached features against one full pass per pixel. Both forms of a pair are timed in
turns, so that ratios hold on a busy machine. About a minute on two quiet CPU cores; the network
of ACN's MNIST recipe is `--batch 128 --layers 8`.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxae.nets import GatedPixelCNN, Upsample
from jaxae.nets.made import sample_by_passes


def race(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each call, timed in turns after one round that is not counted."""
    times = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def compare(title: str, nets: dict[str, nn.Module], x: jax.Array, repeats: int) -> None:
    """Forward pass, and value with gradient in parameters and input, of every form in `nets`."""
    first = next(iter(nets.values()))
    variables = jax.jit(first.init)(jax.random.key(0), x[:1])
    for kind in ("forward", "forward + backward"):
        calls = {}
        for form, net in nets.items():
            loss = lambda v, x, net=net: jnp.mean(jnp.square(net.apply(v, x)))
            both = jax.value_and_grad(loss, argnums=(0, 1))
            run = jax.jit(loss if kind == "forward" else both)
            calls[form] = lambda run=run: run(variables, x)
        took = race(calls, repeats)
        each = ", ".join(f"{form} {1e3 * value:.1f} ms" for form, value in took.items())
        ours = next(iter(nets))
        ratio = took["lax"] / took[ours]
        print(f"{title}, {kind}: {each}; lax / {ours} {ratio:.1f}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()

    for side, channels, features in ((8, 128, 64), (14, 32, 1)):
        x = jax.random.normal(jax.random.key(0), (args.batch, side, side, channels))
        nets = {form: Upsample(features, form) for form in ("phases", "lax")}
        compare(f"up-sampling {x.shape} -> {features}", nets, x, args.repeats)

    x = jax.random.normal(jax.random.key(0), (args.batch, args.side, args.side, 1))
    nets = {
        form: GatedPixelCNN(1, args.width, args.layers, form=form) for form in ("patches", "lax")
    }
    title = f"PixelCNN {args.layers} layers of {args.width} on {x.shape}"
    compare(title, nets, x, args.repeats)

    net, shape = GatedPixelCNN(1, 16, 3), (16, 14, 14, 1)
    variables = jax.jit(net.init)(jax.random.key(0), jnp.zeros(shape))
    draw = lambda outputs, rng: jnp.float32(jax.random.bernoulli(rng, jax.nn.sigmoid(outputs)))
    cached = jax.jit(lambda v, key: net.sample(v, shape, None, key, draw))
    apply = lambda v: lambda x: net.apply(v, x)
    passes = jax.jit(lambda v, key: sample_by_passes(apply(v), shape, key, draw))
    key = jax.random.key(1)
    took = race(
        {"cached": lambda: cached(variables, key), "passes": lambda: passes(variables, key)}, 2
    )
    cost = jax.jit(net.apply).lower(variables, jnp.zeros(shape)).compile().cost_analysis()
    flops, pixels = cost["flops"] / 1e9, shape[1] * shape[2]
    print(
        f"sampling {shape}: cached {1e3 * took['cached']:.0f} ms, about {flops:.2f} GFLOP; "
        f"by passes {1e3 * took['passes']:.0f} ms, {flops * pixels:.0f} GFLOP; "
        f"ratio of times {took['passes'] / took['cached']:.1f}"
    )


if __name__ == "__main__":
    main()
