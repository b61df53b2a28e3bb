"""CIFAR-10 and CIFAR-100, from their binary versions, since the Python versions are pickles, which can run code.

A record is its labels, one byte each (CIFAR-100: the coarse one first), then 1,024 red, 1,024 green and 1,024 blue
bytes in row-major order (https://www.cs.toronto.edu/~kriz/cifar.html, section "Dataset layout", "Binary version").
"""

from pathlib import Path

import numpy as np

from latentline.core.errors import UserError
from stages.download.archives import read_tar_gz
from stages.download.fetch import md5
from stages.download.images import ArrayImages
from stages.download.source import Card, Source, SourceOptions, SourceSplit
from stages.download.sources.files import publisher_files

_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
_CITATION = (
    "A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images. "
    "Technical report, University of Toronto, 2009"
)
_LICENCE = "none stated by its publisher"
_PIXELS = 3 * 32 * 32
_LARGEST = 1 << 28  # bytes of one file in the archive


def read_cifar10(options: SourceOptions) -> Source:
    """Return 50,000 + 10,000 colour 32x32 images in 10 classes."""
    archive = md5(
        "cifar-10-binary.tar.gz",
        "c32a1d4ab5d03f1284b67883e8d87530",
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    )
    path = publisher_files(options, "CIFAR-10", [archive], _PAGE)[archive.name]
    folder = "cifar-10-batches-bin"
    train = [f"{folder}/data_batch_{number}.bin" for number in range(1, 6)]
    return _read(path, "cifar10", f"{folder}/batches.meta.txt", train, f"{folder}/test_batch.bin", label_bytes=1)


def read_cifar100(options: SourceOptions) -> Source:
    """Return 50,000 + 10,000 colour 32x32 images in 100 classes (the fine labels)."""
    archive = md5(
        "cifar-100-binary.tar.gz",
        "03b5dce01913d631647c71ecec9e9cb8",
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    )
    path = publisher_files(options, "CIFAR-100", [archive], _PAGE)[archive.name]
    folder = "cifar-100-binary"
    return _read(
        path, "cifar100", f"{folder}/fine_label_names.txt", [f"{folder}/train.bin"], f"{folder}/test.bin", label_bytes=2
    )


def _read(path: Path, name: str, names_file: str, train: list[str], test: str, *, label_bytes: int) -> Source:
    files = read_tar_gz(path, [names_file, *train, test], _LARGEST)
    classes = tuple(files[names_file].decode("ascii").split())
    splits = {
        "train": _split(b"".join(files[part] for part in train), len(classes), label_bytes, path),
        "test": _split(files[test], len(classes), label_bytes, path),
    }
    return Source(Card(name, classes, _LICENCE, _PAGE, _CITATION), splits)


def _split(content: bytes, classes: int, label_bytes: int, path: Path) -> SourceSplit:
    if not content or len(content) % (label_bytes + _PIXELS):
        size = label_bytes + _PIXELS
        raise UserError(f"{path} ({len(content)} bytes) must be whole records of {size} bytes; fetch it again")
    records = np.frombuffer(content, np.uint8).reshape(-1, label_bytes + _PIXELS)
    labels = records[:, label_bytes - 1].astype(np.int64)
    if labels.max() >= classes:
        raise UserError(f"{path} (label {labels.max()}) must have labels below {classes}; fetch it again")
    return SourceSplit(ArrayImages(records[:, label_bytes:].reshape(-1, 3, 32, 32)), labels)
