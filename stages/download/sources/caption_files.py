"""Captions in files of the user's folder: a .txt beside each image, or metadata.jsonl or .csv as Hugging Face has it.

Hugging Face, "Create an image dataset", section ImageFolder: a file metadata.jsonl or metadata.csv lies in the folder
of the images or above it, and has one row per image with ``file_name``, relative to the file's own folder.
"""

import csv
import io
import json
import logging
import posixpath
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from latentline.core.errors import UserError
from latentline.data.captions import clean_caption
from stages.download.sources.caption_column import NAMES
from stages.download.sources.folder_files import FolderFiles
from stages.download.sources.text_files import read_text

log = logging.getLogger(__name__)

_BESIDE = ".txt beside the images"
_METADATA = ("metadata.jsonl", "metadata.csv")
_FILE = "file_name"
_WHERE = "data.path"
_LARGEST_TEXT = 1 << 20  # bytes of one caption's file
_LARGEST_METADATA = 1 << 30
_OR_NONE = "or set data.captions to none"


@dataclass(frozen=True)
class CaptionFiles:
    """Captions of a folder's images."""

    found_in: str
    """The convention, for people."""
    captions: dict[str, str]
    """Name of the image -> caption."""
    files: dict[str, str]
    """Name of a file of captions -> its image; of a table, which has many, the empty text."""
    without_image: list[str]
    """Names of captions that belong to no image."""


def find_caption_files(root: Path, files: FolderFiles) -> CaptionFiles | None:
    """Return the captions in the files below ``root``; None = there are none.

    Raises:
        UserError: captions in two of the ways, or a file of captions that cannot be read.
    """
    by_name = {unicodedata.normalize("NFC", name): name for name in files.images}
    ways = [_beside(root, files), *(_metadata(root, files, by_name, kind) for kind in _METADATA)]
    found = [captions for captions in ways if captions is not None]
    require_one([captions.found_in for captions in found], root)
    return found[0] if found else None


def require_one(ways: list[str], root: Path) -> None:
    """Raise UserError for captions of the images of ``root`` in two ways."""
    if len(ways) > 1:
        raise UserError(
            f"data.path ({root} with captions in {ways[0]} and in {ways[1]}) must have captions in one way; "
            f"remove the others, {_OR_NONE}"
        )


def _beside(root: Path, files: FolderFiles) -> CaptionFiles | None:
    """Return the captions of files such as a.txt beside a.png; None where no .txt is called like an image."""
    texts = {_stem(name): name for name, kind in files.left_out.items() if kind == ".txt"}
    images = {name: texts[_stem(name)] for name in files.images if _stem(name) in texts}
    if not images:
        return None
    captions = {name: clean_caption(read_text(root / text, _WHERE, _LARGEST_TEXT)) for name, text in images.items()}
    used = {text: name for name, text in images.items()}
    return CaptionFiles(_BESIDE, captions, used, [name for name in texts.values() if name not in used])


def _stem(name: str) -> str:
    """Return a file's path without its suffix, in one Unicode form."""
    return unicodedata.normalize("NFC", str(PurePosixPath(name).with_suffix("")))


def _metadata(root: Path, files: FolderFiles, by_name: dict[str, str], kind: str) -> CaptionFiles | None:
    """Return the captions of all files called ``kind``; None where none of them has a column of captions."""
    captions: dict[str, str] = {}
    used, without_image = {}, []
    for table in (name for name in files.left_out if PurePosixPath(name).name == kind):
        rows = list(_rows(root / table))
        columns = dict.fromkeys(name for _, row in rows for name in row)
        column = _column(list(columns), f"{_WHERE} ({root / table})")
        if column is None:
            continue
        used[table] = ""
        for number, row in rows:
            where = f"{_WHERE} ({root / table}): row {number}"
            named, text = row.get(_FILE), row.get(column)
            if not isinstance(named, str) or not named.strip():
                raise UserError(f"{where} must have a value of {_FILE!r}; add it, {_OR_NONE}")
            if not isinstance(text, str | None):
                raise UserError(f"{where} must have one text as {column!r}; correct it, {_OR_NONE}")
            path = posixpath.normpath(posixpath.join(posixpath.dirname(table), named.strip().replace("\\", "/")))
            image = by_name.get(unicodedata.normalize("NFC", path))
            if image is None:
                without_image.append(path)
            elif image in captions:
                raise UserError(f"{where} ({named}) must not repeat an earlier row; remove one of them")
            else:
                captions[image] = clean_caption(text or "")
        if others := [name for name in columns if name not in (_FILE, column)]:
            log.info("%s: columns of %s that are not used: %s", _WHERE, table, ", ".join(others))
    return CaptionFiles(kind, captions, used, without_image) if used else None


def _column(columns: list[str], where: str) -> str | None:
    """Return the column of captions. Raises UserError where there are two."""
    found = [name for name in columns if name in NAMES]
    if len(found) > 1:
        raise UserError(f"{where} must have one column of captions, text or caption; remove the other, {_OR_NONE}")
    return found[0] if found else None


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a table with their numbers for people: lines of JSON, or rows of a CSV below its header."""
    text = read_text(path, _WHERE, _LARGEST_METADATA)
    if path.suffix == ".csv":
        try:
            for number, row in enumerate(csv.DictReader(io.StringIO(text, newline="")), start=2):
                yield number, {name.strip(): cell for name, cell in row.items() if name}  # None: more than the header
        except csv.Error as error:
            raise UserError(f"{_WHERE} ({path}: {error}) must be a readable CSV; correct it, {_OR_NONE}") from None
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{_WHERE} ({path}: {reason}): row {number} must be JSON; correct it, {_OR_NONE}") from None
        if not isinstance(row, dict):
            raise UserError(f"{_WHERE} ({path}): row {number} must be a JSON object; correct it, {_OR_NONE}")
        yield number, row
