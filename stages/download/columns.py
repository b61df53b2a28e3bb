"""Conversion of a column of values to class labels or to an attribute.

The kind of a column of texts is decided once, over all its rows:

    kind          the column
    binary        true and false, 0 and 1, or -1 and 1
    continuous    all other numbers
    categorical   everything else, and numbers with leading zeros such as 007

In a column of numbers the texts of ``MISSING`` are missing values; elsewhere only an empty cell is.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from latentline.core.attributes import Attribute
from latentline.core.errors import UserError

Kind = Literal["binary", "categorical", "continuous"]
MISSING = {"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none", "-", "--", "?", ".", "unknown", "missing"}
"""Missing values of a column of numbers, in small letters."""
_MAX_CATEGORIES = 1000  # of an attribute; a class may have any number
_LARGEST_EXACT = 2.0**53  # larger floats skip integers
_BINARY = ({0.0, 1.0}, {-1.0, 1.0})  # CelebA writes -1 for no
_TRUTH = {"false": 0.0, "true": 1.0}
_YES = {**_TRUTH, "no": 0.0, "yes": 1.0, "n": 0.0, "y": 1.0, "f": 0.0, "t": 1.0}
_BINARY_WORDS = "0 or 1, -1 or 1, true or false, or yes or no"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)
_PLAIN_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d+(\.0*)?", re.ASCII)
_PADDED = re.compile(r"[+-]?0\d+.*", re.ASCII)
_COMMA = re.compile(r"[+-]?\d+(,\d+)+(\.\d+)?", re.ASCII)


@dataclass(frozen=True)
class TextColumn:
    """A column of a table, before its kind is decided."""

    name: str
    cells: NDArray[np.object_]
    """(N,) texts without blanks around them."""
    rows: NDArray[np.int64]
    """(N,) rows of the table for people: the header is row 1."""
    where: str
    """Names the table in errors, such as ``data.labels (x.csv)``."""

    @cached_property
    def distinct(self) -> tuple[NDArray[np.int64], list[str]]:
        """The distinct texts, and the index (N,) among them of each cell."""
        indices, texts = pd.factorize(self.cells)
        return indices.astype(np.int64), [str(text) for text in texts]

    def each(self, function: Callable[[str], Any]) -> NDArray[Any]:
        """Return the results (N,) of a function of a text for all cells."""
        indices, texts = self.distinct
        return np.array([function(text) for text in texts])[indices]

    def first(self, matches: Callable[[str], bool]) -> int | None:
        """Return the index of the first cell that matches, None where none does."""
        found = np.flatnonzero(self.each(matches))
        return int(found[0]) if len(found) else None

    def at(self, index: int) -> str:
        """Name a cell in errors."""
        text = self.cells[index]
        shown = float(text) if _NUMBER.fullmatch(text) else repr(text)
        return f"{self.where}: row {self.rows[index]}: column {self.name!r} ({shown})"

    def without(self, left_out: NDArray[np.bool_]) -> "TextColumn":
        """Return the column without some of its cells, bool (N,)."""
        return TextColumn(self.name, self.cells[~left_out], self.rows[~left_out], self.where)


def class_labels(values: ArrayLike, where: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the class names, which are the sorted distinct values, and the class index (N,) of each value.

    Args:
        values: (N,) integers or texts.
        where: names the column in errors.

    Raises:
        UserError: fractions, or floats too large for it.
    """
    column = pd.Series(np.asarray(values))
    if pd.api.types.is_float_dtype(column) and (column % 1 != 0).any():
        value = column[column % 1 != 0].iloc[0]
        raise UserError(f"{where} ({value}) must hold integers or texts as classes; correct these rows")
    if pd.api.types.is_float_dtype(column):
        if (column.abs() > _LARGEST_EXACT).any():
            value = column[column.abs() > _LARGEST_EXACT].iloc[0]
            raise UserError(f"{where} ({value}) must hold integers of at most 2**53 in floats; save them as integers")
        column = column.astype(np.int64)
    return _categories(column)


