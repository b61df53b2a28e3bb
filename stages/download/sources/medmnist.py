"""MedMNIST: medical images of one size, one .npz file per data set and size.

A file holds ``{train,val,test}_images`` uint8 (N, S, S) or (N, S, S, 3) and ``{train,val,test}_labels`` (N, 1), or (N, L) where
an image has several labels (https://github.com/MedMNIST/MedMNIST, "How to access the data"). Names, addresses and checksums
are those of the medmnist package.
"""

from pathlib import Path

import numpy as np

from latentline.core.attributes import Column
from latentline.core.errors import UserError
from stages.download.fetch import md5
from stages.download.images import ArrayImages
from stages.download.source import Card, Request, Source, SourceSplit
from stages.download.sources.array import as_channels_first, map_npz
from stages.download.sources.files import publisher_files

_CITATION = "J. Yang et al.: MedMNIST v2: A large-scale lightweight benchmark for 2D and 3D biomedical image classification. Scientific Data 10, 2023"


def read_medmnist(request: Request) -> Source:
    """Data set ``request.name`` in size ``request.medmnist_size``; labels, or binary attributes where an image has several."""
    try:
        from medmnist import INFO
    except ImportError:
        raise UserError(f"data.name: {request.name} needs the package medmnist; install it with `pip install latentline[medmnist]`") from None

    info = INFO[request.name]
    size = "" if request.medmnist_size == 28 else f"_{request.medmnist_size}"
    file = md5(f"{request.name}{size}.npz", info[f"MD5{size}"], info[f"url{size}"])
    path = publisher_files(request, info["python_class"], [file], "https://medmnist.com")[file.name]
    names = tuple(info["label"][str(index)] for index in range(len(info["label"])))
    several = info["task"].startswith("multi-label")
    card = Card(
        name=request.name,
        classes=() if several else names,
        licence=info["license"],
        source="https://medmnist.com",
        citation=_CITATION,
        attributes=tuple(Column(name, "binary") for name in names) if several else (),
    )
    try:
        arrays = map_npz(path, request.scratch)
        return Source(
            card,
            {split: _split(arrays[f"{split}_images"], arrays[f"{split}_labels"], len(names), several, path) for split in ("train", "val", "test")},
        )
    except (ValueError, KeyError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not a MedMNIST file ({error}); fetch it again") from None


def _split(images: np.ndarray, raw: np.ndarray, names: int, several: bool, path: Path) -> SourceSplit:
    width = names if several else 1
    if raw.shape != (len(images), width) or raw.max() > (1 if several else names - 1):
        raise UserError(f"{path}: labels are {raw.shape} up to {raw.max()}, expected ({len(images)}, {width}) of {names} names; fetch it again")
    source = ArrayImages(as_channels_first(images, str(path)))
    if several:
        return SourceSplit(source, attributes=raw.astype(np.float32))
    return SourceSplit(source, labels=raw[:, 0].astype(np.int64))
