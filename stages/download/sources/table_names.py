"""The files of ``data.path`` that the rows of a CSV name."""

import difflib
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from latentline.core.errors import UserError
from stages.download.columns import TextColumn
from stages.download.source import SourceOptions

_MAX_COMPARED = 10_000  # files that a name is compared with, letter by letter


def is_file(path: Path) -> bool:
    """Return whether ``path`` is a file; a cell may hold what no system takes as a name."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or with a null character
        return False


def match_files(column: TextColumn, options: SourceOptions, others: Sequence[str]) -> list[str]:
    """Return the file below ``data.path`` that each cell of ``column`` names.

    Backslashes, ``./`` and Unicode forms (NFC, NFD) do not matter. A cell that names no file stays as it is: the image
    counts as unreadable.

    Args:
        column: the file names.
        options: ``path``, and ``max_unreadable``, above which the CSV is refused.
        others: names of the other columns, for the remedy.

    Raises:
        UserError: a name outside the folder, a file named twice, or too few names of files.
    """
    names = [_path(str(cell), options.path) for cell in column.cells]
    _require_inside(names, column, options.path)
    absent = [index for index, name in enumerate(names) if not is_file(options.path / name)]
    if absent:
        files = _files(options.path)
        composed = {unicodedata.normalize("NFC", file): file for file in files}
        for index in absent:
            names[index] = composed.get(unicodedata.normalize("NFC", names[index]), names[index])
        absent = [index for index in absent if not is_file(options.path / names[index])]
        if len(absent) == len(names) or len(absent) > options.max_unreadable * len(names):
            raise UserError(_unmatched(column, options, absent, names, files, others))
    _require_distinct(names, column)
    return names


def _path(cell: str, root: Path) -> str:
    """Return a relative path with slashes and without ``./``."""
    if "\\" in cell and not is_file(root / cell):
        cell = cell.replace("\\", "/")
    return str(PurePosixPath(cell))


def _require_inside(names: list[str], column: TextColumn, root: Path) -> None:
    for name, row in zip(names, column.rows, strict=True):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
            inside = PurePosixPath(name).is_relative_to(root.absolute())
            remedy = f"write {str(PurePosixPath(name).relative_to(root.absolute()))!r}" if inside else "correct it"
            raise UserError(
                f"{column.where}: row {row} ({name!r}) must be a file inside data.path, relative to it; {remedy}"
            )


def _require_distinct(names: list[str], column: TextColumn) -> None:
    earlier: dict[str, int] = {}
    for name, row in zip(names, column.rows, strict=True):
        if name in earlier:
            raise UserError(
                f"{column.where}: row {row} ({name!r}) must not repeat an earlier row, {earlier[name]}; "
                "remove one of them"
            )
        earlier[name] = int(row)


def _files(root: Path) -> list[str]:
    """Return the sorted relative names of all files below ``root``, without hidden folders."""
    found = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [(Path(folder) / file).relative_to(root).as_posix() for file in files if not file.startswith(".")]
    return sorted(found)


def _unmatched(
    column: TextColumn,
    options: SourceOptions,
    absent: list[int],
    names: list[str],
    files: list[str],
    others: Sequence[str],
) -> str:
    """Return the error for a CSV whose names are not those of the files."""
    name, row = names[absent[0]], column.rows[absent[0]]
    near = nearest(name, files)
    remedy = f"the nearest file is {near!r}; correct the names" if near else "correct data.path or the names"
    if near and PurePosixPath(near).stem == PurePosixPath(name).name:
        remedy += f" (add {PurePosixPath(near).suffix})"
    for other in others:
        if "file" in other.lower() or "path" in other.lower() or "image" in other.lower():
            remedy += f", or rename column {other!r} to 'file': did you mean that one?"
            break
    return (
        f"{column.where}: row {row}: column {column.name!r} ({name!r}) must be a file in data.path "
        f"({options.path}), and {len(absent)} of {len(names)} rows name none; {remedy}"
    )


def nearest(name: str, files: list[str]) -> str | None:
    """Return the file of ``files`` whose name is nearest to ``name``, None where none is near."""
    wanted = PurePosixPath(unicodedata.normalize("NFC", name))
    letters = wanted.name.casefold()
    for same in (
        lambda path: path.name.casefold() == letters,
        lambda path: path.stem.casefold() == wanted.stem.casefold(),
    ):
        if found := next((file for file in files if same(PurePosixPath(unicodedata.normalize("NFC", file)))), None):
            return found
    compared = files[:_MAX_COMPARED]
    return next(iter(difflib.get_close_matches(str(wanted), compared, 1, 0.5)), compared[0] if compared else None)
