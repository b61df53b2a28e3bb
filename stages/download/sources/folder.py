"""A user's own folder of images, labelled by sub-folders, by a CSV, or not at all."""

import os
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np

from latentline.core.errors import UserError
from latentline.data.decode import SUFFIXES
from stages.download.archives import FileImages
from stages.download.source import Card, Request, Source, SourceSplit
from stages.download.sources.table import Table, read_table

_LARGEST_TABLE = 1 << 30  # bytes; pandas takes several times as much memory


def read_folder(request: Request) -> Source:
    """The images under ``data.path``.

    Labels are those of the CSV ``data.labels``, whose rows then say which images are used. Where that file is empty (as the
    tracked placeholder is), the class is the first sub-folder on the way to an image; a folder without sub-folders is unlabelled.

    Raises:
        UserError: no such folder, no image in it, images beside class folders, or a bad CSV.
    """
    if not request.path.is_dir():
        raise UserError(f"data.path: {request.path} is not a folder; expected one with your images; correct the name")
    if not request.labels.is_file():
        raise UserError(
            f"data.labels: {request.labels} is not a file; expected a CSV, or the placeholder of params.yaml for labels by sub-folder; "
            "correct the name"
        )
    if (size := request.labels.stat().st_size) > _LARGEST_TABLE:
        raise UserError(
            f"data.labels: {request.labels} has {size} bytes; expected a CSV of at most {_LARGEST_TABLE}; correct the name, or shorten it"
        )
    if request.labels.read_bytes().strip():  # DVC warns of files of no bytes at all: the placeholder is one empty line
        return _by_table(request.path, read_table(request.labels))
    names = _image_names(request.path)
    folders = [PurePosixPath(name).parts[0] if "/" in name else "" for name in names]
    if not any(folders):
        return Source(_card(()), {"train": SourceSplit(FileImages(names, request.path))})
    if "" in folders:
        raise UserError(
            f"data.path: {request.path} holds {folders.count('')} images beside its class folders, for example {names[folders.index('')]}; "
            "expected all images in sub-folders or none; move them, or name the labels in a CSV (data.labels)"
        )
    classes, labels = np.unique(folders, return_inverse=True)
    split = SourceSplit(FileImages(names, request.path), labels.astype(np.int64))
    return Source(_card(tuple(classes.tolist())), {"train": split})


def _by_table(root: Path, table: Table) -> Source:
    """Files that the CSV names but the folder lacks count as unreadable."""
    split = table.split if table.split is not None else np.full(len(table.names), "train")
    splits = {}
    for name in np.unique(split).tolist():
        rows = np.flatnonzero(split == name)
        splits[name] = SourceSplit(
            FileImages([table.names[row] for row in rows], root),
            None if table.labels is None else table.labels[rows],
            None if table.values is None else table.values[rows],
        )
    return Source(_card(table.classes, table), splits)


def _card(classes: tuple[str, ...], table: Table | None = None) -> Card:
    return Card(
        name="image_folder",
        classes=classes,
        licence="the owner's",
        source="data.path",  # not its name: no out may depend on where a folder lies
        citation="",
        attributes=table.attributes if table else (),
    )


def _image_names(root: Path) -> list[str]:
    """Relative names of all images, sorted; hidden files and folders are passed over, as every file manager does."""
    names = []
    others: Counter[str] = Counter()
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for file in files:
            if file.startswith("."):
                continue
            if file.lower().endswith(SUFFIXES):
                names.append((Path(folder) / file).relative_to(root).as_posix())
            else:
                others[Path(file).suffix.lower() or "no suffix"] += 1
    if not names:
        found = ", ".join(f"{count} of {suffix}" for suffix, count in others.most_common(3)) or "nothing"
        raise UserError(f"data.path: {root} holds no image ({found}); expected {', '.join(SUFFIXES)}; put your images there, or name their folder")
    return sorted(names)
