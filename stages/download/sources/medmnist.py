"""MedMNIST: medical images of one size, one .npz file per data set and size.

A file holds ``{train,val,test}_images`` uint8 (N, S, S) or (N, S, S, 3) and ``{train,val,test}_labels`` (N, 1), or
(N, L) where an image has several labels (https://github.com/MedMNIST/MedMNIST, "How to access the data"). Names,
addresses and checksums are those of the medmnist package.
"""

from pathlib import Path

import numpy as np

from latentline.core.attributes import Attribute
from latentline.core.errors import UserError
from stages.download.fetch import md5
from stages.download.images import ArrayImages
from stages.download.source import Card, Source, SourceOptions, SourceSplit
from stages.download.sources.array import as_channels_first, map_npz
from stages.download.sources.files import publisher_files

_CITATION = (
    "J. Yang et al.: MedMNIST v2: A large-scale lightweight benchmark for 2D and 3D biomedical image classification. "
    "Scientific Data 10, 2023"
)


def read_medmnist(options: SourceOptions) -> Source:
    """Return the data set ``options.name``: classes, or binary attributes where an image has several labels."""
    try:
        from medmnist import INFO
    except ImportError:
        raise UserError(
            f"data.name ({options.name}) needs the package medmnist; `.venv/bin/pip install -e '.[medmnist]'`"
        ) from None

    info = INFO[options.name]
    size = "" if options.medmnist_size == 28 else f"_{options.medmnist_size}"
    file = md5(f"{options.name}{size}.npz", info[f"MD5{size}"], info[f"url{size}"])
    path = publisher_files(options, info["python_class"], [file], "https://medmnist.com")[file.name]
    names = tuple(info["label"][str(index)] for index in range(len(info["label"])))
    several = info["task"].startswith("multi-label")
    card = Card(
        name=options.name,
        classes=() if several else names,
        licence=info["license"],
        source="https://medmnist.com",
        citation=_CITATION,
        attributes=tuple(Attribute(name, "binary") for name in names) if several else (),
    )
    try:
        arrays = map_npz(path, options.scratch)
        return Source(
            card,
            {
                split: _split(arrays[f"{split}_images"], arrays[f"{split}_labels"], len(names), several, path)
                for split in ("train", "val", "test")
            },
        )
    except (ValueError, KeyError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} ({error}) must be a MedMNIST file; fetch it again") from None


def _split(images: np.ndarray, raw: np.ndarray, names: int, several: bool, path: Path) -> SourceSplit:
    width = names if several else 1
    if raw.shape != (len(images), width) or raw.max() > (1 if several else names - 1):
        raise UserError(
            f"{path} (labels {raw.shape} up to {raw.max()}) must have labels ({len(images)}, {width}) "
            f"of {names} names; fetch it again"
        )
    source = ArrayImages(as_channels_first(images, str(path)))
    if several:
        return SourceSplit(source, attributes=raw.astype(np.float32))
    return SourceSplit(source, labels=raw[:, 0].astype(np.int64))
