"""Classes and splits of a folder of images, by the names of its sub-folders.

The rules, in this order:

1. A folder whose only content is one folder of folders is a wrapper: the inner one counts in its place.
2. Folders called train, val and test (or training, valid, validation, testing, in any case) are splits. They lie
   outside the class folders or directly inside them.
3. The first sub-folder on the way to an image is its class, however deep the image lies.
"""

import logging
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from latentline.core.errors import UserError
from latentline.data.image_files import LITTER, in_words
from stages.download.sources.folder_files import EMPTY, FolderFiles

log = logging.getLogger(__name__)

_SPLIT_OF = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_AFFIXES = r"(images?|imgs?|data|set|folder|split|samples?|pictures?|photos?|files)*"
_NEAR_SPLIT = re.compile(rf"{_AFFIXES}(train(ing)?|val(id(ation)?)?|test(ing)?|dev|eval|evaluation|holdout){_AFFIXES}")


@dataclass
class _Place:
    """One image: where it lies, and what the folders on the way to it mean."""

    name: str
    rest: tuple[str, ...]  # folders and file, without wrappers and split
    split: str | None = None


@dataclass(frozen=True)
class Layout:
    """Split and class of each image."""

    names: dict[str, list[str]]
    """Split -> sorted names of its images."""
    classes: dict[str, list[str]] | None
    """Split -> class of each image; None = no labels."""


def read_layout(root: Path, files: FolderFiles) -> Layout:
    """Return split and class of each of the images of ``root``.

    Raises:
        UserError: split folders beside other folders, names such as train_images, two of one split, no train; images
            beside class folders; a class that train lacks; a folder with files but without an image.
    """
    places = [_Place(name, PurePosixPath(name).parts) for name in files.images]
    _strip_wrappers(root, places)
    split_folders = _strip_splits(root, places)
    if split_folders:
        _strip_wrappers(root, places)
    labelled = _is_labelled(root, places)
    _require_images(root, files, places, labelled)
    splits = {
        name: [place for place in places if (place.split or "train") == name] for name in ("train", "val", "test")
    }
    splits = {name: found for name, found in splits.items() if found}
    if split_folders:
        counts = ", ".join(f"{len(found)} of {name}" for name, found in splits.items())
        log.info(
            "data.path: folders %s are read as splits (%s); data.splits does not cut these again",
            ", ".join(split_folders),
            counts,
        )
    if labelled:
        _check_classes(root, splits)
        if len({len(place.rest) for place in places}) > 1:
            log.warning("data.path: images lie at several depths; the first sub-folder is the class of all below it")
    return Layout(
        {name: [place.name for place in found] for name, found in splits.items()},
        {name: [place.rest[0] for place in found] for name, found in splits.items()} if labelled else None,
    )


def _strip_wrappers(root: Path, places: list[_Place]) -> None:
    """Remove the first folder while all images share it and none lies directly in it, unless it is a split."""
    while len(tops := {place.rest[0] for place in places}) == 1 and all(len(place.rest) > 2 for place in places):
        (top,) = tops
        if top.lower() in _SPLIT_OF and places[0].split is None:
            return
        log.info("data.path: folder %s only wraps other folders, which are read in its place", top)
        for place in places:
            place.rest = place.rest[1:]


def _strip_splits(root: Path, places: list[_Place]) -> list[str]:
    """Set the split of images in split folders and remove these folders; return their names, sorted."""
    _refuse_near_splits(root, places)
    for position in (0, 1):
        folders = {place.rest[position] if len(place.rest) > position + 1 else "" for place in places}
        splits = sorted(name for name in folders if name.lower() in _SPLIT_OF)
        others = sorted(folders - set(splits))
        found = Counter(_SPLIT_OF[name.lower()] for name in splits)
        if not splits or (others and not (len(found) > 1 and "train" in found)) or (position and len(found) < 2):
            continue
        where = f"data.path ({root} with folders {', '.join(splits)}"
        if others:
            beside = f"folder {others[-1]}" if others[-1] else "images"
            raise UserError(
                f"{where} beside {beside}) must hold split folders or class folders, not both; "
                "move one kind out, or list the labels in a CSV (data.labels)"
            )
        if "train" not in found:
            raise UserError(f"{where}) must hold a folder train; add it, or set data.path to the folder to train on")
        if position == 0 and max(found.values()) > 1:
            raise UserError(f"{where}) must hold one folder per split; join those that mean the same split")
        for place in places:
            place.split = _SPLIT_OF[place.rest[position].lower()]
            place.rest = place.rest[:position] + place.rest[position + 1 :]
        return splits
    return []


def _refuse_near_splits(root: Path, places: list[_Place]) -> None:
    """Raise UserError where all folders are called like splits, such as train_images, but not as in ``_SPLIT_OF``."""
    folders = sorted({place.rest[0] if len(place.rest) > 1 else "" for place in places})
    letters = [re.sub(r"[\W\d_]", "", name.lower()) for name in folders]
    near = [name for name in folders if name.lower() not in _SPLIT_OF]
    if (
        len(folders) > 1
        and near
        and all(map(_NEAR_SPLIT.fullmatch, letters))
        and any("train" in one for one in letters)
    ):
        raise UserError(
            f"data.path ({root} with folders {', '.join(folders)}) must hold split folders called train, val and test, "
            f"or class folders; if they are splits, rename {near[0]}, or list images and splits in a CSV (data.labels)"
        )


def _is_labelled(root: Path, places: list[_Place]) -> bool:
    """Return True where all images lie in class folders, and False where none does."""
    bare = [place for place in places if len(place.rest) == 1]
    if bare and len(bare) < len(places):
        raise UserError(
            f"data.path ({root}, {len(bare)} images beside its sub-folders, such as {bare[0].name}) must have all "
            "images in sub-folders or none; move them, or list the labels in a CSV (data.labels)"
        )
    return not bare


def _require_images(root: Path, files: FolderFiles, places: list[_Place], labelled: bool) -> None:
    """Raise UserError for a folder beside class, split or wrapper folders that holds files but no image."""
    used = set()
    for place in places:
        parts = PurePosixPath(place.name).parts
        named = len(parts) - len(place.rest) + labelled  # wrappers, split and class come first
        used |= {parts[: depth + 1] for depth in range(named)}
    levels = {folder[:-1] for folder in used}
    without: dict[tuple[str, ...], Counter[str]] = {}
    for name, kind in files.left_out.items():
        parts = PurePosixPath(name).parts
        for depth in range(1, len(parts)):
            if kind not in (LITTER, EMPTY) and parts[:depth] not in used and parts[: depth - 1] in levels:
                without.setdefault(parts[:depth], Counter())[kind] += 1
    if without:
        folder, kinds = next(iter(without.items()))
        raise UserError(
            f"data.path ({root.joinpath(*folder)} with {in_words(kinds)}) must hold images, as the folders beside it "
            "do; convert its files, or move the folder out"
        )


def _check_classes(root: Path, splits: dict[str, list[_Place]]) -> None:
    """Raise UserError for a class of val or test that train lacks."""
    trained = {place.rest[0] for place in splits["train"]}
    for name, found in splits.items():
        if unknown := sorted({place.rest[0] for place in found} - trained):
            raise UserError(
                f"data.path ({root}: class {unknown[0]} of {name}) must have a folder in train too; "
                "move it out, or list the labels in a CSV (data.labels)"
            )
