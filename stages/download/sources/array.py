"""The user's own array: one .npy, .npz or .safetensors file with ``images`` and perhaps ``labels``."""

from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentline.core.errors import UserError
from stages.download.archives import ZIP_ERRORS, copy_at_most, open_zip, require_disk
from stages.download.columns import class_labels
from stages.download.images import ArrayImages
from stages.download.source import Card, Source, SourceOptions, SourceSplit

_SUFFIXES = ".npz, .npy or .safetensors"
_LAYOUTS = "uint8 (N, H, W), (N, C, H, W) or (N, H, W, C) with C = 1 or 3"

_HEADER_ERRORS = (TokenError, SyntaxError, TypeError, OverflowError, RecursionError, MemoryError)  # of numpy


def read_array(options: SourceOptions) -> Source:
    """Return the memory-mapped arrays of ``data.path``. Raises UserError when the file is missing or damaged."""
    path = options.path
    if not path.is_file():
        raise UserError(f"data.path ({path}) must be a file that ends in {_SUFFIXES}; correct the name")
    readers = {".npy": _npy, ".npz": map_npz, ".safetensors": _safetensors}
    if path.suffix not in readers:
        raise UserError(f"data.path ({path}) must end in {_SUFFIXES}; convert the file")
    try:
        arrays = readers[path.suffix](path, options.scratch)
    except UserError:  # a ValueError too
        raise
    except (OSError, ValueError, EOFError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"data.path ({path}: {reason}) must be an undamaged array file; write it again") from None
    if "images" not in arrays:
        found = ", ".join(arrays) or "no array"
        raise UserError(f"data.path ({path} with {found}) must contain an array called images; rename one")
    images = as_channels_first(arrays["images"], f"data.path ({path})")
    classes: tuple[str, ...] = ()
    labels = None
    if "labels" in arrays:
        raw = np.squeeze(arrays["labels"])
        if raw.shape != (len(images),) or raw.dtype.kind not in "iuUf":
            found = f"{path}: labels {raw.dtype} {raw.shape}"
            raise UserError(f"data.path ({found}) must have labels ({len(images)},) of integers or texts; correct them")
        classes, labels = class_labels(raw, f"data.path: labels of {path}")
    card = Card(name="array", classes=classes, licence="the owner's", source="data.path", citation="")
    return Source(card, {"train": SourceSplit(ArrayImages(images), labels)})


def as_channels_first(images: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """Return a view (N, C, H, W); in an ambiguous layout channels come first. Raises UserError for other arrays."""
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or 0 in images.shape:
        remedy = "scale floats to 0..255 and round" if images.dtype.kind == "f" else "convert them"
        raise UserError(f"{where}: images ({images.dtype} {images.shape}) must be {_LAYOUTS}; {remedy}")
    if images.ndim == 3:
        return images[:, None]
    if images.shape[1] in (1, 3):
        return images
    if images.shape[3] in (1, 3):
        return images.transpose(0, 3, 1, 2)
    raise UserError(f"{where}: images (uint8 {images.shape}) must be {_LAYOUTS}; drop or mix the other channels")


def map_npz(path: Path, scratch: Path) -> dict[str, NDArray[Any]]:
    """Return every array of an .npz file, unpacked to ``scratch`` and memory-mapped. Refuses pickled objects.

    Raises:
        UserError: the disk is too small for it.
        ValueError: it is damaged.
    """
    arrays: dict[str, NDArray[Any]] = {}
    with open_zip(path) as archive:
        require_disk(path, sum(info.file_size for info in archive.infolist()), scratch)
        for number, info in enumerate(archive.infolist()):
            target = scratch / f"{number}.npy"  # not the name that the archive gives
            try:
                with archive.open(info) as source, target.open("wb") as file:
                    copy_at_most(source, file, info.file_size, path)
            except ZIP_ERRORS as error:
                raise ValueError(str(error)) from None
            arrays[info.filename.removesuffix(".npy")] = _mapped(target)
    return arrays


def _npy(path: Path, scratch: Path) -> dict[str, NDArray[Any]]:
    return {"images": _mapped(path)}


def _mapped(path: Path) -> NDArray[Any]:
    """Return the memory-mapped array of a .npy file; its header is read as a literal.

    Raises OSError or ValueError when it is damaged.
    """
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except _HEADER_ERRORS as error:
        raise ValueError(f"bad header: {error}") from None


def _safetensors(path: Path, scratch: Path) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError, safe_open  # torch's tensors are memory-mapped, numpy's are copies

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).numpy() for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, TypeError) as error:  # TypeError: a number format that numpy lacks
        raise ValueError(str(error)) from None
