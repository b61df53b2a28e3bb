"""A column of values -> class labels or an attribute."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from latentline.core.attributes import Column
from latentline.core.errors import UserError

_MOST_CATEGORIES = 1000
_BINARY = ({0.0, 1.0}, {-1.0, 1.0})  # CelebA writes -1 for no


def class_labels(values: ArrayLike, where: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Class names (the distinct values in order: numbers by size, texts by letters) and the class index (N,) of each value.

    Args:
        values: (N,) integers or texts.
        where: names the column in errors.

    Raises:
        UserError: fractions, or too many different values.
    """
    column = pd.Series(np.asarray(values))
    if pd.api.types.is_float_dtype(column) and (column % 1 != 0).any():
        raise UserError(f"{where}: {column[column % 1 != 0].iloc[0]} is no class; expected integers or texts")
    if pd.api.types.is_float_dtype(column):
        column = column.astype(np.int64)
    return _categories(column, where)


def attribute(values: "pd.Series[Any]", name: str, where: str) -> tuple[Column, NDArray[np.float32]]:
    """What column ``name`` says of each image: binary (booleans, 0/1, -1/1), continuous (other numbers) or categorical (texts).

    Raises:
        UserError: too many different texts, or numbers that float32 does not hold.
    """
    if pd.api.types.is_bool_dtype(values):
        return Column(name, "binary"), values.to_numpy(np.float32)
    if pd.api.types.is_numeric_dtype(values):
        numbers = values.to_numpy(np.float64)
        with np.errstate(over="ignore"):
            stored = numbers.astype(np.float32)
        if not np.isfinite(stored).all():
            raise UserError(
                f"{where}: holds {numbers[~np.isfinite(stored)][0]}, which is infinite in float32; expected numbers up to 3.4e38; "
                f"mend or remove these rows"
            )
        if any(set(np.unique(numbers)) <= pair for pair in _BINARY):
            return Column(name, "binary"), (numbers > 0).astype(np.float32)
        return Column(name, "continuous"), stored
    classes, indices = _categories(values, where)
    return Column(name, "categorical", classes), indices.astype(np.float32)


def _categories(column: "pd.Series[Any]", where: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    indices, distinct = pd.factorize(column, sort=True)
    if len(distinct) > _MOST_CATEGORIES:
        raise UserError(
            f"{where}: {len(distinct)} different values, expected at most {_MOST_CATEGORIES} categories; remove a column that only names images"
        )
    return tuple(str(value) for value in distinct), indices.astype(np.int64)
