"""Reconstruction error of test images."""

import math
from typing import Any

import jax
import numpy as np

from jaxae.evaluation.codes import decode_codes, encode_split, pixels_of
from jaxae.evaluation.kinds import comparable, kind_of_images, pixel_difference
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
    """Errors of decode(encode(x)) against test images of the kind that `decode` returns.

    A mean image is compared with the grey levels of x, and a sample of p(x|z) with x as in training
    (bits if it is binarised). These two numbers are not comparable: a sample has a larger error, on
    average twice that of the mean. Codes are always of the preprocessed x. The `mse` of
    `Model.evaluate` may be defined differently: from a sampled code, before an image is cropped to
    its size, or against bits.

    Args:
        model: the bundle.
        state: the trained state.
        data: a data set with `test`.
        batch_size: images encoded at a time; affects speed and memory only.
        rng: for encoders or decoders that sample.
        limit: number of test images, evenly spaced; None for all.
    Returns:
        `mse`: squared error, mean over pixels and then over images, in the squared unit of x, with
        its standard error over images `mse_se`; `psnr_db`: 10 log10(peak^2 / mse), of the mean
        error (the mean over images would be infinite with one perfect image), None if the error is
        0, higher is better; `peak`: the range of pixel values, 1 unless the images are dequantised
        or standardised; `of` (draw or mean) and `against` (bits or grey): what was compared;
        `images`: their number. None for models that cannot encode or decode.
    Raises:
        ValueError: codes or images are not finite.
    """
    if model.encode is None or model.decode is None:
        return None
    of_codes, of_images = jax.random.split(rng)
    codes, _ = encode_split(model, state, data.test, batch_size, of_codes, limit)
    decoded = decode_codes(model, state, codes, of_images).reshape(len(codes), -1)
    if not np.isfinite(decoded).all():
        raise ValueError("decoded images hold NaN or infinity: the run has diverged")
    reference = comparable(model, data)
    errors = np.square(decoded - pixels_of(reference.test, batch_size, limit), dtype=np.float64)
    error = summary("mse", errors.mean(axis=1))
    peak = pixel_range(reference)
    return {
        **error,
        **kind_of_images(model, reference),
        "psnr_db": 10 * math.log10(peak**2 / error["mse"]) if error["mse"] > 0 else None,
        "peak": peak,
        "images": len(codes),
    }


def pixel_range(data: Any) -> float:
    """Difference between the highest and the lowest pixel value after preprocessing."""
    return pixel_difference(data, max(data.test.levels - 1, 1))
