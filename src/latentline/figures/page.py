"""Lines of text, measured and drawn as pixels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.transforms import IdentityTransform
from numpy.typing import NDArray

from latentline.figures.style import DARK

LINE = 1.25  # height of a line, in heights of letters
_DPI = 72  # so that a point is a pixel
_MAX_SIDE = 30_000  # pixels of a side that matplotlib can draw on; beyond it a page has no text


class PageText(NamedTuple):
    """A line at its place."""

    x: float
    y: float
    """From the top."""
    text: str
    size: float
    align: tuple[str, str]
    """Horizontally and vertically."""
    color: str = DARK
    weight: str = "normal"
    rotation: float = 0


@dataclass
class Page:
    """Texts of a figure: measured, collected, then drawn. Used inside :func:`latentline.figures.style.style`."""

    texts: list[PageText] = field(default_factory=list)
    renderer: RendererAgg = field(default_factory=lambda: RendererAgg(1, 1, _DPI))

    def width(self, text: str, size: float, weight: str = "normal") -> float:
        """Return the width of a line in pixels."""
        font = FontProperties(size=size, weight=weight)
        return float(self.renderer.get_text_width_height_descent(text, font, ismath=False)[0])

    def widest(self, texts: Iterable[str], size: float) -> float:
        """Return the width of the widest line in pixels; 0 of none."""
        return max((self.width(text, size) for text in texts), default=0)

    def fitting(self, texts: Sequence[str], size: float, smallest: float, width: float) -> float:
        """Return the largest size, from ``size`` down to ``smallest``, at which each line fits into ``width``."""
        while size > smallest and self.widest(texts, size) > width:
            size = max(size - 0.5, smallest)
        return size

    def wrapped(self, text: str, size: float, width: float, weight: str = "normal") -> list[str]:
        """Break a text into lines of at most ``width`` pixels, at spaces where there are any; no text has no line."""
        lines: list[str] = []
        for word in text.split(" ") if text else ():
            if lines and self.width(f"{lines[-1]} {word}", size, weight) <= width:
                lines[-1] += f" {word}"
                continue
            lines.append("")
            fits = self.width(word, size, weight) <= width
            for char in word:
                if lines[-1] and not fits and self.width(lines[-1] + char, size, weight) > width:
                    lines.append("")
                lines[-1] += char
        return lines

    def block(
        self, lines: Sequence[str], x: float, y: float, size: float, weight: str = "normal", color: str = DARK
    ) -> float:
        """Write lines below each other, the first one at ``y``, and return the y below them."""
        for number, line in enumerate(lines):
            self.texts.append(PageText(x, y + number * LINE * size, line, size, ("left", "top"), color, weight))
        return y + len(lines) * LINE * size

    def drawn(self, width: int, height: int) -> NDArray[np.uint8]:
        """Return the texts on white: (height, width, 3)."""
        pixels = np.full((height, width, 3), 255, dtype=np.uint8)
        width, height = min(width, _MAX_SIDE), min(height, _MAX_SIDE)
        # Half a pixel more, since the canvas rounds down.
        figure = Figure(figsize=((width + 0.5) / _DPI, (height + 0.5) / _DPI), dpi=_DPI, facecolor="white")
        canvas = FigureCanvasAgg(figure)
        for one in self.texts:
            horizontal, vertical = one.align
            figure.text(
                round(one.x),
                height - round(one.y),
                one.text,
                size=one.size,
                color=one.color,
                weight=one.weight,
                ha=horizontal,
                va=vertical,
                rotation=one.rotation,
                rotation_mode="anchor",
                transform=IdentityTransform(),
            )
        canvas.draw()
        pixels[:height, :width] = np.asarray(canvas.buffer_rgba())[..., :3]
        return pixels
