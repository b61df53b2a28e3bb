"""The user's CSV of labels.

The column ``file``, or else the first one, is the file name. ``split`` is train, val or test, ``label`` the class; all
others are attributes. All cells are read as texts without the blanks around them.
"""

import difflib
import logging
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentline.core.attributes import Attribute
from latentline.core.errors import UserError
from latentline.data.captions import clean_caption
from stages.download.columns import Kind, TextColumn, attribute_with_missing, class_texts, missing_values
from stages.download.source import ColumnReport, SourceOptions
from stages.download.sources.caption_column import caption_column
from stages.download.sources.missing_rows import rows_without_value
from stages.download.sources.table_names import is_file, match_files
from stages.download.sources.text_files import text_encoding
from stages.download.splits import SPLITS

log = logging.getLogger(__name__)

_FILE = "file"
_LABEL = "label"
_SPLIT = "split"
_FORM = "write a header line, then one row per image"
_DELIMITERS = ",;\t|"
_LIKE_FILE = {"file", "files", "filename", "filenames", "filepath", "fname", "image", "images", "img", "imagename"}
_LIKE_FILE |= {"imagefile", "imagepath", "imageid", "path", "name"}
_LIKE_LABEL = {"label", "labels", "class", "classes", "classname", "classid", "category", "target", "targets", "y"}
_LIKE_SPLIT = {"train", "training", "val", "valid", "validation", "test", "testing"}
_IMAGE = re.compile(r".*\.(png|jpe?g|jfif|webp|bmp|gif|tiff?|avif)", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """Content of the CSV; arrays have one row per file."""

    names: list[str]
    classes: tuple[str, ...]
    labels: NDArray[np.int64] | None  # (N,)
    attributes: tuple[Attribute, ...]
    values: NDArray[np.float32] | None  # (N, A)
    split: NDArray[np.str_] | None  # (N,)
    columns: tuple[ColumnReport, ...]
    without_value: int
    """Rows that ``data.missing`` (drop) left out."""
    caption_column: str | None = None
    captions: Sequence[str] | None = None  # (N,); None = no such column


def read_table(options: SourceOptions) -> Table:
    """Read and check the CSV ``data.labels`` of the images in ``data.path``.

    Raises:
        UserError: it is no CSV, has no rows, missing values or unknown splits, lists a file twice or other files.
    """
    where = f"data.labels ({options.labels})"
    columns = _columns(options.labels, options.path, where)
    caption_name = caption_column(list(columns), options, where) if len(columns) > 1 else None
    caption = columns.pop(caption_name) if caption_name else None
    _check_header(columns, options, where)
    file = columns.pop(_FILE if _FILE in columns else next(iter(columns)))
    if (row := file.first(lambda text: not text)) is not None:
        raise UserError(f"{where}: row {file.rows[row]} must have a value of {file.name!r}; add it, or remove the row")
    split = columns.pop(_SPLIT, None)
    if split is not None and (row := split.first(lambda text: not text)) is not None:
        raise UserError(f"{where}: row {split.rows[row]} must have a value of 'split'; add it, or remove the row")
    kinds = {**options.attributes, _LABEL: "categorical"}
    missing = {name: missing_values(column, kinds.get(name)) for name, column in columns.items()}
    if missing:
        left_out = rows_without_value(columns, missing, options.missing, where, _LABEL)
    else:
        left_out = np.zeros(len(file.cells), bool)
    kept = {name: column.without(left_out) for name, column in columns.items()}
    label = kept.pop(_LABEL, None)
    classes, labels = class_texts(label, options.attributes.get(_LABEL)) if label is not None else ((), None)
    found = [
        attribute_with_missing(column, missing[name][~left_out], options.attributes.get(name))
        for name, column in kept.items()
    ]
    names = match_files(file, options, list(columns))
    described = ([Attribute(_LABEL, "categorical", classes)] if label is not None else []) + [one for one, _ in found]
    return Table(
        [name for name, out in zip(names, left_out, strict=True) if not out],
        classes,
        labels,
        tuple(one for one, _ in found),
        np.stack([values for _, values in found], axis=1) if found else None,
        None if split is None else _split(split.without(left_out).cells, where),
        tuple(column_report(one, options.attributes, int(missing[one.name].sum())) for one in described),
        int(left_out.sum()),
        caption_name,
        None if caption is None else [clean_caption(text) for text in caption.without(left_out).cells],
    )


def column_report(described: Attribute, kinds: Mapping[str, Kind], missing: int) -> ColumnReport:
    """Return how a column was read, with ``kinds`` as in ``data.attributes``."""
    decided_by = "data.attributes" if described.name in kinds else "rule"
    return ColumnReport(described.name, described.kind, decided_by, len(described.classes), missing)


def _columns(path: Path, root: Path, where: str) -> dict[str, TextColumn]:
    """Return the columns by name, without an index column and without columns that have neither a name nor a cell."""
    frame = _read(path, where)
    header = [str(name).strip() for name in frame.iloc[0]]
    if any(map(_IMAGE.fullmatch, header)) or (header[0] and is_file(root / header[0])):
        raise UserError(
            f"{where}: row 1 ({', '.join(header)}) must be a header, not an image; "
            f"add a first line such as {','.join([_FILE, _LABEL][: len(header)])}"
        )
    if len(frame) == 1:
        raise UserError(f"data.labels ({path}, 0 rows) must have rows; {_FORM}")
    rows = np.arange(2, len(frame) + 1)
    columns: dict[str, TextColumn] = {}
    for number, name in enumerate(header):
        cells = np.array([text.strip() for text in frame.iloc[1:, number]], object)
        column = TextColumn(name, cells, rows, where)
        if number == 0 and len(header) > 1 and _is_index(column, header[1:], frame.iloc[1, 1:], root):
            log.info("%s: column 1 (%r) numbers the rows and is left out", where, name)
            continue
        if not name and not any(cells):
            log.info("%s: column %d has neither a name nor values and is left out", where, number + 1)
            continue
        if not name:
            raise UserError(f"{where}: column {number + 1} (no name) must have a name in the header; write it there")
        if name in columns:
            raise UserError(f"{where}: column {name!r} must be in the header once; rename or remove the others")
        columns[name] = column
    return columns


def _read(path: Path, where: str) -> "pd.DataFrame":
    """Return all cells as texts; the first row is the header. Nothing is unpacked by its suffix."""
    try:
        with path.open("rb") as content:
            encoding = text_encoding(content.read(4))
        with path.open(encoding=encoding, newline="") as file:
            first = next((line for line in file if line.strip()), "")
        delimiter = _delimiter(first)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                path,
                header=None,
                dtype=object,
                sep=delimiter,
                index_col=False,
                keep_default_na=False,
                na_filter=False,
                compression=None,
                encoding=encoding,
                skipinitialspace=True,
            )
    except FileNotFoundError:
        raise UserError(f"{where} must be a CSV file; correct the name") from None
    except UnicodeDecodeError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"data.labels ({path}: {reason}) must be a readable CSV in UTF-8; save it as such") from None
    except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split())
        remedy = _FORM
        if found := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", reason):
            least, line, cells = found.groups()
            reason = f"line {line} has {cells} cells and the header, {first.strip():.60}, {least}"
            remedy = f"put quotes around a cell that contains {delimiter!r}, or correct the line"
        raise UserError(f"data.labels ({path}: {reason}) must be a readable CSV; {remedy}") from None
    if delimiter != ",":
        log.info("%s: the cells are separated by %r", where, delimiter)
    return frame.fillna("")


