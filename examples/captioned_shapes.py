"""Draw pictures with captions, for docs/text.md: squares and circles of three colours.

    python examples/captioned_shapes.py pictures

Writes 600 files NUMBER.png, 32x32 RGB, each with its caption in NUMBER.txt beside it.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (230, 40, 40), "green": (40, 200, 60), "blue": (50, 80, 240)}
_DOWN, _RIGHT = np.mgrid[:32, :32] - 16
SHAPES = {"square": np.maximum(abs(_DOWN), abs(_RIGHT)) < 9, "circle": _DOWN**2 + _RIGHT**2 < 100}


def main(folder: Path, count: int = 600) -> None:
    """Write ``count`` pictures and their captions into ``folder``."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        colour, shape = random.choice(list(COLOURS)), random.choice(list(SHAPES))
        image = np.full((32, 32, 3), 245, np.uint8)
        image[np.roll(SHAPES[shape], random.integers(-5, 6, 2), (0, 1))] = COLOURS[colour]
        Image.fromarray(image).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a {colour} {shape}", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
