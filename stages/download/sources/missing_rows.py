"""Rows of a table of labels that lack a value, and what ``data.missing`` does with them."""

import logging
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from latentline.core.errors import UserError
from stages.download.columns import TextColumn

log = logging.getLogger(__name__)


def rows_without_value(
    columns: dict[str, TextColumn], missing: dict[str, NDArray[np.bool_]], remedy: str, where: str, label: str | None
) -> NDArray[np.bool_]:
    """Return which rows (N,) lack a value and are left out; log how many lack one.

    Args:
        columns: by name.
        missing: which of each column's cells (N,) have no value.
        remedy: ``data.missing``.
        where: names the table in errors.
        label: the column of the class; None = there is none. ``ignore`` covers attributes only: samples and edits come
            by class, so an image without its class has no place among them.

    Raises:
        UserError: a value may not be missing, or all values of a column are.
    """
    if not missing:
        return np.zeros(0, bool)
    lacking = np.any(list(missing.values()), axis=0)
    if not lacking.any():
        return lacking
    needed = {name: cells for name, cells in missing.items() if remedy == "refuse" or name == label}
    if remedy != "drop" and any(cells.any() for cells in needed.values()):
        _refuse_row(columns, needed, where, label)
    for name, cells in missing.items():
        if cells.all() or (remedy == "drop" and lacking.all() and cells.any()):
            raise UserError(f"{where}: every row lacks a value, such as {name!r}; add them, or remove this column")
    counts = ", ".join(f"{name} {int(cells.sum())}" for name, cells in missing.items() if cells.any())
    effect = "are left out" if remedy == "drop" else "are kept without it"
    log.warning(
        "data.missing (%s): %d of %d images lack a value and %s (%s)",
        remedy,
        lacking.sum(),
        len(lacking),
        effect,
        counts,
    )
    return lacking if remedy == "drop" else np.zeros_like(lacking)


def _refuse_row(
    columns: dict[str, TextColumn], missing: dict[str, NDArray[np.bool_]], where: str, label: str | None
) -> NoReturn:
    """Raise UserError for the first row that lacks a value; arguments as of :func:`rows_without_value`."""
    index = int(np.flatnonzero(np.any(list(missing.values()), axis=0))[0])
    column = next(columns[name] for name, cells in missing.items() if cells[index])
    cell = f" ({column.cells[index]!r})" if column.cells[index] else ""
    keeping = "" if column.name == label else ", or to ignore, which keeps them without the value"
    raise UserError(
        f"{where}: row {column.rows[index]}{cell} must have a value of {column.name!r}; add it, remove the row, or "
        f"set data.missing to drop, which leaves such images out{keeping}"
    )
