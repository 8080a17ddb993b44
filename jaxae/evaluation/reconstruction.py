"""What an image loses on the way through its code."""

import math
from typing import Any

import jax
import numpy as np

from jaxae.evaluation.codes import decode_codes, encode_split, pixels_of
from jaxae.evaluation.kinds import comparable, described, seen_apart
from jaxae.evaluation.likelihood import summary
from jaxae.training.state import Model, State


def reconstruction(
    model: Model,
    state: State,
    data: Any,
    *,
    batch_size: int,
    rng: jax.Array,
    limit: int | None = None,
) -> dict[str, Any] | None:
    """Errors of decode(encode(x)) against test images of the kind that `decode` gives.

    A mean image is held against the grey levels of x, and a draw from p(x|z) against x as training
    sees it, bits where these are bits: two numbers that do not compare, since a draw has a larger
    error, on average twice that of the mean. The codes are always of x as the model sees it.
    `Model.evaluate` may count errors that it calls `mse` in another way: from a random code, or
    before the image is cut to its size, or against bits.

    Args:
        model: the bundle.
        state: the trained state.
        data: a data set with `test`.
        batch_size: images encoded at a time; affects speed and memory only.
        rng: for what the encoder or the decoder draws.
        limit: test images, evenly spread; None for all.
    Returns:
        `mse`: squared error, mean over pixels and then over images, in the squared unit of x, with
        its standard error over images `mse_se`; `psnr_db`: 10 log10(peak^2 / mse), of the mean
        error and not the mean over images (one perfect image would make that infinite), None where
        the error is 0, higher is better; `peak`: the range of pixel values, 1 unless the images are
        dequantised or standardised; `of` (draw or mean) and `against` (bits or grey): what was
        compared; `images`. None for models that cannot encode or decode.
    Raises:
        ValueError: codes or images are not finite.
    """
    if model.encode is None or model.decode is None:
        return None
    of_codes, of_images = jax.random.split(rng)
    codes, _ = encode_split(model, state, data.test, batch_size, of_codes, limit)
    back = decode_codes(model, state, codes, of_images).reshape(len(codes), -1)
    if not np.isfinite(back).all():
        raise ValueError("decode gives NaN or infinity: the run has diverged before this state")
    alike = comparable(model, data)
    errors = np.square(back - pixels_of(alike.test, batch_size, limit), dtype=np.float64)
    found = summary("mse", errors.mean(axis=1))
    peak = pixel_range(alike)
    return {
        **found,
        **described(model, alike),
        "psnr_db": 10 * math.log10(peak**2 / found["mse"]) if found["mse"] > 0 else None,
        "peak": peak,
        "images": len(codes),
    }


def pixel_range(data: Any) -> float:
    """What lies between the lowest and the highest pixel value, as a model sees the images."""
    return seen_apart(data, max(data.test.levels - 1, 1))
