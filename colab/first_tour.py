# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # jaxae: a first tour
#
# Two autoencoders on real handwritten digits, side by side: a **VAE**, which pays for every code
# against one prior for all images, and **ACN**, which pays only for what sets an image apart from
# its neighbours. Everything runs on a CPU in about two minutes, and faster on a GPU or TPU.
#
# The next cell installs the library where it is missing. Inside a clone of the repository it
# installs that clone; elsewhere, set `REPOSITORY` to the address you cloned from.

# %%
import importlib.util
import pathlib
import subprocess
import sys

REPOSITORY = ""
if importlib.util.find_spec("jaxae") is None:
    roots = [p for p in (pathlib.Path.cwd(), *pathlib.Path.cwd().parents)
             if (p / "jaxae").is_dir()]
    if not roots and not REPOSITORY:
        raise SystemExit("set REPOSITORY, or start this notebook inside a clone")
    source = str(roots[0]) if roots else f"git+{REPOSITORY}"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

# %% tags=["parameters"]
steps = 2000  # training steps of each model
samples = 30  # images in the sample grids

# %% [markdown]
# ## What there is to compute on

# %%
import jax

print(jax.__version__, [f"{d.platform}: {d.device_kind}" for d in jax.devices()])

# %% [markdown]
# ## Train a VAE
# `train` takes a model and a recipe, here the default one: 1,797 digits of 8x8 pixels that come
# with scikit-learn. Each grey pixel is a probability; every visit draws the image anew as black and
# white, so that the likelihoods are those of bits. What differs from the recipe is named.

# %%
import jaxae

vae = jaxae.train("vae", "digits", steps=steps, devices=1)
vae.data.train.size, vae.data.test.size, vae.data.spec.image_shape

# %% [markdown]
# ## Train ACN
# Its code memory is part of the state, and the decoder draws each pixel given those before it.

# %%
acn = jaxae.train("acn", "digits", steps=steps, devices=1)

# %% [markdown]
# ## What the codes cost
# Rate and distortion on the test set, in nats per image. For ACN the only total that may be
# compared with the VAE's is `total_unordered`.

# %%
from jaxae import evaluation

key = jax.random.key(2026)
print(evaluation.mean_over(vae.model.evaluate, vae.state, vae.data.test, 120, key))
print(acn.model.assess(acn.state, acn.data, key))

# %% [markdown]
# ## Samples, interpolations, daydreams
# In a daydream every image is drawn from the code of the one before it.

# %%
import tempfile

from IPython.display import Image, display

folder = pathlib.Path(tempfile.mkdtemp())
test = next(iter(vae.data.test.examples(16)))[0]["image"]
for name, trained in [("VAE", vae), ("ACN", acn)]:
    model, state = trained.model, trained.state
    print(name)
    display(Image(evaluation.draw_samples(
        model, state, folder / f"{name}-samples.png", key, count=samples)))
    display(Image(evaluation.draw_interpolations(
        model, state, test[:8], test[8:], folder / f"{name}-interpolations.png", key)))
    display(Image(evaluation.draw_daydream(
        model, state, test[:8], folder / f"{name}-daydream.png", key)))

# %% [markdown]
# ## From here
# `jaxae --model acn --help` lists every setting; `--recipe mnist` trains on MNIST. Losses and
# networks are plain functions and flax modules: `from jaxae.losses import ...`.
