"""Plots of numbers: curves, bars, histograms, matrices; and tables for ``dvc plots``."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # draws without a screen

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from latentline.core.files import replaced_file

_DPI = 80
_MAX_BARS = 62
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
    with _axes(path, (5, 3.2)) as axes:
        for name in y:
            axes.plot([row[x] for row in rows], [row[name] for row in rows], marker="o", markersize=3, label=name)
        axes.set(xlabel=x, ylabel=ylabel, yscale="log" if log else "linear")
        axes.grid(alpha=0.3)
        axes.legend()


def curve_panels(path: Path, rows: Sequence[Mapping[str, Any]], x: str, panels: Mapping[str, Sequence[str]]) -> None:
    """Draw columns of ``rows`` over column ``x`` in ``panels`` (label of the y axis -> columns).

    A row that lacks a column is left out of its curve.
    """
    figure, drawn = plt.subplots(1, len(panels), figsize=(3.4 * len(panels), 3), squeeze=False)
    for axes, (label, names) in zip(drawn.flat, panels.items(), strict=True):
        for name in names:
            present = [row for row in rows if name in row]
            axes.plot([row[x] for row in present], [row[name] for row in present], marker="o", markersize=3, label=name)
        axes.set(xlabel=x, ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    _save(path, figure)


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
    with _axes(path, (5, 4)) as axes:
        for name, points in lines.items():
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
        for mark, point in zip(marks, next(iter(lines.values())), strict=False):
            axes.annotate(mark, point, xytext=(3, 3), textcoords="offset points", fontsize=7)
        if diagonal:
            axes.plot([0, 1], [0, 1], linestyle="--", color="grey")
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.grid(alpha=0.3)
        axes.legend()


def shares(path: Path, values: Mapping[str, ArrayLike], xlabel: str) -> None:
    """Draw histograms of several sets of numbers in [0, 1], superimposed."""
    with _axes(path, (5, 3.2)) as axes:
        for name, numbers in values.items():
            axes.hist(np.asarray(numbers), bins=np.linspace(0, 1, 41), density=True, alpha=0.5, label=name)
        axes.set(xlabel=xlabel, ylabel="density", xlim=(0, 1))
        axes.legend()


def bars(path: Path, names: Sequence[str], values: Sequence[float], ylabel: str) -> None:
    """Draw a bar per name; of more than 62 only the lowest values, in ascending order, and ``ylabel`` notes it."""
    if len(names) > _MAX_BARS:
        lowest = np.argsort(values, kind="stable")[:_MAX_BARS]
        ylabel = f"{ylabel}, lowest {_MAX_BARS} of {len(names)}"
        names, values = [names[index] for index in lowest], [values[index] for index in lowest]
    with _axes(path, (max(4, 0.5 * len(names) + 1), 3.2)) as axes:
        axes.bar(range(len(names)), values)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set(ylabel=ylabel)
        axes.grid(alpha=0.3, axis="y")


def histogram(path: Path, names: Sequence[str], counts: Sequence[int], ylabel: str) -> None:
    """Draw a bar per name; of more than 62 a curve of the counts, in descending order."""
    if len(names) <= _MAX_BARS:
        bars(path, names, counts, ylabel)
        return
    with _axes(path, (5, 3.2)) as axes:
        axes.fill_between(range(1, len(counts) + 1), sorted(counts, reverse=True), step="mid")
        axes.set(xlabel=f"rank among {len(counts)}", ylabel=ylabel, ylim=(0, None))
        axes.grid(alpha=0.3)


def confusion(path: Path, matrix: ArrayLike, names: Sequence[str], note: str = "") -> None:
    """Draw counts (true class, predicted class); colours are shares of the row. ``note`` says which classes."""
    counts = np.asarray(matrix)
    with _axes(path, (6, 5.4)) as axes:
        axes.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
        if len(names) <= _MAX_NAMES:
            for row, column in np.ndindex(*counts.shape):
                axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=7)
            axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
            axes.set_yticks(range(len(names)), names)
        axes.set(xlabel=f"predicted ({note})" if note else "predicted", ylabel="true")


def notice(path: Path, text: str) -> None:
    """Draw a line of text, in place of a figure that has no data."""
    with _axes(path, (6, 0.6)) as axes:
        axes.text(0.5, 0.5, text, ha="center", va="center")
        axes.set_axis_off()


def histograms_against_normal(path: Path, values: ArrayLike, titles: Sequence[str]) -> None:
    """Draw the density of each row of ``values`` (K, N) in its own panel, with the standard normal density."""
    rows = np.asarray(values)
    columns = min(4, len(rows))
    figure, panels = plt.subplots(
        -(-len(rows) // columns), columns, figsize=(2.4 * columns, 2 * -(-len(rows) // columns)), squeeze=False
    )
    x = np.linspace(-4, 4, 161)
    for panel in panels.flat[len(rows) :]:
        panel.set_axis_off()
    for panel, row, title in zip(panels.flat, rows, titles, strict=False):
        panel.hist(row, bins=x[::2], density=True, color="tab:blue", alpha=0.6)
        panel.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), color="black", linewidth=1)
        panel.set_title(title, fontsize=8)
        panel.tick_params(labelsize=7)
    _save(path, figure)


@contextmanager
def _axes(path: Path, size: tuple[float, float]) -> Iterator[Any]:
    figure, axes = plt.subplots(figsize=size)
    yield axes
    _save(path, figure)


def _save(path: Path, figure: Any) -> None:
    figure.tight_layout()
    with replaced_file(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, format="png", metadata={"Software": None})
    plt.close(figure)
