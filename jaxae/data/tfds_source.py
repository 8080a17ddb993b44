"""Sets prepared by tensorflow-datasets, read without TensorFlow: `tfds:<name>[:<config>]`."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from jaxae.data.pictures import convert_image, map_in_threads
from jaxae.data.source import DataError, Images, Options, Raw, blocks, split_test, take


class Records:
    """Examples of a prepared split, with the interface of an array `[N,H,W,C]` uint8."""

    dtype = np.dtype(np.uint8)

    def __init__(self, source: Any, shape: tuple[int, ...], options: Options) -> None:
        self.shape = (len(source), *shape)
        self._source = source
        self._options = options

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return self.read(indices)[0]

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, list[int | None]]:
        """Images `[B,H,W,C]` and their labels (None if there are none)."""
        images = np.empty((len(indices), *self.shape[1:]), self.dtype)
        examples = map_in_threads(self._example, indices)
        for place, (image, _) in enumerate(examples):
            images[place] = image
        return images, [label for _, label in examples]

    def _example(self, position: int) -> tuple[np.ndarray, int | None]:
        try:
            example = self._source[int(position)]
        except Exception as error:  # a damaged file can raise anything
            raise DataError(
                f"record {position} of {self._source} is unreadable: {error}"
            ) from error
        return self._convert(example["image"]), example.get("label")

    def _convert(self, image: np.ndarray) -> np.ndarray:
        if not self._options.image_size and self._options.colour == "auto":
            return image
        from PIL import Image

        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        return convert_image(picture, self._options.image_size, grey=self.shape[-1] == 1)


def tfds_set(name: str, options: Options, data_dir: Path | None) -> Raw:
    """The feature `image`, and `label` if it is one integer, of a set prepared as array_record.

    Splits `train`, `test` and `validation`. Without `test`, or if all its labels are -1 (withheld),
    the test images are those of `validation`, and there are no validation images; without both, a
    tenth of the training images is held out. Searched in `data_dir`, then in the default folder of
    tensorflow-datasets.

    Args:
        name: `<name>` or `<name>:<config>`.
    Raises:
        DataError: unknown name, not prepared, prepared in another format, or not images.
    """
    builder = _prepared(name.replace(":", "/", 1), data_dir)
    features, splits = builder.info.features, builder.info.splits
    shape = _shape(name, features, options)
    label = dict(features.items()).get("label")
    labelled = label is not None and label.shape == () and np.issubdtype(label.np_dtype, np.integer)
    if "train" not in splits:
        raise DataError(f"tfds:{name} has no split named train, only {', '.join(splits)}")
    source, others = _source(builder, "train"), [s for s in ("test", "validation") if s in splits]
    read_all = lambda source: _read(Records(source, shape, options), labelled, options)
    names = getattr(label, "names", None)
    train = read_all(source)
    if not others:
        images, labels = train
        halves = []
        for part in split_test(len(source), labels):
            halves += [take(images, part), labels[part] if labelled else None]
        return Raw(*halves, levels=256, class_names=names)
    parts = [read_all(_source(builder, other)) for other in others]
    if labelled and (parts[0][1] == -1).all():
        parts = parts[1:] or parts
    test, *validation = parts
    raw = Raw(*train, *test, levels=256, class_names=names)
    for images, labels in validation:
        raw = raw._replace(validation=images, validation_labels=labels)
    return raw


def _prepared(name: str, data_dir: Path | None) -> Any:
    import tensorflow_datasets as tfds

    searched, problems = [], []
    for folder in (data_dir, None) if data_dir else (None,):
        try:
            builder = tfds.builder(name, data_dir=folder, file_format="array_record")
        except Exception as error:  # tfds has several types for a wrong name or format
            problems.append(error)
            continue
        searched.append(Path(builder.data_dir))
        if (searched[-1] / "dataset_info.json").is_file():
            return builder
    if problems and not searched:
        reason = str(problems[-1]).splitlines()[0]
        raise DataError(f"tfds:{name} cannot be opened: {reason}") from problems[-1]
    where = f", data_dir='{data_dir}'" if data_dir else ""
    raise DataError(
        f"tfds:{name} is not prepared (searched in {', '.join(map(str, searched))}). Prepare it "
        "once, with a network connection and `pip install tensorflow-cpu`:\n"
        '  python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('{name}'{where}, file_format='array_record').download_and_prepare()\"\n"
        "or use --data digits, which needs no files"
    )


def _source(builder: Any, split: str) -> Any:
    try:
        return builder.as_data_source(split=split)
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
        raise DataError(f"tfds:{name}: images differ in size; resize them with --image-size")
    if options.image_size and options.colour == "auto":
        return height, width, 1 if channels == 1 else 3
    return height, width, {"auto": channels, "grey": 1, "rgb": 3}[options.colour]


def _read(records: Records, labelled: bool, options: Options) -> tuple[Images, np.ndarray | None]:
    """The images, as an array if they fit, and all labels, from one pass over the records."""
    fits = math.prod(records.shape) <= options.resident_mib * 2**20
    images = np.empty(records.shape, np.uint8) if fits else records
    labels = np.empty(records.shape[0], np.int64) if labelled else None
    if fits or labelled:
        for positions in blocks(records):
            part, numbers = records.read(positions)
            if fits:
                images[positions] = part
            if labelled:
                labels[positions] = numbers
    return images, labels
