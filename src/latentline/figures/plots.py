"""Plots of numbers: curves, bars, histograms, matrices; and tables for ``dvc plots``."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike

from latentline.core.files import replaced_file
from latentline.figures.canvas import SIZE, figure_axes, figure_panels
from latentline.figures.style import MUTED, PALETTE, ordered_colors
from latentline.figures.text import PlainLogFormatter, drawable, short_name

_MAX_BARS = 62
_MAX_VALUES = 12  # bars with their value above them
_WIDEST = 12  # inches
_LETTERS = 70  # below bars, side by side
_MAX_CELLS = 500  # along a side of a confusion matrix
_MAX_NAMES = 26  # of classes, in a confusion matrix
_DARK_CELL = 0.5  # share of the row from which on a cell is dark

_HALO = (withStroke(linewidth=3, foreground="white"),)  # around texts, where a line would cross them

Lines = Mapping[str, str] | Sequence[str]  # columns to draw; a mapping has their names in the legend
Bands = Mapping[str, Sequence[tuple[float, float]]]  # lowest and highest likely value of each row, by column


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: list[str] | None = None) -> None:
    """Write rows as CSV for ``dvc plots``, which needs the names of ``columns`` even where there are no rows."""
    with replaced_file(path) as temporary:
        pd.DataFrame(rows, columns=columns).to_csv(temporary, index=False, lineterminator="\n", float_format="%.6g")


def curves(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    x: str,
    y: Lines,
    ylabel: str,
    *,
    title: str = "",
    note: str = "",
    xlabel: str = "",
    log: bool = False,
    ordered: bool = False,
    bands: Bands | None = None,
) -> None:
    """Draw columns ``y`` of ``rows`` over column ``x``.

    Args:
        path: ends in ``.png``.
        rows: the numbers.
        x: name of a column.
        y: names of columns.
        ylabel: of the y axis, with its unit.
        title: of the figure.
        note: how to read it, below the title.
        xlabel: of the x axis, with its unit; "" = ``x``.
        log: whether the y axis is logarithmic, which its label then says.
        ordered: whether the columns have an order, which their colours then show. The legend has the order of the
            curves' ends, from above.
        bands: the spread of some columns, drawn behind their curves.
    """
    names = _names(y)
    colors = ordered_colors(len(names)) if ordered else _colors(len(names))
    ylabel += " (log scale)" if log else ""
    with figure_axes(path, SIZE, title, [x, *names.values(), ylabel, xlabel], note) as axes:
        for (column, _), color in zip(names.items(), colors, strict=True):
            positions = [row[x] for row in rows]
            axes.plot(positions, [row[column] for row in rows], color=color)
            if bands and column in bands:
                _band(axes, positions, bands[column], color)
        axes.set(xlabel=drawable(xlabel or x), ylabel=drawable(ylabel), yscale="log" if log else "linear")
        if log:
            axes.yaxis.set_major_formatter(PlainLogFormatter())
            axes.yaxis.set_minor_formatter(PlainLogFormatter())
            axes.grid(which="minor", axis="y", alpha=0.15)
        _whole_epochs(axes, x)
        shown = list(zip(axes.lines, names.values(), strict=True))
        if ordered:
            shown.sort(key=lambda line: -line[0].get_ydata()[-1])
        _legend(axes, [line for line, _ in shown], [name for _, name in shown])


def curve_panels(
    path: Path, rows: Sequence[Mapping[str, Any]], x: str, panels: Mapping[str, Lines], *, title: str = ""
) -> None:
    """Draw columns of ``rows`` over column ``x`` in ``panels`` (label of the y axis -> columns).

    A row that lacks a column is left out of its curve.
    """
    texts = [x, *panels, *(text for names in panels.values() for text in _names(names).values())]
    size = (max(4, SIZE[0] / len(panels)), 3.8)
    with figure_panels(path, (1, len(panels)), size, title, texts) as (_, drawn):
        for axes, (label, columns) in zip(drawn.flat, panels.items(), strict=True):
            names = _names(columns)
            for name in names:
                present = [row for row in rows if name in row]
                axes.plot([row[x] for row in present], [row[name] for row in present])
            axes.set(xlabel=drawable(x), ylabel=drawable(label))
            _whole_epochs(axes, x)
            if len(names) > 1:
                axes.legend(axes.lines, map(short_name, names.values()), loc="lower left", bbox_to_anchor=(0, 1))


def relation(
    path: Path,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    xlabel: str,
    ylabel: str,
    *,
    title: str = "",
    note: str = "",
    marks: Sequence[str] = (),
    diagonal: str = "",
    bands: Bands | None = None,
) -> None:
    """Draw lines through points (x, y).

    Args:
        path: ends in ``.png``.
        lines: points of each line by its name.
        xlabel: of the x axis.
        ylabel: of the y axis.
        title: of the figure.
        note: how to read it, below the title.
        marks: texts beside the points of the first line.
        diagonal: what the dashed line y = x means; "" = no such line.
        bands: the spread of the points of some lines.
    """
    with figure_axes(path, (8, 5), title, [*lines, xlabel, ylabel, *marks, diagonal], note) as axes:
        for (name, points), color in zip(lines.items(), _colors(len(lines)), strict=True):
            axes.plot(*zip(*points, strict=True), color=color)
            if bands and name in bands:
                _band(axes, [x for x, _ in points], bands[name], color)
        first = next(iter(lines.values()))
        lowest = min(y for _, y in first)
        for mark, (x, y) in zip(marks, first, strict=False):
            # The lowest points have theirs to the left, since lines often run together above them.
            offset, align = ((5, 5), ("left", "baseline")) if y > lowest else ((-7, 0), ("right", "center"))
            axes.annotate(
                short_name(mark),
                (x, y),
                offset,
                textcoords="offset points",
                fontsize=10,
                ha=align[0],
                va=align[1],
                path_effects=_HALO,
            )
        if diagonal:
            axes.plot([0, 1], [0, 1], linestyle="--", color=MUTED, marker="")
        axes.set(xlabel=drawable(xlabel), ylabel=drawable(ylabel))
        _legend(axes, axes.lines, [*lines, diagonal] if diagonal else lines)


def shares(path: Path, values: Mapping[str, ArrayLike], xlabel: str, *, title: str = "") -> None:
    """Draw histograms of several sets of numbers in [0, 1], superimposed."""
    with figure_axes(path, SIZE, title, [*values, xlabel]) as axes:
        for numbers, color in zip(values.values(), PALETTE, strict=False):
            axes.hist(np.asarray(numbers), bins=np.linspace(0, 1, 41), density=True, alpha=0.5, color=color)
        axes.set(xlabel=drawable(xlabel), ylabel="density", xlim=(0, 1))
        _legend(axes, axes.containers, values)


def bars(
    path: Path,
    names: Sequence[str],
    values: Sequence[float],
    ylabel: str,
    *,
    title: str = "",
    xlabel: str = "",
    mean: bool = False,
) -> None:
    """Draw a bar per name; of more than 62 only the lowest values, in ascending order, and ``ylabel`` notes it.

    ``mean`` adds the mean of all values and their standard deviation, behind the bars and below the title.
    """
    note = ""
    if mean and len(names) > 1:
        average, deviation = float(np.mean(values)), float(np.std(values))
        note = f"Dashed: mean {average:.3g}; band: standard deviation {deviation:.2g}."
    if len(names) > _MAX_BARS:
        lowest = np.argsort(values, kind="stable")[:_MAX_BARS]
        ylabel = f"{ylabel}, lowest {_MAX_BARS} of {len(names)}"
        names, values = [names[index] for index in lowest], [values[index] for index in lowest]
    shown, few = list(map(short_name, names)), len(names) <= _MAX_VALUES
    upright, slanted = {"rotation": 0}, {"rotation": 45 if few else 90, "ha": "right" if few else "center"}
    size = (min(_WIDEST, max(SIZE[0], 0.4 * len(names))), SIZE[1])
    with figure_axes(path, size, title, [*names, ylabel, xlabel], note) as axes:
        drawn = axes.bar(range(len(names)), values, width=0.7, color=PALETTE[0])
        if few:
            texts = [f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}" for value in values]
            axes.bar_label(drawn, texts, padding=2, path_effects=_HALO)
            axes.margins(y=0.1)
        fits = max(map(len, shown)) * len(shown) < _LETTERS
        axes.set_xticks(range(len(names)), shown, **(upright if fits else slanted))
        axes.set(xlabel=drawable(xlabel), ylabel=drawable(ylabel))
        axes.grid(visible=False, axis="x")
        if mean and len(names) > 1:
            axes.axhspan(average - deviation, average + deviation, color=PALETTE[1], alpha=0.2, linewidth=0, zorder=0)
            axes.axhline(average, color=PALETTE[1], linestyle="--", marker="", zorder=0.5)


def histogram(path: Path, names: Sequence[str], counts: Sequence[int], ylabel: str, *, title: str = "") -> None:
    """Draw a bar per name; of more than 62 a curve of the counts, in descending order."""
    if len(names) <= _MAX_BARS:
        bars(path, names, counts, ylabel, title=title)
        return
    with figure_axes(path, SIZE, title, [ylabel]) as axes:
        axes.fill_between(range(1, len(counts) + 1), sorted(counts, reverse=True), step="mid", color=PALETTE[0])
        axes.set(xlabel=f"rank among {len(counts)}", ylabel=drawable(ylabel), ylim=(0, None))


def confusion(path: Path, matrix: ArrayLike, names: Sequence[str], note: str = "", *, title: str = "") -> None:
    """Draw counts (true class, predicted class); colours are shares of the row. ``note`` says which classes.

    Above 500 classes a cell is the sum over neighbouring classes, and the labels of the axes say over how many.
    """
    counts = np.asarray(matrix)
    together = -(-len(names) // _MAX_CELLS)
    if together > 1:
        starts = range(0, len(names), together)
        counts = np.add.reduceat(np.add.reduceat(counts, starts, axis=0), starts, axis=1)
    per_cell = f", {together} classes per cell" if together > 1 else ""
    with figure_panels(path, (1, 1), (8, 6.8), title, names if len(names) <= _MAX_NAMES else []) as (figure, panels):
        axes, part = panels[0, 0], counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        image = axes.imshow(part, cmap="Blues", vmin=0, vmax=1)
        figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
        axes.grid(visible=False)
        if len(names) <= _MAX_NAMES:
            size = 10 if len(names) <= _MAX_VALUES else 6
            for row, column in np.ndindex(*counts.shape):
                color = "white" if part[row, column] > _DARK_CELL else "black"
                axes.text(column, row, f"{counts[row, column]:g}", ha="center", va="center", fontsize=size, color=color)
            axes.set_xticks(range(len(names)), map(short_name, names), rotation=45, ha="right")
            axes.set_yticks(range(len(names)), map(short_name, names))
        axes.set(xlabel=f"predicted{per_cell}{f' ({note})' if note else ''}", ylabel=f"true{per_cell}")


def notice(path: Path, text: str) -> None:
    """Draw a line of text, in place of a figure that has no data."""
    with figure_axes(path, (8, 0.8), "", [text]) as axes:
        axes.text(0.5, 0.5, drawable(text), ha="center", va="center")
        axes.set_axis_off()


def histograms_against_normal(path: Path, values: ArrayLike, titles: Sequence[str], *, title: str = "") -> None:
    """Draw the density of each row of ``values`` (K, N) in its own panel, with the standard normal density."""
    rows = np.asarray(values)
    columns = min(4, len(rows))
    x = np.linspace(-4, 4, 161)
    size = (max(2.4, SIZE[0] / columns), 2)
    with figure_panels(path, (-(-len(rows) // columns), columns), size, title, titles) as (figure, panels):
        for panel in panels.flat[len(rows) :]:
            panel.set_axis_off()
        for panel, row, name in zip(panels.flat, rows, titles, strict=False):
            drawn = panel.hist(row, bins=x[::2], density=True, color=PALETTE[0], alpha=0.6)[2]
            (line,) = panel.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), color="black", linewidth=1, marker="")
            panel.set_title(short_name(name))
        figure.supxlabel("standardised value (standard deviations)", size=11)
        figure.supylabel("density", size=11)
        _legend(panels[0, -1], [drawn, line], ["latents", "normal"])


def _names(y: Lines) -> Mapping[str, str]:
    return y if isinstance(y, Mapping) else {name: name for name in y}


def _colors(count: int) -> Sequence[Any]:
    return PALETTE[:count] if count <= len(PALETTE) else ordered_colors(count)


def _band(axes: Any, x: Sequence[float], band: Sequence[tuple[float, float]], color: Any) -> None:
    axes.fill_between(x, *zip(*band, strict=True), color=color, alpha=0.2, linewidth=0)


def _whole_epochs(axes: Any, x: str) -> None:
    """Label whole numbers only where the x axis counts epochs."""
    if x == "epoch":
        axes.xaxis.get_major_locator().set_params(integer=True)


def _legend(axes: Any, handles: Sequence[Any], names: Iterable[str]) -> None:
    """Name the handles to the right of the axes, where it covers nothing; one alone has its name on the y axis."""
    shown = list(map(short_name, names))
    if len(shown) > 1:
        axes.legend(handles, shown, loc="upper left", bbox_to_anchor=(1, 1))
