"""Heat maps of latents have a row per channel, or per image of vectors."""

import numpy as np
import pytest
import torch
from PIL import Image

from latentline.figures.latents import save_latents
from support.pictures import grid_size


@pytest.mark.parametrize(("channels", "rows"), [(3, 3), (16, 16), (40, 16)])
def test_maps_have_a_row_per_channel_and_a_column_per_image(tmp_path, channels, rows):
    save_latents(tmp_path / "x.png", torch.randn(5, channels, 4, 6), scale=2, title="Latents", columns="abcde")
    assert grid_size(tmp_path / "x.png") == ((5 * (6 + 2) + 2) * 2, (rows * (4 + 2) + 2) * 2)


def test_vectors_have_a_row_of_cells_per_image(tmp_path):
    vectors = torch.arange(12.0).reshape(3, 4)
    save_latents(tmp_path / "x.png", vectors, scale=1, title="Latents", columns="abc")
    with Image.open(tmp_path / "x.png") as image:
        left, top, width, height = map(int, image.info["Grid"].split())
        inside = np.asarray(image)[top : top + height, left : left + width][2:-2, 2:-2]
    assert np.array_equal(inside, np.round(np.arange(12).reshape(3, 4) / 11 * 255))
