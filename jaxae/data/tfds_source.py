"""What tensorflow-datasets has prepared, read without TensorFlow: `tfds:<name>[:<config>]`."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxae.data.pictures import fitted
from jaxae.data.source import DataError, Options, Raw, hold_out


class Records:
    """Examples of a prepared split that look like an array `[N,H,W,C]` uint8."""

    dtype = np.dtype(np.uint8)

    def __init__(
        self, source: Any, positions: np.ndarray, shape: tuple[int, ...], options: Options
    ) -> None:
        self.shape = (len(positions), *shape)
        self._source = source
        self._positions = positions
        self._options = options

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        images = np.empty((len(indices), *self.shape[1:]), self.dtype)
        for place, index in enumerate(indices):
            images[place] = self._fitted(self._source[int(self._positions[index])]["image"])
        return images

    def _fitted(self, image: np.ndarray) -> np.ndarray:
        if not self._options.image_size and self._options.colour == "auto":
            return image
        from PIL import Image

        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        return fitted(picture, self._options.image_size, grey=self.shape[-1] == 1)


def tfds_set(name: str, options: Options, data_dir: Path | None) -> Raw:
    """The `image` and `label` features of a set that was prepared in the array_record format.

    Splits `train` and `test`; without `test`, `validation`; without both, a tenth of the training
    images is held out. Looked for in `data_dir`, then where tensorflow-datasets keeps its own.

    Args:
        name: `<name>` or `<name>:<config>`.
    Raises:
        DataError: unknown, unprepared, prepared in another format, or not images.
    """
    builder = _prepared(name.replace(":", "/", 1), data_dir)
    features, splits = builder.info.features, builder.info.splits
    shape = _shape(name, features, options)
    if "train" not in splits:
        raise DataError(f"tfds:{name} has no split named train, only {', '.join(splits)}")
    halves = ["train", next((s for s in ("test", "validation") if s in splits), "train")]
    sources = [_source(builder, half) for half in halves]
    if halves[1] == "train":
        positions = hold_out(len(sources[0]))
    else:
        positions = tuple(np.arange(len(source)) for source in sources)
    parts = []
    for half, source, chosen in zip(halves, sources, positions, strict=True):
        labels = _labels(builder, half)[chosen] if "label" in features else None
        parts += [Records(source, chosen, shape, options), labels]
    return Raw(*parts, levels=256)


def _prepared(name: str, data_dir: Path | None) -> Any:
    import tensorflow_datasets as tfds

    looked = []
    for folder in (data_dir, None) if data_dir else (None,):
        try:
            builder = tfds.builder(name, data_dir=folder, file_format="array_record")
        except Exception as error:  # tfds has several types for a wrong name or format
            raise DataError(f"tfds:{name} cannot be opened: {error}") from error
        looked.append(Path(builder.data_dir))
        if (looked[-1] / "dataset_info.json").is_file():
            return builder
    where = f", data_dir='{data_dir}'" if data_dir else ""
    raise DataError(
        f"tfds:{name} is not prepared (looked in {', '.join(map(str, looked))}). Prepare it once "
        "where there is a network, with `pip install tensorflow-cpu`:\n"
        '  python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('{name}'{where}, file_format='array_record').download_and_prepare()\"\n"
        "or use --data digits, which needs no files"
    )


def _source(builder: Any, split: str, decoders: Any = None) -> Any:
    try:
        return builder.as_data_source(split=split, decoders=decoders)
    except (NotImplementedError, ValueError) as error:
        raise DataError(
            f"tfds: {builder.data_dir} is not in the array_record format; prepare it again with "
            f"file_format='array_record' in another folder ({error})"
        ) from error


def _shape(name: str, features: Any, options: Options) -> tuple[int, int, int]:
    feature = dict(features.items()).get("image")
    if feature is None or len(feature.shape) != 3 or np.dtype(feature.np_dtype) != np.uint8:
        raise DataError(f"tfds:{name} has no feature `image` of shape [H,W,C] and type uint8")
    height, width, channels = feature.shape
    if options.image_size:
        height = width = options.image_size
    elif None in (height, width):
        raise DataError(f"tfds:{name}: images differ in size; bring them to one with --image-size")
    if options.image_size and options.colour == "auto":
        return height, width, 1 if channels == 1 else 3
    return height, width, {"auto": channels, "grey": 1, "rgb": 3}[options.colour]


def _labels(builder: Any, split: str) -> np.ndarray:
    from tensorflow_datasets.core import decode

    source = _source(builder, split, decoders={"image": decode.SkipDecoding()})
    return np.array([source[i]["label"] for i in range(len(source))], np.int32)
