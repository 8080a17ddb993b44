"""All of evaluation in a process whose numbers are float64 unless told otherwise."""

import os
import subprocess
import sys

CODE = """
import jax, numpy as np, sys
sys.path.insert(0, "tests")
import tiny
from jaxae import evaluation
assert jax.numpy.ones(()).dtype == np.float64
data = tiny.images(binarise="dynamic")
model = tiny.make("vae", data)
state = jax.jit(model.init)(jax.random.key(0))
found = evaluation.assess_run(
    model, state, state, data, rng=jax.random.key(0), batch_size=11, iwae_samples=2,
    probe_data=data.unbinarised,
)
assert all(np.isfinite(found["likelihood"][name]) for name in ("elbo_nats", "iwae_bits_per_dim"))
key, grey = jax.random.key(1), evaluation.images_of(data.unbinarised.test, 11)
squares = lambda x, y: jax.numpy.sum(jax.numpy.square(x - y), axis=(1, 2, 3))
evaluation.perceptual_path_length(
    model.prior, lambda z, rng: model.decode(state, z, rng), squares, key, pairs=4, batch_size=4
)
decoded = evaluation.interpolate(model, state, grey[:3], grey[3:6], key, mixtures=4)
evaluation.score_interpolations(decoded, grey, np.linspace(0, 6, 11))
evaluation.parzen_log_likelihood(grey, grey, grey)
evaluation.retrieval_table(
    model._replace(encode=lambda state, x, rng: jax.numpy.float32(x[:, :2, :3, 0] > 0.5).reshape(
        len(x), -1)), state, data, batch_size=11, rng=key,
)
print("whole")
"""


def test_everything_runs_in_float64():
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=False,
        env=os.environ | {"JAX_ENABLE_X64": "1"},
    )  # fmt: skip
    assert done.stdout.strip() == "whole", done.stderr[-2000:]
