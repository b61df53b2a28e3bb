"""The user's own array: one .npy, .npz or .safetensors file with images and perhaps labels, by their usual names."""

import difflib
import logging
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
_IMAGES = ("images", "x", "data", "imgs")  # usual names, in any case
_LABELS = ("labels", "label", "y", "targets")
_NEAR_LABELS = (*_LABELS, "target", "class", "classes", "category")  # of an array that is left over, a slip
Arrays = dict[str, NDArray[Any] | None]  # None = an array of Python objects, which is not read
log = logging.getLogger(__name__)

_HEADER_ERRORS = (TokenError, SyntaxError, TypeError, OverflowError, RecursionError, MemoryError)  # of numpy


def read_array(options: SourceOptions) -> Source:
    """Return the memory-mapped arrays of ``data.path``. Raises UserError when the file is missing or damaged."""
    path = options.path
    if not path.is_file():
        raise UserError(f"data.path ({path}) must be a file that ends in {_SUFFIXES}; correct the name")
    readers = {".npy": _npy, ".npz": _npz, ".safetensors": _safetensors}
    if path.suffix not in readers:
        raise UserError(f"data.path ({path}) must end in {_SUFFIXES}; convert the file")
    try:
        arrays = readers[path.suffix](path, options.scratch)
    except UserError:  # a ValueError too
        raise
    except (OSError, ValueError, EOFError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"data.path ({path}: {reason}) must be an undamaged array file; write it again") from None
    image_name = _chosen(arrays, _IMAGES, "images", path)
    if image_name is None:
        found = ", ".join(arrays) or "no array"
        usual = ", ".join(_IMAGES[1:])
        expected = f"an array called images (or {usual})"
        raise UserError(f"data.path ({path} with {found}) must contain {expected}; rename one")
    label_name = _chosen(arrays, _LABELS, "labels", path)
    images = as_channels_first(_numbers_or_texts(arrays, image_name, path), f"data.path ({path})")
    classes: tuple[str, ...] = ()
    labels = None
    if label_name is not None:
        raw = _one_per_image(_numbers_or_texts(arrays, label_name, path), label_name, len(images), path)
        classes, labels = class_labels(raw, f"data.path: {label_name} of {path}")
    left_out = dict.fromkeys(_left_over(arrays, image_name, label_name, path), "arrays without a usual name")
    card = Card(name="array", classes=classes, licence="the owner's", source="data.path", citation="")
    return Source(card, {"train": SourceSplit(ArrayImages(images), labels)}, left_out)


def _chosen(arrays: Arrays, usual: tuple[str, ...], what: str, path: Path) -> str | None:
    """Return the name of the one array that has a usual name; None = there is none. Raises UserError for several."""
    found = [name for name in arrays if name.lower() in usual]
    if len(found) > 1:
        listed = " and ".join(found)
        raise UserError(
            f"data.path ({path} with {listed}) must contain one array of {what}; remove or rename all but one"
        )
    return found[0] if found else None


def _numbers_or_texts(arrays: Arrays, name: str, path: Path) -> NDArray[Any]:
    """Return an array. Raises UserError for one of Python objects, which would have to be unpickled."""
    array = arrays[name]
    if array is None:
        images = name.lower() in _IMAGES
        what, remedy = ("uint8 numbers", "np.stack them") if images else ("numbers or texts", "convert by .astype(str)")
        raise UserError(f"data.path ({path}: {name} of dtype object) must hold {what}; {remedy} and save it again")
    return array


def _one_per_image(labels: NDArray[Any], name: str, count: int, path: Path) -> NDArray[Any]:
    """Return labels (N,) in this machine's byte order, texts without blanks around them.

    Raises UserError for another shape or kind, and for empty texts.
    """
    if labels.shape not in {(count,), (count, 1), (1, count)} or labels.dtype.kind not in "biufSU":
        found = f"{path}: {name} {labels.dtype} {labels.shape}"
        one_hot = labels.ndim == 2 and len(labels) == count and labels.dtype.kind in "biuf"
        remedy = "take the index of each row's class, .argmax(axis=1)" if one_hot else "correct them"
        raise UserError(f"data.path ({found}) must have labels ({count},) of integers or texts; {remedy}")
    flat = labels.reshape(-1)
    if flat.dtype.kind == "S":
        try:
            flat = np.char.decode(flat, "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"data.path ({path}: {name}: {error}) must be texts in UTF-8; save .astype(str)") from None
    if flat.dtype.kind == "U":
        flat = np.char.strip(flat)
        if len(empty := np.flatnonzero(flat == "")):
            raise UserError(f"data.path ({path}: {name}[{empty[0]}] '') must be a class; add it, or remove the image")
    return flat.astype(flat.dtype.newbyteorder("="))


def _left_over(arrays: Arrays, images: str, labels: str | None, path: Path) -> list[str]:
    """Return the names of arrays that are not used; log these and the others.

    Raises:
        UserError: there are no labels, and an array may be meant as such.
    """
    left = [name for name in arrays if name not in (images, labels)]
    near = [name for name in left if difflib.get_close_matches(name.lower(), _NEAR_LABELS, 1, cutoff=0.75)]
    if labels is None and near:
        raise UserError(
            f"data.path ({path} with {near[0]} and without labels) must have its labels in an array called labels; "
            "rename it to labels, or remove it"
        )
    log.info("data.path: images from %s, %s", images, f"labels from {labels}" if labels else "no labels")
    if left:
        log.warning("data.path: %d arrays of the file are not used: %s", len(left), ", ".join(left))
    return left


def as_channels_first(images: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """Return a view (N, C, H, W); in an ambiguous layout channels come first. Raises UserError for other arrays."""
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or 0 in images.shape:
        remedy = "scale floats to 0..255 and round" if images.dtype.kind == "f" else "convert them"
        remedy = "add images" if 0 in images.shape else remedy
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
        ValueError: it is damaged, or holds Python objects.
    """
    arrays = _npz(path, scratch)
    if objects := [name for name, array in arrays.items() if array is None]:
        raise ValueError(f"{objects[0]} holds Python objects")
    return {name: array for name, array in arrays.items() if array is not None}


def _npz(path: Path, scratch: Path) -> Arrays:
    arrays: Arrays = {}
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


def _npy(path: Path, scratch: Path) -> Arrays:
    return {"images": _mapped(path)}


def _mapped(path: Path) -> NDArray[Any] | None:
    """Return the memory-mapped array of a .npy file, whose header is read as a literal; None = of Python objects.

    Raises OSError or ValueError when it is damaged.
    """
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        if "Python objects" in str(error):  # numpy has no error type of its own for it
            return None
        raise
    except _HEADER_ERRORS as error:
        raise ValueError(f"bad header: {error}") from None


def _safetensors(path: Path, scratch: Path) -> Arrays:
    from safetensors import SafetensorError, safe_open  # torch's tensors are memory-mapped, numpy's are copies

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).numpy() for name in file.keys()}  # noqa: SIM118 - not a dict
    except TypeError as error:  # a number format that numpy lacks, such as bfloat16
        raise UserError(f"data.path ({path}: {error}) must hold uint8 images and int64 labels; convert them") from None
    except SafetensorError as error:
        raise ValueError(str(error)) from None
