"""One style of all figures: dark text on white, and a palette that colour-blind people can tell apart."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from cycler import cycler

from latentline.figures.text import text_settings

DARK, MUTED = "#222222", "#555555"  # of text; grey, so that a grey grid stays grey
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The colours of Okabe and Ito (https://jfly.uni-koeln.de/color), without yellow, which is too faint on white."""
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # with the colours, so that a grey print tells lines apart, too
_SETTINGS: Any = {  # Any, since matplotlib types each key
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.labelcolor": DARK,
    "axes.labelsize": 11,
    "axes.prop_cycle": cycler(color=PALETTE, marker=_MARKERS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "figure.titlesize": 13,
    "figure.titleweight": "bold",
    "font.size": 10.5,
    "grid.alpha": 0.3,
    "legend.fontsize": 10.5,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "text.color": DARK,
    "xtick.color": DARK,
    "ytick.color": DARK,
}


@contextmanager
def style(texts: Iterable[str]) -> Iterator[None]:
    """Draw in the style of all figures, with fonts that have the characters of ``texts``."""
    with text_settings(texts), matplotlib.rc_context(_SETTINGS):
        yield


def ordered_colors(count: int) -> list[Any]:
    """Return colours for ``count`` lines in an order, from dark to light: the map viridis without its faint end."""
    colormap = matplotlib.colormaps["viridis"]
    return [colormap(0.88 * index / max(count - 1, 1)) for index in range(count)]
