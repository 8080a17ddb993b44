"""Tiny data, models and plans for tests of the engine, the loop and the models."""

import sys
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxae.data import Data, Options, from_arrays
from jaxae.models import MODELS
from jaxae.training import Model, Plan, State, adam, all_gather, descend

BATCH = 16


def images(size: int = 48, **options: Any) -> Data:
    """`size` noisy 8x8 images of three kinds with 17 grey levels, and 11 held-out ones."""
    rng = np.random.default_rng(3)
    kinds = rng.integers(0, 17, (3, 8, 8, 1))
    labels = np.arange(size + 11) % 3
    pixels = np.clip(kinds[labels] + rng.integers(-3, 4, (size + 11, 8, 8, 1)), 0, 16)
    pixels = pixels.astype(np.uint8)
    return from_arrays(
        pixels[:size], labels[:size], pixels[size:], labels[size:], Options(**options), levels=17
    )


def plan(**changes: Any) -> Plan:
    """Twelve steps on one device in chunks of four, as single calls."""
    fields = {"steps": 12, "batch_size": BATCH, "devices": 1, "log_every": 4, "loop": "calls"}
    return Plan(**fields | {"eval_every": 0, "save_every": 100} | changes)


# A line per variant: the model, and what makes its networks small.
_DENSE = {"latent": 3, "widths": (16,)}
_PLAIN = dict.fromkeys(("encoder_norm", "generator_norm", "discriminator_norm"), "none")
_CONV = {"latent": 3, "conv_width": 4, "conv_blocks": 1}
_VQ = {"codes": 6, "code_width": 3, "conv_width": 4, "conv_blocks": 1, "prior_width": 4,
       "prior_layers": 2}  # fmt: skip
