"""The user's own folder of images, labelled by sub-folders, by a CSV, or not at all."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from latentline.core.errors import UserError
from latentline.data.decode import FORMATS_IN_WORDS
from latentline.data.image_files import in_words
from stages.download.archives import FileImages
from stages.download.source import CaptionOrigin, Card, Source, SourceOptions, SourceSplit
from stages.download.sources.caption_files import CaptionFiles, find_caption_files, require_one
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
    captions = None if options.captions == "none" else find_caption_files(options.path, files)
    if options.labels.read_bytes().strip():  # the placeholder is one empty line, since DVC warns of empty files
        return _by_table(options.path, read_table(options), files, captions)
    if not files.images:
        raise UserError(
            f"data.path ({options.path} with {in_words(files.kinds()) or 'no file'}) must contain images "
            f"({FORMATS_IN_WORDS}); put your images there, or correct the name"
        )
    layout = read_layout(options.path, files)
    images = {name: FileImages(names, options.path) for name, names in layout.names.items()}
    if layout.classes is None:
        splits = {name: SourceSplit(found) for name, found in images.items()}
        return _captioned(Source(_card(()), splits, files.left_out), captions)
    classes = np.unique(layout.classes["train"])
    splits = {
        name: SourceSplit(found, np.searchsorted(classes, layout.classes[name]).astype(np.int64))
        for name, found in images.items()
    }
    return _captioned(Source(_card(tuple(classes.tolist())), splits, files.left_out), captions)


def _captioned(source: Source, captions: CaptionFiles | None) -> Source:
    """Return the source with the captions of its images; files that hold them are not left out."""
    if captions is None:
        return source
    images = {name: _names(split) for name, split in source.splits.items()}
    splits = {
        name: replace(split, captions=[captions.captions.get(image, "") for image in images[name]])
        for name, split in source.splits.items()
    }
    used = {name for names in images.values() for name in names} | {""}
    left_out = {name: kind for name, kind in source.left_out.items() if captions.files.get(name) not in used}
    origin = CaptionOrigin(captions.found_in, captions.without_image)
    return replace(source, splits=splits, left_out=left_out, captions=origin)


def _names(split: SourceSplit) -> list[str]:
    return [split.images.name(row) for row in range(len(split.images))]


def _by_table(root: Path, table: Table, files: FolderFiles, captions: CaptionFiles | None) -> Source:
    """Return the images that the CSV lists; those that the folder lacks count as unreadable."""
    split = table.split if table.split is not None else np.full(len(table.names), "train")
    splits = {}
    for name in np.unique(split).tolist():
        rows = np.flatnonzero(split == name)
        splits[name] = SourceSplit(
            FileImages([table.names[row] for row in rows], root),
            None if table.labels is None else table.labels[rows],
            None if table.values is None else table.values[rows],
            None if table.captions is None else [table.captions[row] for row in rows.tolist()],
        )
    listed = set(table.names)
    left_out = files.left_out | dict.fromkeys(files.images, _NO_ROW)
    left_out = {name: kind for name, kind in left_out.items() if name not in listed}
    source = Source(
        _card(table.classes, table), splits, left_out, columns=table.columns, without_value=table.without_value
    )
    if table.caption_column is None:
        return _captioned(source, captions)
    way = f"column {table.caption_column} of data.labels"
    require_one([way, *([captions.found_in] if captions else [])], root)
    return replace(source, captions=CaptionOrigin(way))


def _card(classes: tuple[str, ...], table: Table | None = None) -> Card:
    return Card(
        name="image_folder",
        classes=classes,
        licence="the owner's",
        source="data.path",  # no out may depend on where a folder lies
        citation="",
        attributes=table.attributes if table else (),
    )
