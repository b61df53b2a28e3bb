"""The user's own folder of images, labelled by sub-folders, by a CSV, or not at all."""

from pathlib import Path

import numpy as np

from latentline.core.errors import UserError
from latentline.data.decode import FORMATS_IN_WORDS
from latentline.data.image_files import in_words
from stages.download.archives import FileImages
from stages.download.source import Card, Source, SourceOptions, SourceSplit
from stages.download.sources.folder_files import FolderFiles, list_folder
from stages.download.sources.folder_layout import read_layout
from stages.download.sources.table import Table, read_table

_LARGEST_TABLE = 1 << 30  # bytes; pandas takes several times as much memory
_NO_ROW = "images without a row"


def read_folder(options: SourceOptions) -> Source:
    """Return the images under ``data.path``.

    The CSV ``data.labels`` lists the images and their labels. Where it is empty, as the tracked placeholder is, all
    images are used, with the splits and classes that ``folder_layout`` reads from their folders.

    Raises:
        UserError: no such folder, no image in it, folders that make no sense, or a bad CSV.
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
    files = list_folder(options.path, options.labels)
    if options.labels.read_bytes().strip():  # the placeholder is one empty line, since DVC warns of empty files
        return _by_table(options.path, read_table(options), files)
    if not files.images:
        raise UserError(
            f"data.path ({options.path} with {in_words(files.kinds()) or 'no file'}) must contain images "
            f"({FORMATS_IN_WORDS}); put your images there, or correct the name"
        )
    layout = read_layout(options.path, files)
    images = {name: FileImages(names, options.path) for name, names in layout.names.items()}
    if layout.classes is None:
        return Source(_card(()), {name: SourceSplit(found) for name, found in images.items()}, files.left_out)
    classes = np.unique(layout.classes["train"])
    splits = {
        name: SourceSplit(found, np.searchsorted(classes, layout.classes[name]).astype(np.int64))
        for name, found in images.items()
    }
    return Source(_card(tuple(classes.tolist())), splits, files.left_out)


def _by_table(root: Path, table: Table, files: FolderFiles) -> Source:
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
    listed = set(table.names)
    left_out = files.left_out | dict.fromkeys(files.images, _NO_ROW)
    left_out = {name: kind for name, kind in left_out.items() if name not in listed}
    return Source(
        _card(table.classes, table), splits, left_out, columns=table.columns, without_value=table.without_value
    )


def _card(classes: tuple[str, ...], table: Table | None = None) -> Card:
    return Card(
        name="image_folder",
        classes=classes,
        licence="the owner's",
        source="data.path",  # no out may depend on where a folder lies
        citation="",
        attributes=table.attributes if table else (),
    )
