"""The user's own folder of images, labelled by sub-folders, by a CSV, or not at all."""

import os
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np

from latentline.core.errors import UserError
from latentline.data.decode import SUFFIXES
from stages.download.archives import FileImages
from stages.download.source import Card, Source, SourceOptions, SourceSplit
from stages.download.sources.table import Table, read_table

_LARGEST_TABLE = 1 << 30  # bytes; pandas takes several times as much memory


def read_folder(options: SourceOptions) -> Source:
    """Return the images under ``data.path``.

    The CSV ``data.labels`` lists the images and their labels. Where it is empty, as the tracked placeholder is, all
    images are used, and the first sub-folder on the way to an image is its class. Without sub-folders there are no
    labels.

    Raises:
        UserError: no such folder, no image in it, images beside class folders, or a bad CSV.
    """
    if not options.path.is_dir():
        raise UserError(f"data.path ({options.path}) must be the folder of your images; correct the name")
    if not options.labels.is_file():
        raise UserError(
            f"data.labels ({options.labels}) must be a CSV file; "
            "correct the name, or take data/source/no_labels.csv for labels by sub-folder"
        )
    if (size := options.labels.stat().st_size) > _LARGEST_TABLE:
        raise UserError(
            f"data.labels ({options.labels}, {size} bytes) must be a CSV of at most {_LARGEST_TABLE} bytes; "
            "correct the name, or shorten it"
        )
    if options.labels.read_bytes().strip():  # the placeholder is one empty line, since DVC warns of empty files
        return _by_table(options.path, read_table(options))
    names = _image_names(options.path)
    folders = [PurePosixPath(name).parts[0] if "/" in name else "" for name in names]
    if not any(folders):
        return Source(_card(()), {"train": SourceSplit(FileImages(names, options.path))})
    if "" in folders:
        raise UserError(
            f"data.path ({options.path}, {folders.count('')} images beside its sub-folders, such as "
            f"{names[folders.index('')]}) must have all images in sub-folders or none; "
            "move them, or list the labels in a CSV (data.labels)"
        )
    classes, labels = np.unique(folders, return_inverse=True)
    split = SourceSplit(FileImages(names, options.path), labels.astype(np.int64))
    return Source(_card(tuple(classes.tolist())), {"train": split})


def _by_table(root: Path, table: Table) -> Source:
    """Return the images that the CSV lists; those that the folder lacks count as unreadable."""
    split = table.split if table.split is not None else np.full(len(table.names), "train")
    splits = {}
    for name in np.unique(split).tolist():
        rows = np.flatnonzero(split == name)
        splits[name] = SourceSplit(
            FileImages([table.names[row] for row in rows], root),
            None if table.labels is None else table.labels[rows],
            None if table.values is None else table.values[rows],
        )
    return Source(_card(table.classes, table), splits, table.columns, table.without_value)


def _card(classes: tuple[str, ...], table: Table | None = None) -> Card:
    return Card(
        name="image_folder",
        classes=classes,
        licence="the owner's",
        source="data.path",  # no out may depend on where a folder lies
        citation="",
        attributes=table.attributes if table else (),
    )


def _image_names(root: Path) -> list[str]:
    """Return the sorted relative names of all images, without hidden files and folders."""
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
        found = ", ".join(f"{count} of {suffix}" for suffix, count in others.most_common(3)) or "no file"
        raise UserError(
            f"data.path ({root} with {found}) must contain images ({', '.join(SUFFIXES)}); "
            "put your images there, or correct the name"
        )
    return sorted(names)
