"""Animated grids hold the exact frames, stay small and have the same bytes every time."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from latentline.figures.animation import save_animation
from latentline.figures.grids import tile


def _frames(count: int, images: int, channels: int = 1, side: int = 6) -> torch.Tensor:
    return torch.randint(0, 256, (count, images, channels, side, side), dtype=torch.uint8)


def test_each_frame_is_the_grid_of_its_images(tmp_path):
    frames = _frames(4, 3)
    save_animation(tmp_path / "new" / "x.gif", frames, columns=2, scale=3)
    with Image.open(tmp_path / "new" / "x.gif") as picture:
        assert picture.format == "GIF"
        shown = [np.asarray(frame.convert("L")) for frame in ImageSequence.Iterator(picture)]
        assert picture.info["loop"] == 0  # for ever
    for grid, picture in zip(frames, shown, strict=True):
        assert np.array_equal(picture, np.kron(tile(grid, 2)[0].numpy(), np.ones((3, 3), dtype=np.uint8)))


def test_colours_are_exact_in_a_palette(tmp_path):
    plain = torch.tensor([[255, 0, 0], [0, 200, 0]], dtype=torch.uint8).reshape(2, 1, 3, 1, 1).expand(2, 1, 3, 6, 6)
    save_animation(tmp_path / "x.gif", plain, columns=1)
    with Image.open(tmp_path / "x.gif") as picture:
        middles = [frame.convert("RGB").getpixel((5, 5)) for frame in ImageSequence.Iterator(picture)]
    assert middles == [(255, 0, 0), (0, 200, 0)]


@pytest.mark.parametrize(("images", "channels", "side"), [(90, 1, 28), (20, 3, 64)])
def test_the_file_stays_small_even_of_noise(tmp_path, images, channels, side):
    save_animation(tmp_path / "x.gif", _frames(2, images, channels, side), columns=5, scale=2)
    frames, bytes_per_pixel = 2, 2
    assert (tmp_path / "x.gif").stat().st_size < frames * bytes_per_pixel * 65_536


def test_saving_twice_gives_the_same_bytes(tmp_path):
    frames = _frames(3, 2, channels=3)
    for name in ("one.gif", "other.gif"):
        save_animation(tmp_path / name, frames, columns=2)
    assert (tmp_path / "one.gif").read_bytes() == (tmp_path / "other.gif").read_bytes()