def _delimiter(header: str) -> str:
    """Return the delimiter that the header line has most often outside quotes; a comma where it has none."""
    bare = re.sub(r'"[^"]*"', "", header)
    return max(_DELIMITERS, key=bare.count)


def _is_index(column: TextColumn, others: Iterable[str], cells: Iterable[str], root: Path) -> bool:
    """Return whether the first column only numbers the rows, and another one names the files.

    Args:
        column: the first one.
        others: names of the others.
        cells: their first cells.
        root: ``data.path``.
    """
    first = str(column.cells[0])
    named = any(_letters(name) in _LIKE_FILE for name in others) or any(cell and is_file(root / cell) for cell in cells)
    if first not in ("0", "1") or is_file(root / first) or _letters(column.name) == _FILE or not named:
        return False
    return bool((column.cells == np.arange(int(first), int(first) + len(column.cells)).astype(str)).all())


def _check_header(columns: dict[str, TextColumn], options: SourceOptions, where: str) -> None:
    """Raise UserError for names that nearly are ``file``, ``label`` or ``split``, and for unknown attributes."""
    first = next(iter(columns))
    if unknown := next((name for name in options.attributes if name not in columns), None):
        close = difflib.get_close_matches(unknown, columns, 1)
        remedy = f"did you mean {close[0]!r}?" if close else "correct or remove it"
        found = f"{unknown}: {options.attributes[unknown]}"
        raise UserError(f"data.attributes ({found}) must name a column of {where}: {', '.join(columns)}; {remedy}")
    if _FILE not in columns:
        if first in (_LABEL, _SPLIT) or is_near_label(first):
            close = [name for name in columns if _letters(name) in _LIKE_FILE]
            remedy = f"did you mean {_FILE!r} by {close[0]!r}? rename that column" if close else "add that column"
            raise UserError(f"{where}: column 1 ({first!r}) must be the file name, or one column {_FILE!r}; {remedy}")
        others = [name for name in columns if name != first]
    else:
        others = [name for name in columns if name != _FILE]
    for name in others:
        is_label = _LABEL not in columns and is_near_label(name)
        is_split = _SPLIT not in columns and {text.lower() for text in columns[name].distinct[1]} <= _LIKE_SPLIT
        if name in options.attributes or not (is_label or is_split):
            continue
        meant = _LABEL if is_label else _SPLIT
        raise UserError(
            f"{where}: column {name!r} must be called {meant!r} or be an attribute; did you mean {meant!r}? rename it, "
            f"or set data.attributes: {{{name}: categorical}}"
        )


def is_near_label(name: str) -> bool:
    """Return whether a column's name says that it is the class, or nearly is ``label``."""
    letters = _letters(name)
    return letters in _LIKE_LABEL or difflib.SequenceMatcher(None, letters, _LABEL).ratio() >= 0.8


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


def _split(cells: NDArray[np.object_], where: str) -> NDArray[np.str_]:
    if unknown := _first(value for value in cells if value not in SPLITS):
        raise UserError(f"{where}: column {_SPLIT!r} ({unknown!r}) must be one of {', '.join(SPLITS)}; correct it")
    if "train" not in set(cells):
        raise UserError(f"{where}: column {_SPLIT!r} must assign some images to train; correct it")
    return cells.astype(str)


def _first(values: Iterable[str]) -> str | None:
    return next(iter(values), None)
