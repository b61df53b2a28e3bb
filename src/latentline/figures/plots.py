"""Plots of numbers: curves, bars, histograms, matrices; and tables for ``dvc plots``."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # draws without a screen

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from latentline.core.files import replaced_file
from latentline.figures.text import PlainLogFormatter, drawable, short_name, text_settings

_DPI = 80
_MARKED = {"marker": "o", "markersize": 3}  # of points on a line
_MAX_BARS = 62
_CAPTION_LINE = 26  # characters
_MAX_CELLS = 500  # along a side of a confusion matrix
_MAX_NAMES = 26  # of classes, in a confusion matrix


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: list[str] | None = None) -> None:
    """Write rows as CSV for ``dvc plots``, which needs the names of ``columns`` even where there are no rows."""
    with replaced_file(path) as temporary:
        pd.DataFrame(rows, columns=columns).to_csv(temporary, index=False, lineterminator="\n", float_format="%.6g")


def curves(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    x: str,
    y: Sequence[str],
    ylabel: str,
    *,
    log: bool = False,
) -> None:
    """Draw columns ``y`` of ``rows`` over column ``x``, on a logarithmic axis if ``log``."""
    with _axes(path, (5, 3.2), [x, *y, ylabel]) as axes:
        for name in y:
            axes.plot([row[x] for row in rows], [row[name] for row in rows], **_MARKED)
        axes.set(xlabel=drawable(x), ylabel=drawable(ylabel), yscale="log" if log else "linear")
        if log:
            axes.yaxis.set_major_formatter(PlainLogFormatter())
            axes.yaxis.set_minor_formatter(PlainLogFormatter())
        axes.grid(alpha=0.3)
        axes.legend(axes.lines, map(short_name, y))


def curve_panels(path: Path, rows: Sequence[Mapping[str, Any]], x: str, panels: Mapping[str, Sequence[str]]) -> None:
    """Draw columns of ``rows`` over column ``x`` in ``panels`` (label of the y axis -> columns).

    A row that lacks a column is left out of its curve.
    """
    texts = [x, *panels, *(name for names in panels.values() for name in names)]
    with _panels(path, (1, len(panels)), (3.4, 3), texts) as drawn:
        for axes, (label, names) in zip(drawn.flat, panels.items(), strict=True):
            for name in names:
                present = [row for row in rows if name in row]
                axes.plot([row[x] for row in present], [row[name] for row in present], **_MARKED)
            axes.set(xlabel=drawable(x), ylabel=drawable(label))
            axes.grid(alpha=0.3)
            axes.legend(axes.lines, map(short_name, names), fontsize=8)


def relation(
    path: Path,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    xlabel: str,
    ylabel: str,
    *,
    marks: Sequence[str] = (),
    diagonal: bool = False,
) -> None:
    """Draw lines through points (x, y).

    Args:
        path: ends in ``.png``.
        lines: points of each line by its name.
        xlabel: of the x axis.
        ylabel: of the y axis.
        marks: texts beside the points of the first line.
        diagonal: whether to draw y = x, dashed.
    """
    with _axes(path, (5, 4), [*lines, xlabel, ylabel, *marks]) as axes:
        for points in lines.values():
            axes.plot(*zip(*points, strict=True), **_MARKED)
        for mark, point in zip(marks, next(iter(lines.values())), strict=False):
            axes.annotate(short_name(mark), point, xytext=(3, 3), textcoords="offset points", fontsize=7)
        if diagonal:
            axes.plot([0, 1], [0, 1], linestyle="--", color="grey")
        axes.set(xlabel=drawable(xlabel), ylabel=drawable(ylabel))
        axes.grid(alpha=0.3)
        axes.legend(axes.lines[: len(lines)], map(short_name, lines))


def shares(path: Path, values: Mapping[str, ArrayLike], xlabel: str) -> None:
    """Draw histograms of several sets of numbers in [0, 1], superimposed."""
    with _axes(path, (5, 3.2), [*values, xlabel]) as axes:
        for numbers in values.values():
            axes.hist(np.asarray(numbers), bins=np.linspace(0, 1, 41), density=True, alpha=0.5)
        axes.set(xlabel=drawable(xlabel), ylabel="density", xlim=(0, 1))
        axes.legend(axes.containers, map(short_name, values))


def bars(path: Path, names: Sequence[str], values: Sequence[float], ylabel: str) -> None:
    """Draw a bar per name; of more than 62 only the lowest values, in ascending order, and ``ylabel`` notes it."""
    if len(names) > _MAX_BARS:
        lowest = np.argsort(values, kind="stable")[:_MAX_BARS]
        ylabel = f"{ylabel}, lowest {_MAX_BARS} of {len(names)}"
        names, values = [names[index] for index in lowest], [values[index] for index in lowest]
    with _axes(path, (max(4, 0.5 * len(names) + 1), 3.2), [*names, ylabel]) as axes:
        axes.bar(range(len(names)), values)
        axes.set_xticks(range(len(names)), map(short_name, names), rotation=45, ha="right")
        axes.set(ylabel=drawable(ylabel))
        axes.grid(alpha=0.3, axis="y")


def histogram(path: Path, names: Sequence[str], counts: Sequence[int], ylabel: str) -> None:
    """Draw a bar per name; of more than 62 a curve of the counts, in descending order."""
    if len(names) <= _MAX_BARS:
        bars(path, names, counts, ylabel)
        return
    with _axes(path, (5, 3.2), [ylabel]) as axes:
        axes.fill_between(range(1, len(counts) + 1), sorted(counts, reverse=True), step="mid")
        axes.set(xlabel=f"rank among {len(counts)}", ylabel=drawable(ylabel), ylim=(0, None))
        axes.grid(alpha=0.3)


def confusion(path: Path, matrix: ArrayLike, names: Sequence[str], note: str = "") -> None:
    """Draw counts (true class, predicted class); colours are shares of the row. ``note`` says which classes.

    Above 500 classes a cell is the sum over neighbouring classes, and the labels of the axes say over how many.
    """
    counts = np.asarray(matrix)
    together = -(-len(names) // _MAX_CELLS)
    if together > 1:
        starts = range(0, len(names), together)
        counts = np.add.reduceat(np.add.reduceat(counts, starts, axis=0), starts, axis=1)
    per_cell = f", {together} classes per cell" if together > 1 else ""
    with _axes(path, (6, 5.4), names if len(names) <= _MAX_NAMES else []) as axes:
        axes.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
        if len(names) <= _MAX_NAMES:
            for row, column in np.ndindex(*counts.shape):
                axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=7)
            axes.set_xticks(range(len(names)), map(short_name, names), rotation=45, ha="right")
            axes.set_yticks(range(len(names)), map(short_name, names))
        axes.set(xlabel=f"predicted{per_cell}{f' ({note})' if note else ''}", ylabel=f"true{per_cell}")


def notice(path: Path, text: str) -> None:
    """Draw a line of text, in place of a figure that has no data."""
    with _axes(path, (6, 0.6), [text]) as axes:
        axes.text(0.5, 0.5, drawable(text), ha="center", va="center")
        axes.set_axis_off()


def captioned_images(path: Path, images: NDArray[np.uint8], captions: Sequence[str], columns: int) -> None:
    """Draw images (N, C, H, W), C = 1 or 3, each above its caption, in rows of ``columns`` images."""
    texts = [drawable(caption) for caption in captions]
    with _panels(path, (-(-len(images) // columns), columns), (2.2, 2.6), texts) as panels:
        for panel in panels.flat:
            panel.set_axis_off()
        for panel, image, text in zip(panels.flat, images, texts, strict=False):
            pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
            panel.imshow(pixels, cmap="gray", vmin=0, vmax=255)
            lines = textwrap.fill(text, _CAPTION_LINE)
            panel.text(0.5, -0.04, lines, fontsize=7, ha="center", va="top", transform=panel.transAxes)


def histograms_against_normal(path: Path, values: ArrayLike, titles: Sequence[str]) -> None:
    """Draw the density of each row of ``values`` (K, N) in its own panel, with the standard normal density."""
    rows = np.asarray(values)
    columns = min(4, len(rows))
    x = np.linspace(-4, 4, 161)
    with _panels(path, (-(-len(rows) // columns), columns), (2.4, 2), titles) as panels:
        for panel in panels.flat[len(rows) :]:
            panel.set_axis_off()
        for panel, row, title in zip(panels.flat, rows, titles, strict=False):
            panel.hist(row, bins=x[::2], density=True, color="tab:blue", alpha=0.6)
            panel.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), color="black", linewidth=1)
            panel.set_title(short_name(title), fontsize=8)
            panel.tick_params(labelsize=7)


@contextmanager
def _axes(path: Path, size: tuple[float, float], texts: Iterable[str]) -> Iterator[Any]:
    """Yield axes of ``size`` inches, drawn with fonts that have the characters of ``texts``; then write the figure."""
    with _panels(path, (1, 1), size, texts) as panels:
        yield panels[0, 0]


@contextmanager
def _panels(path: Path, grid: tuple[int, int], size: tuple[float, float], texts: Iterable[str]) -> Iterator[Any]:
    """Yield a grid (rows, columns) of axes, each of ``size`` inches; see :func:`_axes`."""
    with text_settings(texts):
        figure, panels = plt.subplots(*grid, figsize=(size[0] * grid[1], size[1] * grid[0]), squeeze=False)
        try:
            yield panels
            figure.tight_layout()
            with replaced_file(path) as temporary:
                figure.savefig(temporary, dpi=_DPI, format="png", metadata={"Software": None})
        finally:
            plt.close(figure)
