"""A user's CSV of labels: first column = file name, ``split`` = train, val or test, ``label`` = class, all others = attributes."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentline.core.attributes import Column
from latentline.core.errors import UserError
from stages.download.columns import attribute, class_labels
from stages.download.splits import SPLITS

_LABEL = "label"
_SPLIT = "split"


@dataclass(frozen=True)
class Table:
    """The CSV as read; arrays have one row per file."""

    names: list[str]
    classes: tuple[str, ...]
    labels: NDArray[np.int64] | None  # (N,)
    attributes: tuple[Column, ...]
    values: NDArray[np.float32] | None  # (N, A)
    split: NDArray[np.str_] | None  # (N,)


def read_table(path: Path) -> Table:
    """Read and check ``path``. Raises UserError: not CSV, no rows, empty cells, a file named twice, unknown splits."""
    knob = f"data.labels {path}"
    try:
        # Text stays text: a class called "None" or "NA" is a class; only nothing at all is an empty cell. Nothing is unpacked by its name.
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], compression=None)
    except FileNotFoundError:
        raise UserError(f"{knob}: no such file; expected a CSV; correct the name") from None
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UserError(f"{knob}: not a readable CSV ({' '.join(str(error).split())}); expected a header line, then one row per image") from None
    if frame.empty:
        raise UserError(f"{knob}: has no rows; expected a header line, then one row per image")
    if (empty := frame.isna()).any(axis=None):
        row, column = (int(index[0]) for index in np.nonzero(empty.to_numpy()))
        raise UserError(f"{knob}: row {row + 2} has no {frame.columns[column]!r}; expected a value in every cell; fill it in or remove the row")
    names = [str(name) for name in frame.iloc[:, 0]]
    _check_names(names, knob)
    others = {str(column): frame[column] for column in frame.columns[1:]}
    split = _split(others.pop(_SPLIT).astype(str), knob) if _SPLIT in others else None
    classes, labels = class_labels(others.pop(_LABEL), f"{knob}, column {_LABEL!r}") if _LABEL in others else ((), None)
    columns = [attribute(values, name, f"{knob}, column {name!r}") for name, values in others.items()]
    return Table(
        names,
        classes,
        labels,
        tuple(described for described, _ in columns),
        np.stack([values for _, values in columns], axis=1) if columns else None,
        split,
    )


def _check_names(names: list[str], knob: str) -> None:
    seen = set()
    for row, name in enumerate(names, start=2):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UserError(f"{knob}: row {row} names {name!r}, expected a file inside data.path, relative to it")
        if name in seen:
            raise UserError(f"{knob}: row {row} names {name!r} a second time; expected one row per image; remove one")
        seen.add(name)


def _split(column: "pd.Series[str]", knob: str) -> NDArray[np.str_]:
    if unknown := _first(value for value in column if value not in SPLITS):
        raise UserError(f"{knob}: column {_SPLIT!r} holds {unknown!r}, expected one of {', '.join(SPLITS)}")
    if "train" not in set(column):
        raise UserError(f"{knob}: column {_SPLIT!r} gives no image to train; expected some")
    return column.to_numpy(str)


def _first(values: Iterable[str]) -> str | None:
    return next(iter(values), None)