def class_texts(column: TextColumn, kind: Kind | None) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the class names and the class index (N,) of each cell of ``column``.

    Integers are sorted as numbers, so 7 and 7.0 are one class. With leading zeros, or with the kind ``categorical`` in
    ``data.attributes``, the cells are texts as they stand.

    Raises:
        UserError: fractions, or another kind.
    """
    if kind not in (None, "categorical"):
        raise UserError(
            f"data.attributes.{column.name} ({kind}) must be categorical, since this column is the class; "
            "remove it, or rename the column"
        )
    _, texts = column.distinct
    if kind or not all(map(_PLAIN_NUMBER.fullmatch, texts)) or any(map(_PADDED.fullmatch, texts)):
        if not kind:
            _refuse_commas(column)
        return _categories(pd.Series(column.cells))
    if (odd := column.first(lambda text: not _INTEGER.fullmatch(text))) is not None:
        raise UserError(
            f"{column.at(odd)} must hold integers or texts as classes; correct it, "
            f"or set data.attributes: {{{column.name}: categorical}} to take it as a text"
        )
    order = sorted({_integer(text) for text in texts})
    index = {value: number for number, value in enumerate(order)}
    return tuple(map(str, order)), column.each(lambda text: index[_integer(text)]).astype(np.int64)


def missing_values(column: TextColumn, kind: Kind | None) -> NDArray[np.bool_]:
    """Return which cells (N,) have no value; ``kind`` is that of ``data.attributes``, None = by the rule."""
    if kind == "categorical" or not (kind or _is_numeric(column)):
        return column.each(lambda text: not text)
    return column.each(_is_missing)


def attribute(column: TextColumn, kind: Kind | None) -> tuple[Attribute, NDArray[np.float32]]:
    """Return the attribute of a column without missing values, and its values (N,).

    Args:
        column: of any texts.
        kind: as in ``data.attributes``; None = by the rule above.

    Raises:
        UserError: the cells do not have the given kind, mix numbers and texts, have decimal commas or too many
            different texts, or numbers that float32 does not hold.
    """
    if kind == "categorical" or not (kind or _is_numeric(column)):
        if not kind:
            _refuse_commas(column)
        return _categorical(column)
    truth = _YES if kind == "binary" else _TRUTH
    if kind != "continuous" and all(text.lower() in truth for text in column.distinct[1]):
        return Attribute(column.name, "binary"), column.each(lambda text: truth[text.lower()]).astype(np.float32)
    _refuse_commas(column)
    _refuse_texts(column, kind)
    numbers = column.each(float).astype(np.float64)
    with np.errstate(over="ignore"):
        stored = numbers.astype(np.float32)
    if not np.isfinite(stored).all():
        index = int(np.flatnonzero(~np.isfinite(stored))[0])
        raise UserError(f"{column.at(index)} must be finite in float32, at most 3.4e38; correct it or remove the row")
    if kind != "continuous" and any(set(np.unique(numbers)) <= pair for pair in _BINARY):
        return Attribute(column.name, "binary"), (numbers > 0).astype(np.float32)
    if kind == "binary":
        pair = (0, 1) if (numbers == 0).any() else (-1, 1)
        index = int(np.flatnonzero(~np.isin(numbers, pair))[0])
        raise UserError(f"{column.at(index)} must be {_BINARY_WORDS}; correct it, or data.attributes.{column.name}")
    return Attribute(column.name, "continuous"), stored


def attribute_with_missing(
    column: TextColumn, missing: NDArray[np.bool_], kind: Kind | None
) -> tuple[Attribute, NDArray[np.float32]]:
    """Return the attribute of a column, and its values (N,), NaN where ``missing`` (N,); else as :func:`attribute`."""
    found, present = attribute(column.without(missing), kind)
    values = np.full(len(missing), np.nan, np.float32)
    values[~missing] = present
    return found, values


def _categorical(column: TextColumn) -> tuple[Attribute, NDArray[np.float32]]:
    classes, indices = _categories(pd.Series(column.cells))
    if len(classes) > _MAX_CATEGORIES:
        raise UserError(
            f"{column.where}: column {column.name!r} ({len(classes)} different values) must have at most "
            f"{_MAX_CATEGORIES} categories; remove a column that only names images"
        )
    return Attribute(column.name, "categorical", classes), indices.astype(np.float32)


def _is_missing(text: str) -> bool:
    return text.lower() in MISSING


def _is_numeric(column: TextColumn) -> bool:
    """Return whether most cells with a value are numbers, or all are true or false; padded numbers are texts."""
    indices, texts = column.distinct
    counts = np.bincount(indices, minlength=len(texts)) * np.array([not _is_missing(text) for text in texts], int)
    if not counts.any() or any(map(_PADDED.fullmatch, texts)):
        return False
    numbers = np.array([bool(_NUMBER.fullmatch(text)) for text in texts])
    truths = np.array([text.lower() in _TRUTH for text in texts])
    return bool(2 * (counts * numbers).sum() > counts.sum() or (counts * truths).sum() == counts.sum())


def _refuse_commas(column: TextColumn) -> None:
    """Raise UserError where all cells are numbers but for commas in them."""
    values = [text for text in column.distinct[1] if not _is_missing(text)]
    if all(_COMMA.fullmatch(text) or _NUMBER.fullmatch(text) for text in values) and (
        (index := column.first(lambda text: bool(_COMMA.fullmatch(text)))) is not None
    ):
        raise UserError(
            f"{column.at(index)} must be a number with a decimal point and without commas; "
            f"replace the commas, or set data.attributes: {{{column.name}: categorical}}"
        )


def _refuse_texts(column: TextColumn, kind: Kind | None) -> None:
    """Raise UserError for the first cell that is no number."""
    if (index := column.first(lambda text: not _NUMBER.fullmatch(text))) is None:
        return
    if kind:
        expected = "a number" if kind == "continuous" else _BINARY_WORDS
        raise UserError(
            f"{column.at(index)} must be {expected}, since data.attributes.{column.name} is {kind}; correct either one"
        )
    numbers = int(column.each(lambda text: bool(_NUMBER.fullmatch(text))).sum())
    raise UserError(
        f"{column.at(index)} must be a number as in {numbers} of the {len(column.cells)} rows; correct it, empty it "
        f"where the value is missing, or set data.attributes: {{{column.name}: categorical}}"
    )


def _integer(text: str) -> int:
    """Return the integer of a text such as 7 or 7.0."""
    return int(text.partition(".")[0])


def _categories(column: "pd.Series[Any]") -> tuple[tuple[str, ...], NDArray[np.int64]]:
    indices, distinct = pd.factorize(column, sort=True)
    return tuple(str(value) for value in distinct), indices.astype(np.int64)
