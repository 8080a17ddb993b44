"""What a model knows of its data, kept in the run's folder: it can be loaded without the data.

`config.json` holds `spec`: the fields of `jaxae.training.Spec`, the steps from raw pixels to those
that the model sees, the number of validation images, and the SHA-256 of the file with the mean
image. Folders of earlier versions have none.
"""

import hashlib
import io
import pathlib
from typing import Any, NamedTuple

import numpy as np

from jaxae.data import Data
from jaxae.data.split import Pipeline
from jaxae.training import Spec
from jaxae.training.workdir import WorkdirError, write_atomically

MEAN = "mean_image.npy"


class Known(NamedTuple):
    """What a run knows of its data without the images."""

    spec: Spec
    pipeline: Pipeline
    """from raw pixels to those that the model sees, as held-out images take it"""
    validation: int
    """images that the best checkpoint is chosen by"""


def known(data: Data) -> Known:
    """What a run knows of a data set without the images."""
    validation = 0 if data.validation is None else data.validation.size
    return Known(data.spec, data.test.pipeline, validation)


def as_json(known: Known) -> dict[str, Any]:
    """The entry `spec` of config.json."""
    mean = hashlib.sha256(_mean_bytes(known.spec)).hexdigest()
    return {
        **known.spec._replace(mean=mean)._asdict(),
        "pipeline": known.pipeline._asdict(),
        "validation": known.validation,
    }


def write_mean(folder: pathlib.Path, spec: Spec) -> None:
    """Writes the mean image into a run's folder, where it is not there as it should be.

    Raises:
        WorkdirError: the file cannot be written.
    """
    file, wanted = folder / MEAN, _mean_bytes(spec)
    try:
        if not file.exists() or file.read_bytes() != wanted:
            write_atomically(file, wanted)
    except OSError as error:
        raise WorkdirError(f"{file} cannot be written: {error}") from error


def read(folder: pathlib.Path, config: dict) -> Known | None:
    """What the run in a folder knows of its data; None where an earlier version began it.

    Args:
        config: what its config.json holds.
    Raises:
        WorkdirError: the mean image is missing or not what was written.
    """
    held = config.get("spec")
    if held is None:
        return None
    file = folder / MEAN
    try:
        data = file.read_bytes()
    except OSError as error:
        data, wrong = b"", str(error)
    else:
        wrong = "it was changed or is damaged (its checksum does not match)"
    if hashlib.sha256(data).hexdigest() != held["mean"]:
        raise WorkdirError(
            f"{file} cannot be read: {wrong}; put it back, or let `jaxae evaluate --workdir "
            f"{folder}` write it again from the data"
        )
    fields = {name: held[name] for name in Spec._fields}
    mean = np.load(io.BytesIO(data), allow_pickle=False)
    spec = Spec(**fields | {"image_shape": tuple(held["image_shape"]), "mean": mean})
    return Known(spec, Pipeline(**held["pipeline"]), held["validation"])


def _mean_bytes(spec: Spec) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(spec.mean, "<f4"), allow_pickle=False)
    return file.getvalue()