_ACN = _DENSE | {"prior_widths": (8,), "components": 2, "neighbours": 3, "nodes": 4}
_ACAI = {"scales": 1, "depth": 2, "channels": 2, "learning_rate": 1e-3}
VARIANTS = {
    "vae": ("vae", _DENSE),
    "vae conv": ("vae", _CONV | {"network": "conv"}),
    "vae learned scale": ("vae", _DENSE | {"likelihood": "gaussian_learned"}),
    "vae iwae": ("vae", _DENSE | {"iwae_k": 3, "iwae_gradient": "dreg"}),
    "vae free bits": ("vae", _DENSE | {"free_bits": 0.1}),
    "vae capacity": ("vae", _DENSE | {"capacity": 2.0}),
    "acai": ("acai", _ACAI | {"scales": 2, "side": 9, "critic_depth": 3, "critic_rate": 1e-3}),
    "acai aae": ("acai", _ACAI | {"method": "aae", "prior_widths": (8,)}),
    "acai vqvae": ("acai", _ACAI | {"method": "vqvae", "codes": 6, "slots": 2, "hidden": 8}),
    "acn": ("acn", _ACN),
    "acn pixelcnn": (
        "acn",
        _ACN | _CONV | {"encoder": "conv", "decoder": "pixelcnn", "pixelcnn_width": 4,
                        "pixelcnn_layers": 2},
    ),
    "acn unique": ("acn", _ACN | {"unique_neighbours": True, "decoder": "mlp"}),
    "acn gaussian": ("acn", _ACN | {"variant": "gaussian_neighbour", "only_written": True}),
    "aae": ("aae", _DENSE | {"posterior": "gaussian", "image_noise": 0.1, "critic_noise": 0.1}),
    "aae conditioned": (
        "aae", _DENSE | {"latent": 2, "task": "conditioned", "prior": "mixture",
                         "encoder_norm": "batch"},
    ),
    "aae supervised": ("aae", _DENSE | {"task": "supervised"}),
    "aae semisupervised": ("aae", _DENSE | {"task": "semisupervised", "posterior": "universal"}),
    "aae reduction": (
        "aae", _DENSE | {"latent": 2, "task": "reduction", "clusters": 5, "image_dropout": 0.2},
    ),
    "aae r1": (
        "aae", _DENSE | {"encoder_norm": "layer", "generator_norm": "batch",
                         "discriminator_norm": "layer", "r1": 0.3, "average": 0.9},
    ),
    "ae": ("ae", _DENSE | {"tied": True}),
    "ae pretrained": (
        "ae", _DENSE | {"activation": "sigmoid", "init": "rbm", "pretrain_steps": 1},
    ),
    "alae": ("alae", _DENSE | {"map_layers": 2, "r1": 0.5}),
    "alae style": (
        "alae",
        {"network": "style", "latent": 3, "conv_width": 2, "conv_most": 4, "map_layers": 1,
         "centred": True, "r1": 0.2, "style_mixing": 0.5, "norm_floor": 1.0},
    ),
    "alae ablated": (
        "alae",
        _DENSE | {"reciprocity": "z", "separate": True, "update_f_in_reciprocity": False,
                  "d_activation": "leaky_relu", "map_layers": 1, "r1": 0.5},
    ),
    "ali": (
        "ali",
        {"latent": 3, "widths": (16, 8), "network": "plane", "prior": "gaussian",
         "posterior": "gaussian", "task": "conditional", "deviation": 0.2, "together": True},
    ),
    "ali semisupervised": (
        "ali",
        {"latent": 3, "widths": (16, 8), "posterior": "universal", "task": "semisupervised",
         "deviation": 0.2, "simultaneous": False},
    ),
    "ali feature matching": (
        "ali",
        {"latent": 3, "widths": (16, 8), "feature_matching": True, "deviation": 0.2},
    ),
    "ali joint regressor": (
        "ali",
        {"latent": 3, "widths": (16, 8), "method": "joint_regressor", "deviation": 0.2,
         "halved": True},
    ),
    "ali post hoc": (
        "ali",
        {"latent": 3, "widths": (16, 8), "method": "post_hoc_ali", "gan_steps": 1,
         "deviation": 0.2},
    ),
    "ali r1": (
        "ali",
        {"latent": 3, "widths": (16, 8), "discriminator_norm": "none", "r1": 0.3, "average": 0.9,
         "deviation": 0.2},
    ),
    "dae": ("dae", _DENSE | {"changed_weight": 2.0}),
    "dae inpainting": ("dae", _DENSE | {"corruption": "block", "levels": (0.5,)}),
    "dae stacked": (
        "dae", _DENSE | {"activation": "sigmoid", "tied": True, "stack_steps": 1,
                         "levels": (0.2, 0.1), "corruption": "salt_and_pepper"},
    ),
    "gan": ("gan", _DENSE | {"r1": 0.1}),
    "gan conv": (
        "gan",
        {"latent": 3, "conv_width": 4, "network": "conv", "generator_norm": "batch",
         "discriminator_norm": "batch", "r1": 0.0, "simultaneous": True},
    ),
    "gan spectral": (
        "gan", _DENSE | {"generator_norm": "batch", "discriminator_norm": "spectral", "r1": 0.1,
                         "average": 0.9},
    ),
    "gan wasserstein": (
        "gan", _DENSE | {"game": "wasserstein", "gradient_penalty": 10.0, "r1": 0.0},
    ),
    "iae": ("iae", _DENSE | {"local": 2, "noise": 2, "prior": "uniform", "code_scale": 0.5}),
    "iae semisupervised": (
        "iae",
        {"widths": (16,), "local": 2, "task": "semisupervised", "recon_gan": "ml", "average": 0.0,
         "local_warmup": 3, "code_r1": 0.2},
    ),
    "iae flipped": (
        "iae",
        {"widths": (16,), "local": 2, "noise": 2, "task": "clustering", "clusters": 4,
         "flipped": True, "recon_gan": "js", "simultaneous": True},
    ),
    "iae given": ("iae", {"local": 2, "task": "given", "network": "conv", "conv_width": 4}),
    "iae translation": (
        "iae",
        {"widths": (16,), "local": 2, "task": "translation", "recon_gan": "rkl",
         "code_weight": 0.5},
    ),
    "hashing": ("hashing", {"bits": 5, "widths": (16,), "balanced": True}),
    "hashing words": (
        "hashing",
        {"bits": 5, "widths": (16,), "likelihood": "counts", "count_input": "counts",
         "activation": "sigmoid", "init": "rbm", "pretrain_steps": 1, "discretise": "bernoulli"},
    ),
    "nvae": (
        "nvae",
        {"groups": (1, 1), "latent": 2, "width": 4, "blocks": 0, "block_cells": 1, "readjust": 8,
         "optimiser": "adam", "learning_rate": 1e-3},
    ),
    "vaegan": ("vaegan", _DENSE | _PLAIN | {"gamma": 0.1, "scale": 0.5}),
    "vaegan conv": (
        "vaegan",
        {"latent": 3, "network": "conv", "enc_channels": (4, 8), "dec_channels": (8, 4),
         "dis_channels": (4, 4, 8), "enc_dense": 8, "dis_dense": 8, "fakes": "prior",
         "game": "non_saturating", "real_weight": 0.33, "simultaneous": False},
    ),
    "vaegan r1": (
        "vaegan", _DENSE | {"generator_norm": "layer", "discriminator_norm": "none", "r1": 0.3,
                            "average": 0.9, "gamma": 0.1, "fakes": "prior"},
    ),
    "vaegan separate": (
        "vaegan", _DENSE | _PLAIN | {"variant": "vae_dis_l", "conditional": True},
    ),
    "vqvae": ("vqvae", _VQ | {"restart": 0.5}),
    "vqvae gradient": (
        "vqvae",
        _VQ | {"codebook": "gradient", "groups": 2, "distances": "sum", "restart": 0.0},
    ),
    "vqvae audio": (
        "vqvae_audio",
        {"codes": 4, "code_width": 3, "halvings": 3, "conv_width": 4, "wavenet_width": 4,
         "wavenet_layers": 2, "wavenet_head": 4, "prior_width": 4, "prior_layers": 2},
    ),
}  # fmt: skip


