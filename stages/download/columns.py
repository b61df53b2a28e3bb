"""Conversion of a column of values to class labels or to an attribute."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from latentline.core.attributes import Attribute
from latentline.core.errors import UserError

_MAX_CATEGORIES = 1000
_BINARY = ({0.0, 1.0}, {-1.0, 1.0})  # CelebA writes -1 for no


def class_labels(values: ArrayLike, where: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the class names, which are the sorted distinct values, and the class index (N,) of each value.

    Args:
        values: (N,) integers or texts.
        where: names the column in errors.

    Raises:
        UserError: fractions, or too many different values.
    """
    column = pd.Series(np.asarray(values))
    if pd.api.types.is_float_dtype(column) and (column % 1 != 0).any():
        value = column[column % 1 != 0].iloc[0]
        raise UserError(f"{where} ({value}) must hold integers or texts as classes; correct these rows")
    if pd.api.types.is_float_dtype(column):
        column = column.astype(np.int64)
    return _categories(column, where)


def attribute(values: "pd.Series[Any]", name: str, where: str) -> tuple[Attribute, NDArray[np.float32]]:
    """Return the attribute of column ``name`` and its values (N,).

    Booleans, 0/1 and -1/1 are binary, other numbers continuous, texts categorical.

    Raises:
        UserError: too many different texts, or numbers that float32 does not hold.
    """
    if pd.api.types.is_bool_dtype(values):
        return Attribute(name, "binary"), values.to_numpy(np.float32)
    if pd.api.types.is_numeric_dtype(values):
        numbers = values.to_numpy(np.float64)
        with np.errstate(over="ignore"):
            stored = numbers.astype(np.float32)
        if not np.isfinite(stored).all():
            value = numbers[~np.isfinite(stored)][0]
            raise UserError(
                f"{where} ({value}) must be finite in float32, at most 3.4e38; correct or remove these rows"
            )
        if any(set(np.unique(numbers)) <= pair for pair in _BINARY):
            return Attribute(name, "binary"), (numbers > 0).astype(np.float32)
        return Attribute(name, "continuous"), stored
    classes, indices = _categories(values, where)
    return Attribute(name, "categorical", classes), indices.astype(np.float32)


def _categories(column: "pd.Series[Any]", where: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    indices, distinct = pd.factorize(column, sort=True)
    if len(distinct) > _MAX_CATEGORIES:
        raise UserError(
            f"{where} ({len(distinct)} different values) must have at most {_MAX_CATEGORIES} categories; "
            "remove a column that only names images"
        )
    return tuple(str(value) for value in distinct), indices.astype(np.int64)
