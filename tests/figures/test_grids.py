"""Grids of images are exact to the pixel."""

import numpy as np
import pytest
import torch
from PIL import Image

from latentline.figures.grids import alternating_rows, heat, save_grid, tile, turns_as_rows

GAP, WHITE = 2, 255


def _images(count: int, channels: int = 1, size: tuple[int, int] = (3, 4)) -> torch.Tensor:
    return torch.randint(0, 255, (count, channels, *size), dtype=torch.uint8)  # no 255, the colour of the gaps


@pytest.mark.parametrize(("count", "columns"), [(6, 3), (5, 3), (1, 1), (2, 5), (3, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_lies_in_its_cell_and_all_else_is_white(count, columns, channels):
    images = _images(count, channels)
    rows = -(-count // columns)
    expected = torch.full((channels, rows * (3 + GAP) + GAP, columns * (4 + GAP) + GAP), WHITE, dtype=torch.uint8)
    for index, image in enumerate(images):
        top, left = GAP + index // columns * (3 + GAP), GAP + index % columns * (4 + GAP)
        expected[:, top : top + 3, left : left + 4] = image
    assert torch.equal(tile(images, columns), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [1, 3])
def test_a_saved_grid_reads_back_as_its_tiles_each_pixel_enlarged(tmp_path, channels, scale):
    images = _images(5, channels)
    save_grid(tmp_path / "new" / "grid.png", images, columns=2, scale=scale)
    with Image.open(tmp_path / "new" / "grid.png") as picture:
        assert picture.format == "PNG"
        read = np.asarray(picture)
    expected = np.kron(tile(images, 2).permute(1, 2, 0).numpy(), np.ones((scale, scale, 1), dtype=np.uint8))
    assert np.array_equal(read.reshape(expected.shape), expected)


def test_saving_twice_gives_the_same_bytes(tmp_path):
    images = _images(6)
    for name in ("one.png", "other.png"):
        save_grid(tmp_path / name, images, columns=3, scale=2)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()


def test_rows_of_several_sets_alternate_and_stay_paired():
    first = torch.arange(7, dtype=torch.uint8).reshape(7, 1, 1, 1)
    second, third = first + 10, first + 20
    rows = alternating_rows([first, second, third], columns=3).reshape(6, 3).tolist()
    # the incomplete last rows are left out
    assert rows == [[0, 1, 2], [10, 11, 12], [20, 21, 22], [3, 4, 5], [13, 14, 15], [23, 24, 25]]


@pytest.mark.parametrize(("rows", "columns"), [(3, 2), (1, 4), (4, 1), (10, 7)])
def test_classes_in_turn_become_one_row_per_class_in_order(rows, columns):
    in_turn = [(index % rows, index // rows) for index in range(rows * columns)]  # (class, number within it)
    assert [in_turn[index] for index in turns_as_rows(rows, rows + 3, columns)] == [
        (label, number) for label in range(rows) for number in range(columns)
    ]


def test_heat_scales_each_map_to_the_whole_range_and_keeps_its_order():
    maps = torch.stack([torch.randn(4, 5) * 100, torch.randn(4, 5) * 1e-3 + 7])
    grey = heat(maps)
    assert grey.shape == (2, 1, 4, 5)
    assert grey.dtype == torch.uint8
    for index in range(2):
        assert (grey[index].min(), grey[index].max()) == (0, 255)
        by_value = maps[index].flatten().argsort()
        assert (grey[index].flatten()[by_value].int().diff() >= 0).all()


def test_a_map_without_contrast_is_black():
    assert heat(torch.full((1, 2, 2), 3.0)).sum() == 0


def test_of_many_classes_the_first_have_rows():
    assert turns_as_rows(1000, 2, 3).tolist() == [0, 1000, 2000, 1, 1001, 2001]
