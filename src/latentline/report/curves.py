"""Tables in fig/ as charts that show their values under the pointer, without a library in the page."""

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.ticker import MaxNLocator

from latentline.report.run import Run

WIDTH, HEIGHT = 460, 240
"""Size of a chart's drawing in pixels."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 10, 40
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # safe for the colour-blind
_POINTS = 400  # of a line at most, about one per pixel


class Point(NamedTuple):
    """A value and where it is drawn."""

    left: float
    top: float
    x: float
    y: float


@dataclass(frozen=True)
class Line:
    """One column of a table."""

    name: str
    colour: str
    dashed: bool  # of the run to compare with
    points: tuple[Point, ...]

    @property
    def path(self) -> str:
        """Its points for SVG."""
        return " ".join(f"{point.left:g},{point.top:g}" for point in self.points)


@dataclass(frozen=True)
class Chart:
    """Columns of one table that share their unit."""

    title: str
    x_label: str
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]  # where, and the text
    y_ticks: tuple[tuple[float, str], ...]
    frame: tuple[float, float, float, float]  # left, top, right, bottom

    @property
    def data(self) -> str:
        """What the page's script reads: per line its name, and (left, x, y) of its points."""
        lines = [{"name": line.name, "points": [[p.left, p.x, p.y] for p in line.points]} for line in self.lines]
        return json.dumps(lines)


def charts_of(runs: list[Run], path: str) -> list[Chart]:
    """Return the charts of the table at ``path``, which not every run needs to have; none if it is not of numbers."""
    tables = [_columns(run.files[path]) if path in run.files else {} for run in runs]
    names = list(dict.fromkeys(name for table in tables for name in table))
    families = groupby(sorted(names[1:], key=lambda name: (_first(names, name), names.index(name))), key=_family)
    stage, title = Path(path).parent.name.replace("_", " "), Path(path).stem.replace("_", " ")
    return [
        _chart(
            f"{stage}: {family}" if family.startswith(title) else f"{stage}: {title}, {family}",
            names[0],
            family_names,
            tables,
            runs,
        )
        for family, group in families
        if (family_names := list(group))
    ]


def _chart(title: str, x_name: str, names: list[str], tables: list[dict[str, list[float]]], runs: list[Run]) -> Chart:
    series = []  # name, colour, dashed, x and y
    for number, (table, run) in enumerate(zip(tables, runs, strict=True)):
        for index, name in enumerate(names):
            rows = [(x, y) for x, y in zip(table.get(x_name, []), table.get(name, []), strict=False) if _finite(x, y)]
            if not rows:
                continue
            rows = [*rows[: -1 : math.ceil(len(rows) / _POINTS)], rows[-1]]  # with the last, which is the result
            text = name.replace("_", " ") + (f" ({run.name})" if len(runs) > 1 else "")
            series.append((text, _colour(index, len(names)), number > 0, rows))
    drawn = [row for *_, rows in series for row in rows]
    x_range, y_range = _ends([x for x, _ in drawn], 0.0), _ends([y for _, y in drawn], 0.05)
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM

    def left_of(x: float) -> float:
        return round(_LEFT + (x - x_range[0]) / (x_range[1] - x_range[0]) * (right - _LEFT), 1)

    def top_of(y: float) -> float:
        return round(bottom - (y - y_range[0]) / (y_range[1] - y_range[0]) * (bottom - _TOP), 1)

    lines = [
        Line(name, colour, dashed, tuple(Point(left_of(x), top_of(y), x, y) for x, y in rows))
        for name, colour, dashed, rows in series
    ]
    return Chart(
        title=title,
        x_label=x_name,
        lines=tuple(line for line in lines if line.points),
        x_ticks=tuple((left_of(x), f"{x:g}") for x in _ticks(x_range, all(x == int(x) for x, _ in drawn))),
        y_ticks=tuple((top_of(y), f"{y:g}") for y in _ticks(y_range)),
        frame=(_LEFT, _TOP, right, bottom),
    )


def _columns(content: bytes) -> dict[str, list[float]]:
    """Return the columns of a CSV, NaN where a cell is empty; nothing where some cell is text."""
    header, *rows = [*csv.reader(io.StringIO(content.decode()))] or [[]]
    try:
        cells = [[float(cell) if cell else math.nan for cell in row] for row in rows]
    except ValueError:
        return {}
    if not rows or any(len(row) != len(header) for row in rows):
        return {}
    return {name: [row[index] for row in cells] for index, name in enumerate(header)}


def _family(name: str) -> str:
    """Return what columns of one unit have in common: val_loss and loss, loss@0.05 and loss@0.15."""
    stem, _, at = re.sub(r"^(train|val|test)_|_random$", "", name).partition("@")
    return f"{stem} by time" if at else stem


def _first(names: Sequence[str], name: str) -> int:
    """Return the place of the first column of a column's family."""
    return next(index for index, other in enumerate(names) if index and _family(other) == _family(name))


def _colour(index: int, count: int) -> str:
    """Return a colour: one of a few distinct ones, or of a scale where lines are many."""
    return _COLOURS[index] if count <= len(_COLOURS) else to_hex(colormaps["viridis"](index / count))


def _ends(values: Sequence[float], margin: float) -> tuple[float, float]:
    """Return the smallest and the largest value with a margin, apart in any case."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    wide = (high - low) * margin or (0.5 if low == high else 0.0)
    return low - wide, high + wide


def _ticks(ends: tuple[float, float], whole: bool = False) -> list[float]:
    values = [float(f"{value:.6g}") for value in MaxNLocator(5, integer=whole).tick_values(*ends)]
    return [value for value in values if ends[0] <= value <= ends[1]]


def _finite(*values: float) -> bool:
    return all(math.isfinite(value) for value in values)
