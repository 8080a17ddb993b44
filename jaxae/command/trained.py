"""A trained model in one object: numpy arrays go in and come out, in batches of one size."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxae.command.run import EVALUATION_KEY, Run
from jaxae.data import Data
from jaxae.data.split import Pipeline, Split
from jaxae.evaluation.codes import on_images
from jaxae.evaluation.likelihood import log_likelihoods
from jaxae.evaluation.passes import over_split
from jaxae.settings import Settings, UsageError
from jaxae.training import Model, State
from jaxae.training.divergence import Diverged

BATCH = 100
_RESIDENT_MIB = 2**40  # arrays of a caller are never streamed


class Trained:
    """A model with its trained parameters, as `jaxae.load` and `jaxae.train` return it.

    Images are arrays or lists `[N,H,W,C]` (or `[N,H,W]` where C is 1), for any N, with the pixels
    that the training images had before preprocessing:

    - integers 0..L-1, where the training images had L levels: 0..255 for bytes, 0..16 for `digits`;
      for a model of continuous pixels bytes, 0..255;
    - or floats in [0, 1], or bool.

    They are treated as held-out images of the data set are: scaled, and standardised, dequantised
    or binarised as the run's options say. Binarisation depends on an image's position in the array.

    If the input images are integers, output images have their dtype, rounded and clipped; otherwise
    they are float32 in units of [0, 1], neither rounded nor clipped. Without input images
    (`sample`, `decode`) they are uint8 for a model that was trained on bytes (256 levels) and
    float32 for any other. `dtype=` chooses another dtype.

    Every method computes `batch_size` images at a time and pads the last batch, so that it compiles
    once for all N. The result for an image does not depend on the number of other images.

    Raises (all methods with array results):
        UsageError: the model lacks the capability, or the arrays do not fit it.
        Diverged: the result has NaN or infinity.

    Attributes:
        model: the bundle of pure functions (`jaxae.training.Model`).
        state: its trained state, prepared for evaluation.
        states: the states of all seeds of the run.
        step: number of training steps.
        seed: the training seed of `state`.
        config: the run's `Settings`: `config.model`, `config.plan`, `config.options`, ...
        name: of the model, such as "vae".
        batch_size: images per batch.
    """

    def __init__(
        self, run: Run, states: list[State], step: int, seed: int | None = None,
        batch_size: int = BATCH,
    ):  # fmt: skip
        plan = run.settings.plan
        seeds = [plan.seed + i for i in range(plan.seeds)]
        self.seed = seeds[0] if seed is None else seed
        if self.seed not in seeds:
            raise UsageError(f"seed={seed}: this run has the seeds {seeds[0]} to {seeds[-1]}")
        self._run, self.states, self.step = run, states, step
        self.state: State = states[seeds.index(self.seed)]
        self.model: Model = run.model
        self.config: Settings = run.settings
        self.name, self.batch_size = run.name, batch_size

    def __repr__(self) -> str:
        return f"<Trained {self.name} on {self.config.data}, step {self.step}, seed {self.seed}>"

    @property
    def data(self) -> Data:
        """The data set that it was trained on; loaded on first use.

        Raises:
            DataError: it is missing or broken.
            UsageError: it has changed, or was given as arrays from Python.
        """
        return self._run.data

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """H, W, C of an image."""
        return self._run.known.spec.image_shape

    def encode(self, images: Any) -> np.ndarray:
        """Codes `[N,Z]` float32 of images."""
        return self._of_images("encode", images)

    def predict(self, images: Any) -> np.ndarray:
        """Logits `[N,K]` of the classes or clusters of images."""
        return self._of_images("predict", images)

    def decode(self, codes: Any, dtype: Any = None) -> np.ndarray:
        """Images `[N,H,W,C]` of codes `[N,Z]`: means of pixels, or samples for a model without
        means (`model.draws`).

        Args:
            codes: as `encode` gives them.
            dtype: of the images; see the class.
        """
        decode = self._compiled("decode")
        codes, width = np.asarray(codes, np.float32), self._code_width
        if codes.ndim != 2 or not len(codes) or width not in (None, codes.shape[1]):
            wanted = "Z" if width is None else width
            raise UsageError(f"codes of {self.name} are [N,{wanted}], these are {codes.shape}")
        padded, key = self._padded(codes), jax.random.key(EVALUATION_KEY)
        parts = []
        for number, first in enumerate(range(0, len(padded), self.batch_size)):
            batch = padded[first : first + self.batch_size]
            parts.append(np.asarray(decode(self.state, batch, jax.random.fold_in(key, number))))
        return self._to_pixels(np.concatenate(parts)[: len(codes)], dtype, "decoded images")

    def reconstruct(self, images: Any, dtype: Any = None) -> np.ndarray:
        """Reconstructions `[N,H,W,C]` of images.

        Args:
            images: see the class.
            dtype: of the reconstructions; see the class.
        """
        self.require("encode", "decode")
        return self.decode(self.encode(images), _dtype_like(images, dtype))

    def sample(self, n: int = 1, seed: int = 0, dtype: Any = None) -> np.ndarray:
        """Samples `[n,H,W,C]` of the model.

        Args:
            n: number of samples; for one seed, those of a smaller n are the first of a larger n.
            seed: of the noise.
            dtype: of the images; see the class.
        """
        return np.concatenate([*self.sample_batches(n, seed, dtype)])

    def sample_batches(self, n: int, seed: int = 0, dtype: Any = None) -> Iterator[np.ndarray]:
        """As `sample`, but yields batches of `batch_size` images."""
        sample = self._compiled("sample", static_argnums=2)
        if n < 1:
            raise UsageError(f"n={n}: must be at least 1")
        key = jax.random.key(seed)
        for first in range(0, n, self.batch_size):
            batch = sample(self.state, jax.random.fold_in(key, first), self.batch_size)
            yield self._to_pixels(np.asarray(batch)[: n - first], dtype, "samples")

    def interpolate(self, a: Any, b: Any, steps: int = 8, dtype: Any = None) -> np.ndarray:
        """Decoded codes (1 - t) code(a) + t code(b): `[N,steps,H,W,C]`.

        Args:
            a: N images; `b` has as many.
            steps: number of evenly spaced t from 0 to 1; first and last images are reconstructions.
            dtype: of the images; see the class.
        """
        self.require("encode", "decode")
        if steps < 2:
            raise UsageError(f"steps={steps}: an interpolation has at least 2 images")
        left, right = self.encode(a), self.encode(b)
        if len(left) != len(right):
            raise UsageError(f"a and b are {len(left)} and {len(right)} images: give as many")
        share = np.linspace(0, 1, steps, dtype=np.float32)[None, :, None]
        mixed = (1 - share) * left[:, None] + share * right[:, None]
        images = self.decode(mixed.reshape(-1, mixed.shape[-1]), _dtype_like(a, dtype))
        return images.reshape(len(left), steps, *images.shape[1:])

    def log_likelihood(self, images: Any, k: int = 100, seed: int = 0) -> np.ndarray:
        """The importance-weighted bound of log p(x) of images: `[N]` float64, nats per image.

        It refers to the preprocessed pixels: with binarisation a probability of bits, with
        dequantisation or standardisation a density. Its expectation grows with k.

        Args:
            images: see the class.
            k: samples of the code for each image.
            seed: of these samples.
        Source: Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519.
        """
        self.require("log_weight")
        if k < 1:
            raise UsageError(f"k={k}: must be at least 1")
        split, count = self._split(images)
        _, bound = log_likelihoods(
            self.model, self.state, split, samples=k, batch_size=self.batch_size,
            rng=jax.random.key(seed),
        )  # fmt: skip
        return _finite(bound[:count], "the log-likelihoods")

    def as_floats(self, images: Any) -> np.ndarray:
        """Images as float32 in [0, 1], `[N,H,W,C]`; for the accepted images see the class."""
        raw, pipeline = self._raw(images)
        return raw.astype(np.float32) / np.float32(max(pipeline.levels - 1, 1))

    # -- capabilities ------------------------------------------------------------------------------

    def require(self, *capabilities: str) -> None:
        """Raises UsageError if the model lacks one of these functions of `Model`."""
        for capability in capabilities:
            self._function(capability)

    def _function(self, capability: str) -> Callable:
        function = getattr(self.model, capability)
        if function is None:
            available = [c for c in ("encode", "decode", "sample", "predict", "log_weight")
                     if getattr(self.model, c)]  # fmt: skip
            names = ", ".join(_NAMES.get(c, c) for c in available)
            missing = _NAMES.get(capability, capability)
            raise UsageError(f"model {self.name} has no {missing} (it has: {names})")
        return function

    def _compiled(self, capability: str, **jit_options: Any) -> Callable:
        compiled = self.__dict__.setdefault("_compiled_functions", {})
        if capability not in compiled:
            compiled[capability] = jax.jit(self._function(capability), **jit_options)
        return compiled[capability]

    def _of_images(self, capability: str, images: Any) -> np.ndarray:
        """The output of a capability for each image, each with a key of its own."""
        function = on_images(self._function(capability))
        split, count = self._split(images)
        key = jax.random.key(EVALUATION_KEY)
        values = over_split(function, self.state, split, self.batch_size, key)[:count]
        return _finite(values, "the codes" if capability == "encode" else "the logits")

    @functools.cached_property
    def _code_width(self) -> int | None:
        """Z; None if the model has neither `encode` nor `prior`."""
        key = jax.random.key(0)
        if self.model.encode is not None:
            image = jax.ShapeDtypeStruct((1, *self.image_shape), np.float32)
            return jax.eval_shape(self.model.encode, self.state, image, key).shape[-1]
        if self.model.prior is not None:
            return jax.eval_shape(lambda key: self.model.prior(key, 1), key).shape[-1]
        return None

    # -- pixels ------------------------------------------------------------------------------------

    def _padded(self, rows: np.ndarray) -> np.ndarray:
        """The rows, with the last one repeated up to whole batches."""
        missing = -len(rows) % self.batch_size
        return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])

    def _split(self, images: Any) -> tuple[Split, int]:
        """Images as a split of whole batches, and their number without padding."""
        raw, pipeline = self._raw(images)
        return Split(self._padded(raw), None, None, pipeline, _RESIDENT_MIB), len(raw)

    def _raw(self, images: Any) -> tuple[np.ndarray, Pipeline]:
        """Raw pixels, and the pipeline that preprocesses them."""
        images, shape, pipeline = _array(images), self.image_shape, self._run.known.pipeline
        if images.ndim == 3 and shape[-1] == 1:
            images = images[..., None]
        if images.shape[1:] != shape or not len(images):
            raise UsageError(
                f"{self.name} takes images [N,{','.join(map(str, shape))}], these are "
                f"{list(images.shape)}"
            )
        integers = np.issubdtype(images.dtype, np.integer)
        if not integers and images.dtype != bool and not np.issubdtype(images.dtype, np.floating):
            raise UsageError(f"images are integers, floats or bool, these are {images.dtype}")
        highest = _largest_pixel(pipeline) if integers else 1
        if not (images.min() >= 0 and images.max() <= highest):  # NaN fails too
            raise UsageError(
                f"{self.name} takes {'integers in 0..' if integers else 'floats in 0..'}{highest}, "
                f"these images hold {images.min()} to {images.max()}"
            )
        if integers and pipeline.levels:
            return images.astype(np.uint8), pipeline
        images = images.astype(np.float32) / np.float32(highest)
        if pipeline.dequantise:
            return images * np.float32(pipeline.levels - 1), pipeline
        return images, pipeline._replace(levels=0)

    def _to_pixels(self, images: np.ndarray, dtype: Any, what: str) -> np.ndarray:
        """Output images of the model, converted to raw pixels of the given dtype."""
        pipeline, images = self._run.known.pipeline, _finite(images, f"the {what}")
        if dtype is None:
            dtype = np.uint8 if pipeline.levels == 256 else np.float32
        if pipeline.standardise:
            images = images * np.float32(pipeline.std) + np.float32(pipeline.mean)
        if pipeline.dequantise:  # the middle of each level
            images = (images * pipeline.levels - 0.5) / (pipeline.levels - 1)
        if np.issubdtype(dtype, np.integer):
            if np.iinfo(dtype).max < _largest_pixel(pipeline):
                raise UsageError(
                    f"dtype={np.dtype(dtype)} does not hold 0..{_largest_pixel(pipeline)}"
                )
            images = np.rint(np.clip(images, 0, 1) * _largest_pixel(pipeline))
        return images.astype(dtype)


_NAMES = {"log_weight": "log_likelihood"}


def _largest_pixel(pipeline: Pipeline) -> int:
    """The largest integer value of a pixel."""
    return pipeline.levels - 1 if pipeline.levels else 255


def _array(images: Any) -> np.ndarray:
    try:
        return np.asarray(images)
    except ValueError as error:
        raise UsageError("the images cannot be one array: they differ in shape") from error


def _dtype_like(images: Any, dtype: Any) -> Any:
    """The dtype of output images: `dtype`, or if it is None, that of integer input images."""
    if dtype is not None:
        return dtype
    given = _array(images).dtype
    return given if np.issubdtype(given, np.integer) else np.float32


def _finite(values: np.ndarray, what: str) -> np.ndarray:
    if not np.isfinite(values).all():
        raise Diverged(f"{what} hold NaN or infinity: the run has diverged")
    return values
