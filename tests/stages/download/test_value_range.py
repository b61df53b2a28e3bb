"""Images that use a sliver of their number format are named with their range, which stretches them."""

import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from latentline.data.store import read_card, read_split
from stages.download.images import ArrayImages
from stages.download.prepare import prepare
from stages.download.source import Card, Source, SourceSplit
from stages.download.value_range import warn_of_range
from support.source_files import PREPARE_OPTIONS, encoded, read


@pytest.fixture
def folder(tmp_path):
    """Two hundred 16-bit files of 12-bit data, and one white image."""
    random = np.random.default_rng(0)
    (tmp_path / "x").mkdir()
    for number in range(200):
        values = random.integers(0, 4096, (6, 6), dtype=np.uint16)
        values[0, :2] = 0, 4095
        (tmp_path / "x" / f"{number}.png").write_bytes(encoded(Image.fromarray(values)))
    (tmp_path / "x" / "white.png").write_bytes(encoded(np.full((6, 6), 255, np.uint8)))
    return tmp_path / "x"


def _warnings(source, target, caplog, value_range=None) -> list[str]:
    given = None if value_range is None else tuple(value_range)
    result = prepare(source, target, replace(PREPARE_OPTIONS, value_range=given))
    caplog.clear()
    warn_of_range(result.stats, source, value_range)
    return [record.getMessage() for record in caplog.records]


def test_twelve_bits_in_sixteen_are_named_and_the_setting_mends_them(tmp_path, folder, caplog):
    source = read("image_folder", tmp_path, path=folder)
    (line,) = _warnings(source, tmp_path / "prepared", caplog)
    assert line.startswith(
        "data.value_range (null) leaves a sliver: stored values from 0 to 4095 become 0 to 16 of 255"
    )
    assert line.endswith("such as [0, 4095]")
    assert read_card(tmp_path / "prepared").value_range is None
    assert not _warnings(source, tmp_path / "prepared", caplog, [0.0, 4095.0])
    assert len(read_split(tmp_path / "prepared", "train").images.to_memory().unique()) > 200
    assert read_card(tmp_path / "prepared").value_range == (0, 4095)


def _of_array(array) -> Source:
    return Source(Card("array", (), "", "", ""), {"train": SourceSplit(ArrayImages(array))})


def test_masks_in_an_array_are_named_and_stretched(tmp_path, caplog):
    masks = np.random.default_rng(0).integers(0, 2, (20, 1, 6, 6), dtype=np.uint8)
    (line,) = _warnings(_of_array(masks), tmp_path / "prepared", caplog)
    assert "stored values from 0 to 1 become 0 to 1 of 255" in line
    assert not _warnings(_of_array(masks), tmp_path / "prepared", caplog, [0.0, 1.0])
    assert read_split(tmp_path / "prepared", "train").images.to_memory().unique().tolist() == [0, 255]


def test_images_of_one_value_are_named_and_usual_ones_are_not(tmp_path, caplog):
    black = np.zeros((20, 1, 6, 6), np.uint8)
    (line,) = _warnings(_of_array(black), tmp_path / "prepared", caplog)
    assert line.startswith("all pixels have the value 0")
    usual = np.random.default_rng(0).integers(0, 256, (20, 1, 6, 6), dtype=np.uint8)
    assert not _warnings(_of_array(usual), tmp_path / "prepared", caplog)


def test_a_range_that_clips_much_is_named_with_the_share(tmp_path, folder, caplog):
    source = read("image_folder", tmp_path, path=folder)
    (line,) = _warnings(source, tmp_path / "prepared", caplog, [0.0, 2048.0])
    found = re.fullmatch(
        r"data\.value_range \(\[0\.0, 2048\.0\]\) clips (\d+)% of the stored values, which lie from 0 to 4095: "
        r"0% are below it and become black, (\d+)% are above it and become white; "
        r"if that is not meant, set it to \[0, 4095\]",
        line,
    )
    assert found, line
    assert 48 <= int(found[1]) == int(found[2]) <= 52
    assert not _warnings(source, tmp_path / "prepared", caplog, [0.0, 3500.0])


def test_a_range_below_all_values_is_named_once(tmp_path, caplog):
    bright = np.random.default_rng(0).integers(100, 256, (20, 1, 6, 6), dtype=np.uint8)
    (line,) = _warnings(_of_array(bright), tmp_path / "prepared", caplog, [0.0, 1.0])
    assert "stored values from 100 to 255 become 255 to 255 of 255" in line


def test_floats_beyond_black_and_white_are_named(tmp_path, caplog):
    random = np.random.default_rng(0)
    (tmp_path / "x").mkdir()
    for number in range(20):
        values = random.integers(-1000, 1000, (6, 6)).astype(np.float32)
        values[0, :2] = -1000, 1000
        (tmp_path / "x" / f"{number}.tif").write_bytes(encoded(Image.fromarray(values), "TIFF"))
    source = read("image_folder", tmp_path, path=tmp_path / "x")
    (line,) = _warnings(source, tmp_path / "prepared", caplog)
    assert line.startswith("data.value_range (null) clips 8")
    assert line.endswith("set it to [-1000, 1000]")
