"""The frame of a plot: axes of a size, a title, and a note on how to read it, written as PNG."""

import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # draws without a screen

import matplotlib.pyplot as plt

from latentline.core.files import replaced_file
from latentline.figures.style import MUTED, style
from latentline.figures.text import drawable

SIZE = (8, 4.2)  # inches: 800 pixels wide, as a page shows it
_DPI = 100
_TITLE_LINE, _NOTE_LINE, _LONGEST_TEXT = 66, 84, 200  # characters
_NOTE_FONT = 10.5


@contextmanager
def figure_axes(
    path: Path, size: tuple[float, float], title: str, texts: Iterable[str], note: str = ""
) -> Iterator[Any]:
    """Yield axes of ``size`` inches, with ``note`` below the title; see :func:`figure_panels`."""
    shown = drawable(note, _LONGEST_TEXT)
    with figure_panels(path, (1, 1), size, title, [*texts, shown]) as (_, panels):
        yield panels[0, 0]
        lines = textwrap.fill(shown, round(_NOTE_LINE * size[0] / SIZE[0]))
        panels[0, 0].set_title(lines, loc="left", fontsize=_NOTE_FONT, color=MUTED)


@contextmanager
def figure_panels(
    path: Path, grid: tuple[int, int], size: tuple[float, float], title: str, texts: Iterable[str]
) -> Iterator[tuple[Any, Any]]:
    """Yield a figure and its grid (rows, columns) of axes, each of ``size`` inches; then write the figure.

    It is drawn with fonts that have the characters of ``texts``.
    """
    shown = drawable(title, _LONGEST_TEXT)
    with style([shown, *texts]):
        inches = size[0] * grid[1], size[1] * grid[0]
        figure, panels = plt.subplots(*grid, figsize=inches, squeeze=False, layout="constrained")
        try:
            yield figure, panels
            figure.suptitle(textwrap.fill(shown, round(_TITLE_LINE * inches[0] / SIZE[0])))
            with replaced_file(path) as temporary:
                figure.savefig(temporary, dpi=_DPI, format="png", metadata={"Software": None, "Title": shown})
        finally:
            plt.close(figure)