FIRST = list({name: variant for variant, (name, _) in reversed(VARIANTS.items())}.values())
"""of the variants of each model the first"""
RUN = (*FIRST, "alae style")
"""for what training promises of seeds, devices and checkpoints: `FIRST`, and what shares no network
with the first of its model"""
ALIKE = ("vae free bits", "vae capacity", "acn unique", "ali feature matching",
         "ali joint regressor", "ali post hoc", "gan wasserstein", "iae given",
         "iae semisupervised", "vaegan separate", "alae ablated")  # fmt: skip
"""differ from another variant in a loss alone, which other tests look at"""
COUPLED = ("aae conditioned", "acai vqvae", "acn gaussian", "ali semisupervised",
           "ali feature matching", "gan conv", "iae flipped", "vaegan r1",
           "vqvae gradient")  # fmt: skip
"""beside `RUN`: a batch's examples meet in them otherwise than in the mean of a loss, or players
take turns otherwise"""


def module_of(name: str) -> types.ModuleType:
    """The module in which a model is made, whose imports a test may replace."""
    return sys.modules[MODELS[name].make.__module__]


def make(variant: str, data: Data, **changes: Any) -> Model:
    """The model of a variant, for `data`."""
    name, fields = VARIANTS[variant]
    module = MODELS[name]
    return module.make(module.Config(**fields | changes), data.spec)


