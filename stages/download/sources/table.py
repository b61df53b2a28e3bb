"""The user's CSV of labels.

The first column is the file name, ``split`` train, val or test, ``label`` the class; all others are attributes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentline.core.attributes import Attribute
from latentline.core.errors import UserError
from stages.download.columns import attribute, class_labels
from stages.download.splits import SPLITS

_LABEL = "label"
_SPLIT = "split"
_FORM = "write a header line, then one row per image"


@dataclass(frozen=True)
class Table:
    """Content of the CSV; arrays have one row per file."""

    names: list[str]
    classes: tuple[str, ...]
    labels: NDArray[np.int64] | None  # (N,)
    attributes: tuple[Attribute, ...]
    values: NDArray[np.float32] | None  # (N, A)
    split: NDArray[np.str_] | None  # (N,)


def read_table(path: Path) -> Table:
    """Read and check the CSV.

    Raises:
        UserError: it is no CSV, has no rows, empty cells or unknown splits, or lists a file twice.
    """
    where = f"data.labels ({path})"
    try:
        # A class may be called "None" or "NA": only an empty text is an empty cell. Nothing is unpacked by its suffix.
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], compression=None)
    except FileNotFoundError:
        raise UserError(f"{where} must be a CSV file; correct the name") from None
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"data.labels ({path}: {reason}) must be a readable CSV; {_FORM}") from None
    if frame.empty:
        raise UserError(f"data.labels ({path}, 0 rows) must have rows; {_FORM}")
    if (empty := frame.isna()).any(axis=None):
        row, column = (int(index[0]) for index in np.nonzero(empty.to_numpy()))
        raise UserError(
            f"{where}: row {row + 2} must have a value of {frame.columns[column]!r}; add it, or remove the row"
        )
    names = [str(name) for name in frame.iloc[:, 0]]
    _check_names(names, where)
    others = {str(column): frame[column] for column in frame.columns[1:]}
    split = _split(others.pop(_SPLIT).astype(str), where) if _SPLIT in others else None
    classes, labels = (
        class_labels(others.pop(_LABEL), f"{where}: column {_LABEL!r}") if _LABEL in others else ((), None)
    )
    columns = [attribute(values, name, f"{where}: column {name!r}") for name, values in others.items()]
    return Table(
        names,
        classes,
        labels,
        tuple(described for described, _ in columns),
        np.stack([values for _, values in columns], axis=1) if columns else None,
        split,
    )


def _check_names(names: list[str], where: str) -> None:
    earlier = set()
    for row, name in enumerate(names, start=2):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UserError(
                f"{where}: row {row} ({name!r}) must be a file inside data.path, relative to it; correct it"
            )
        if name in earlier:
            raise UserError(f"{where}: row {row} ({name!r}) must not repeat an earlier row; remove one of them")
        earlier.add(name)


def _split(column: "pd.Series[str]", where: str) -> NDArray[np.str_]:
    if unknown := _first(value for value in column if value not in SPLITS):
        raise UserError(f"{where}: column {_SPLIT!r} ({unknown!r}) must be one of {', '.join(SPLITS)}; correct it")
    if "train" not in set(column):
        raise UserError(f"{where}: column {_SPLIT!r} must assign some images to train; correct it")
    return column.to_numpy(str)


def _first(values: Iterable[str]) -> str | None:
    return next(iter(values), None)
