"""How fast is the exact neighbour search? Against scikit-learn, and against its own product.

    python experiments/speed_knn.py [--rows 60000 --dim 64 --batch 128 --k 5 --block 4096]

Prints queries per second of `jaxae.nets.nearest` (rows on the device, own row excluded), of
scikit-learn's brute force, and of the bare product of queries and rows, whose time is the limit;
checks that both searches return the same indices. About 20 s on two CPU cores.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.neighbors import NearestNeighbors

from jaxae.nets import nearest


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Median over `repeats` calls, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--block", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    host = rng.normal(size=(args.rows, args.dim)).astype(np.float32)
    rows, own = jnp.asarray(host), jnp.arange(args.batch, dtype=jnp.int32)
    queries = rows[: args.batch]

    search = jax.jit(functools.partial(nearest, k=args.k, block=args.block))
    product = jax.jit(lambda q, r: jnp.max(q @ r.T, axis=1))
    brute = NearestNeighbors(algorithm="brute").fit(host)

    def sklearn_search() -> np.ndarray:
        # One more than asked: the query itself comes first, and is dropped.
        return brute.kneighbors(host[: args.batch], args.k + 1, return_distance=False)[:, 1:]

    ours = seconds(lambda: search(queries, rows, exclude=own), args.repeats)
    limit = seconds(lambda: product(queries, rows), args.repeats)
    theirs = seconds(sklearn_search, max(3, args.repeats // 4))
    equal = np.array_equal(search(queries, rows, exclude=own)[0], sklearn_search())

    print(f"N={args.rows} d={args.dim} B={args.batch} k={args.k} on {jax.default_backend()}")
    for name, took in (("nearest", ours), ("product alone", limit), ("scikit-learn", theirs)):
        print(f"{name:14s} {1e3 * took:8.1f} ms  {args.batch / took:10.0f} queries/s")
    print(f"nearest / product {ours / limit:.1f}, scikit-learn / nearest {theirs / ours:.1f}")
    print(f"same indices as scikit-learn: {equal}")
    if not equal:
        raise SystemExit("the two searches disagree")


if __name__ == "__main__":
    main()