def toy(data: Data, bad_loss_at: int = -1, bad_norm_at: int = -1, bad_params_at: int = -1) -> Model:
    """Learns the mean image through noise, and notes in `extra` what it saw of each image.

    It has all that the engine must carry (noise, optimiser state, a memory by index) and compiles
    in no time. From step `bad_loss_at` on (counted from 1) its loss is NaN, from `bad_norm_at` on
    another metric is infinite, and step `bad_params_at` makes the parameters NaN.
    """
    tx = adam(1e-2)

    def init(rng):
        params = {"mean": {"pixels": 0.1 * jax.random.normal(rng, data.spec.image_shape)}}
        memory = jnp.zeros((data.spec.size,))
        return State(jnp.int32(0), params, {"player": tx.init(params)}, {"memory": memory})

    def errors(p, x):
        return jnp.sum(jnp.square(x - p["mean"]["pixels"][None]), axis=(1, 2, 3))

    def step(state, batch, rng, axis_name=None):
        x = batch["image"] + 0.1 * jax.random.normal(rng, batch["image"].shape)
        index, seen = all_gather((batch["index"], errors(state.params, x)), axis_name)
        memory = state.extra["memory"].at[index].set(seen)
        now = state.step + 1

        def loss(p):
            mean = jnp.mean(errors(p, x))
            norm = jnp.sqrt(jnp.sum(jnp.square(p["mean"]["pixels"])))
            if bad_loss_at > 0:
                mean = jnp.where(now >= bad_loss_at, jnp.nan, mean)
            if bad_norm_at > 0:
                norm = jnp.where(now >= bad_norm_at, jnp.inf, norm)
            return mean, {"loss": mean, "norm": norm}

        params, opt, metrics = descend(loss, tx, state.params, state.opt["player"], axis_name)
        if bad_params_at > 0:
            params = jax.tree.map(lambda p: jnp.where(now == bad_params_at, jnp.nan, p), params)
        return State(now, params, {"player": opt}, {"memory": memory}), metrics

    def evaluate(state, batch, rng):
        return {"loss": errors(state.params, batch["image"])}

    def refresh(state, batch, rng):
        row = jnp.where(batch["index"] < 0, data.spec.size, batch["index"])
        seen = errors(state.params, batch["image"])
        return state.replace(extra={"memory": state.extra["memory"].at[row].set(seen, mode="drop")})

    return Model(init, step, evaluate, refresh=refresh)


def leaves(tree: Any) -> dict[str, np.ndarray]:
    """Every array of a tree under its path, on the host."""
    return {
        jax.tree_util.keystr(path): np.array(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def x64():
    """A context, or a decorator, in which jax keeps float64. Its name depends on jax's version."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64

    return enable_x64(True)


def in_float64(tree: Any) -> Any:
    """The same tree with every real number in float64; for use under `x64`."""
    wider = lambda x: x.astype(np.float64) if jnp.issubdtype(x.dtype, np.floating) else x
    return jax.tree.map(wider, tree)


def rounding(terms: int, size: Any = 1.0) -> Any:
    """How far a sum of float32 numbers may be off: terms * 2^-24 * size.

    `terms` is how many numbers are added, and one more for each rounding (of an input, a product, a
    function) that a number has behind it; `size` is the sum of their magnitudes. Holds for every
    order of the additions, fused or not, and so for every processor. For numbers of one sign it is
    a relative error. Source: Higham 2002, Accuracy and Stability of Numerical Algorithms, (4.4).
    """
    return terms * 2.0**-24 * size


def assert_same_bits(found: Any, wanted: Any) -> None:
    """The trees have the same leaves, and each the same bytes."""
    found, wanted = leaves(found), leaves(wanted)
    assert found.keys() == wanted.keys()
    different = [
        name for name in wanted
        if (found[name].dtype, found[name].shape) != (wanted[name].dtype, wanted[name].shape)
        or found[name].tobytes() != wanted[name].tobytes()
    ]  # fmt: skip
    assert not different, different


def assert_close(found: Any, wanted: Any, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """The trees have the same leaves up to rounding."""
    found, wanted = leaves(found), leaves(wanted)
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol, atol, err_msg=name)
