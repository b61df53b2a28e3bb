"""What the metadata of a figure say."""

from pathlib import Path

from PIL import Image


def grid_size(path: Path) -> tuple[int, int]:
    """Return width and height in pixels of the part of a labelled grid that holds the images."""
    with Image.open(path) as figure:
        _, _, width, height = map(int, figure.info["Grid"].split())
    return width, height
