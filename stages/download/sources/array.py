"""A user's own array: one .npy, .npz or .safetensors file with ``images`` and, where there are classes, ``labels``."""

from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentline.core.errors import UserError
from stages.download.archives import ZIP_ERRORS, copy_at_most, open_zip, require_disk
from stages.download.columns import class_labels
from stages.download.images import ArrayImages
from stages.download.source import Card, Request, Source, SourceSplit

_LAYOUTS = "uint8 (N, H, W), (N, C, H, W) or (N, H, W, C) with C = 1 or 3"


def read_array(request: Request) -> Source:
    """The arrays of ``data.path``, memory-mapped. Raises UserError when the file is missing, damaged or holds something else."""
    path = request.path
    if not path.is_file():
        raise UserError(f"data.path: {path} is not a file; expected one that ends in .npz, .npy or .safetensors; correct the name")
    readers = {".npy": _npy, ".npz": map_npz, ".safetensors": _safetensors}
    if path.suffix not in readers:
        raise UserError(f"data.path: {path} ends in {path.suffix!r}, expected .npz, .npy or .safetensors; convert it")
    try:
        arrays = readers[path.suffix](path, request.scratch)
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise UserError(f"data.path: {path} is damaged or foreign ({' '.join(str(error).split())}); write it again") from None
    if "images" not in arrays:
        raise UserError(f"data.path: {path} holds {', '.join(arrays) or 'nothing'}; expected an array called images; rename it")
    images = as_channels_first(arrays["images"], f"data.path: {path}")
    classes: tuple[str, ...] = ()
    labels = None
    if "labels" in arrays:
        raw = np.squeeze(arrays["labels"])
        if raw.shape != (len(images),) or raw.dtype.kind not in "iuUf":
            raise UserError(f"data.path: {path}: labels are {raw.dtype} {raw.shape}, expected ({len(images)},) integers or texts")
        classes, labels = class_labels(raw, f"data.path: {path}, labels")
    card = Card(name="array", classes=classes, licence="the owner's", source="data.path", citation="")
    return Source(card, {"train": SourceSplit(ArrayImages(images), labels)})


def as_channels_first(images: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """A view (N, C, H, W). Channels come first where both readings are possible. Raises UserError for any other array."""
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or 0 in images.shape:
        remedy = "scale floats to 0..255 and round" if images.dtype.kind == "f" else "convert it"
        raise UserError(f"{where}: images are {images.dtype} {images.shape}, expected {_LAYOUTS}; {remedy}")
    if images.ndim == 3:
        return images[:, None]
    if images.shape[1] in (1, 3):
        return images
    if images.shape[3] in (1, 3):
        return images.transpose(0, 3, 1, 2)
    raise UserError(f"{where}: images are {images.dtype} {images.shape}, expected {_LAYOUTS}; drop or mix the other channels")


def map_npz(path: Path, scratch: Path) -> dict[str, NDArray[Any]]:
    """Every array of an .npz file, unpacked to ``scratch`` and memory-mapped; arrays of Python objects (pickles) are refused.

    Raises:
        UserError: the disk is too small for it.
        ValueError: it is damaged.
    """
    arrays: dict[str, NDArray[Any]] = {}
    with open_zip(path) as archive:
        require_disk(path, sum(info.file_size for info in archive.infolist()), scratch)
        for number, info in enumerate(archive.infolist()):
            target = scratch / f"{number}.npy"  # not its own name
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
    """A .npy file, memory-mapped; its header is read as a literal, never run. Raises OSError or ValueError when it is damaged."""
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (TokenError, SyntaxError, TypeError, OverflowError, RecursionError, MemoryError) as error:  # of numpy's reader of headers
        raise ValueError(f"its header is no header: {error}") from None


def _safetensors(path: Path, scratch: Path) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError, safe_open  # with torch: its tensors are memory-mapped, numpy's are copies

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).numpy() for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, TypeError) as error:  # TypeError: a number format that numpy lacks
        raise ValueError(str(error)) from None
