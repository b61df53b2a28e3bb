"""What the tests of the loaders share: a request to one, and a folder in the form its publisher gives it."""

import gzip
import hashlib
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from stages.download.registry import read_source
from stages.download.source import Source, SourceOptions


def options_for(
    name: str, folder: Path, *, root: Path | None = None, path: Path | None = None, labels: Path | None = None, **params
) -> SourceOptions:
    """A request whose other folders lie in ``folder``."""
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    none = folder / "no_labels.csv"
    none.write_text("\n")  # as the tracked placeholder
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
    """Image ``row`` in its own shape (C, H, W)."""
    images = source.splits[split].images
    return images.pixels(row, images.info(row).shape)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def idx(array: np.ndarray) -> bytes:
    """http://yann.lecun.com/exdb/mnist, "FILE FORMATS FOR THE MNIST DATABASE": magic number, sizes (big-endian), then bytes."""
    return gzip.compress(
        struct.pack(f">{1 + array.ndim}i", 2048 + array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    )


def encoded(image: np.ndarray | Image.Image, form: str = "PNG", **settings) -> bytes:
    """(H, W) or (H, W, C) uint8 -> a file's bytes."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, form, **settings)
    return buffer.getvalue()


def flat(level: int, size: tuple[int, int] = (4, 4), channels: int = 3) -> np.ndarray:
    """An image of one level, which JPEG keeps."""
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
