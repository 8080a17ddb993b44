"""Properties of the data, stored in the run's folder: the run can be loaded without the data.

`config.json` has an entry `spec`: the fields of `jaxae.training.Spec`, the preprocessing from raw
pixels to the input of the model, the number of validation images, and the SHA-256 of the file with
the mean image. Folders of earlier versions have no such entry.
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
    """Properties of the data of a run, without the images."""

    spec: Spec
    pipeline: Pipeline
    """preprocessing of held-out images, from raw pixels to the input of the model"""
    validation: int
    """number of validation images, by which the best checkpoint is chosen"""


def known(data: Data) -> Known:
    """The properties of a data set, without the images."""
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
    """Writes the mean image into a run's folder, if it is missing or differs.

    Raises:
        WorkdirError: the file cannot be written.
    """
    file, content = folder / MEAN, _mean_bytes(spec)
    try:
        if not file.exists() or file.read_bytes() != content:
            write_atomically(file, content)
    except OSError as error:
        raise WorkdirError(f"{file} cannot be written: {error}") from error


def read(folder: pathlib.Path, config: dict) -> Known | None:
    """The stored properties of the data; None if an earlier version began the run.

    Args:
        config: the content of config.json.
    Raises:
        WorkdirError: the mean image is missing or was changed.
    """
    stored = config.get("spec")
    if stored is None:
        return None
    file = folder / MEAN
    try:
        data = file.read_bytes()
    except OSError as error:
        data, problem = b"", str(error)
    else:
        problem = "it was changed or is damaged (its checksum does not match)"
    if hashlib.sha256(data).hexdigest() != stored["mean"]:
        raise WorkdirError(
            f"{file} cannot be read: {problem}; put it back, or let `jaxae evaluate --workdir "
            f"{folder}` write it again from the data"
        )
    fields = {name: stored[name] for name in Spec._fields}
    mean = np.load(io.BytesIO(data), allow_pickle=False)
    spec = Spec(**fields | {"image_shape": tuple(stored["image_shape"]), "mean": mean})
    return Known(spec, Pipeline(**stored["pipeline"]), stored["validation"])


def _mean_bytes(spec: Spec) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(spec.mean, "<f4"), allow_pickle=False)
    return file.getvalue()
