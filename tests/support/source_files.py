"""Options and files for tests of sources: archives and folders in the form that publishers give them."""

import gzip
import hashlib
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from stages.download.prepare import Options
from stages.download.registry import read_source
from stages.download.source import Source, SourceOptions

PREPARE_OPTIONS = Options(
    image_size=None,
    channels=None,
    shares={"val": 0.2, "test": 0.2},
    limit=None,
    max_unreadable=0.0,
    horizontal_flip=False,
    seed=0,
    workers=0,
)
"""Prepare all images as they are, in this process."""


def options_for(
    name: str, folder: Path, *, root: Path | None = None, path: Path | None = None, labels: Path | None = None, **params
) -> SourceOptions:
    """Return options of a source whose other folders lie in ``folder``."""
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    none = folder / "no_labels.csv"
    none.write_text("\n")  # like the tracked placeholder
    settings = {"emnist_split": "balanced", "medmnist_size": 28, "timeout_seconds": 1.0, **params}
    return SourceOptions(
        name=name,
        path=path or folder / "nowhere",
        labels=labels or none,
        root=root,
        downloads=folder / "downloads",
        scratch=scratch,
        **settings,
    )


def read(name: str, folder: Path, **places) -> Source:
    return read_source(options_for(name, folder, **places))


def pixels(source: Source, split: str, row: int) -> np.ndarray:
    """Return image ``row`` in its own shape (C, H, W)."""
    images = source.splits[split].images
    return images.pixels(row, images.info(row).shape)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def idx(array: np.ndarray) -> bytes:
    """Return an IDX file: magic number, sizes (big-endian), then bytes.

    http://yann.lecun.com/exdb/mnist, "FILE FORMATS FOR THE MNIST DATABASE".
    """
    return gzip.compress(
        struct.pack(f">{1 + array.ndim}i", 2048 + array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    )


def encoded(image: np.ndarray | Image.Image, form: str = "PNG", **settings) -> bytes:
    """Return the file of an image (H, W) or (H, W, C) uint8."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, form, **settings)
    return buffer.getvalue()


def flat(level: int, size: tuple[int, int] = (4, 4), channels: int = 3) -> np.ndarray:
    """Return an image of one level, which JPEG keeps."""
    shape = size if channels == 1 else (*size, channels)
    return np.full(shape, level, np.uint8)


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def tar_bytes(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def fill_folder(folder: Path, names: list[str], first: int = 0) -> Path:
    """Write flat images into ``folder``: image k has level k, counted from ``first``."""
    for level, name in enumerate(names, start=first):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(flat(level)))
    return folder


def level(source: Source, split: str, row: int) -> int:
    """Return the level of a flat image, which JPEG keeps."""
    values = pixels(source, split, row)
    assert values.max() - values.min() <= 2
    return round(float(values.mean()))
