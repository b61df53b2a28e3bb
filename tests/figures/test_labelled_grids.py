"""Labelled grids keep each pixel of the images, and name rows, columns and images."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image, ImageSequence
from scipy.stats import binomtest

from latentline.core.labels import LabelTable, build_schema
from latentline.figures.animation import save_animation
from latentline.figures.grids import GridText, labelled, save_grid, tile
from latentline.figures.names import first_of, image_names
from latentline.figures.spread import share_interval

TEXT = GridText("Samples", "How to read them", ["cat", "Кошка"], ["0", "a wide label"], "strength", list("abcd"))


def _images(channels: int = 1, count: int = 4, side: int = 12) -> torch.Tensor:
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_images_are_exact_and_the_metadata_say_where_they_are(tmp_path, channels):
    images = _images(channels)
    for name in ("one.png", "other.png"):
        save_grid(tmp_path / name, images, 2, 3, replace(TEXT, cells=()))
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        assert (picture.info["Title"], picture.info["Description"]) == ("Samples", "How to read them")
        left, top, width, height = map(int, picture.info["Grid"].split())
        inside = np.asarray(picture)[top : top + height, left : left + width]
    expected = np.kron(tile(images, 2).permute(1, 2, 0).numpy(), np.ones((3, 3, 1), dtype=np.uint8))
    assert np.array_equal(inside.reshape(expected.shape), expected)


@pytest.fixture
def drawn(monkeypatch):
    """The texts that are drawn in this test."""
    texts, draw = [], Text.draw
    monkeypatch.setattr(Text, "draw", lambda self, *args: (texts.append(self), draw(self, *args))[1])
    return texts


def test_every_label_is_drawn(drawn):
    labelled(_images(), 2, 3, TEXT, "t = 0.5")
    texts = [one.get_text() for one in drawn]
    for label in ("Samples", "How to read them", "cat", "Кошка", "0", "a wide label", "strength", *"abcd", "t = 0.5"):
        assert label in texts
    turned = {one.get_text(): one.get_rotation() for one in drawn}
    assert turned["a wide label"] == 45


def test_a_long_label_of_a_row_is_whole_where_its_lines_fit_into_the_row(drawn):
    caption = "woman in motorized wheelchair: medium-dark skin tone"
    labelled(_images(side=64), 2, 2, GridText("Samples", rows=[caption, "cat"]))
    lines = [one.get_text() for one in drawn][1:]
    assert " ".join(lines[:-1]) == caption and len(lines) > 2 and lines[-1] == "cat"
    drawn.clear()
    labelled(_images(side=12), 2, 1, GridText("Samples", rows=[caption]))
    assert [one.get_text() for one in drawn][1:] == ["woman in motori…-dark skin tone"]


def test_no_text_leaves_the_page_however_long_it_is():
    long = "word " * 40 + "x" * 200
    names = ["n" * 200] * 4
    pixels, (left, top, width, height) = labelled(_images(), 2, 3, GridText(long, long, names, names, "", names))
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (edge == 255).all()
    assert left + width < pixels.shape[1]
    assert top + height < pixels.shape[0]


def test_of_rows_lower_than_letters_not_every_one_is_named():
    pixels = labelled(_images(count=40, side=1), 1, 1, GridText("x", rows=[str(row) for row in range(40)])).pixels
    assert pixels.shape[0] < 40 * 3 + 60


def test_an_animation_has_a_line_for_each_frame_and_exact_images(tmp_path):
    frames = torch.stack([_images(), _images(), _images()])
    save_animation(tmp_path / "x.gif", frames, 2, 2, GridText("Edits", cells=list("abcdef")), ["0", "1", "2"])
    box = labelled(frames[0], 2, 2, GridText("Edits", cells=list("abcd")), "0").box
    with Image.open(tmp_path / "x.gif") as picture:
        shown = [np.asarray(frame.convert("L")) for frame in ImageSequence.Iterator(picture)]
    for grid, frame in zip(frames, shown, strict=True):
        first = frame[box[1] + 4 : box[1] + 28, box[0] + 4 : box[0] + 28]
        assert np.array_equal(first, np.kron(grid[0, 0].numpy(), np.ones((2, 2), dtype=np.uint8)))
    below = [frame[box[1] + box[3] :] for frame in shown]
    assert not np.array_equal(below[0], below[1])


def test_images_are_named_by_class_or_number():
    labels = LabelTable(build_schema(["cat", "dog"], []), torch.tensor([[1.0], [0.0]]))
    assert image_names(labels) == ["dog", "cat"]
    assert image_names(LabelTable((), torch.empty(2, 0)), "sample") == ["sample 1", "sample 2"]
    assert (first_of(3, 3, "rows"), first_of(2, 3, "rows")) == ("", " The first 2 of 3 rows.")


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (3, 10), (10, 10), (250, 500)])
def test_the_interval_of_a_share_is_wilsons(hits, count):
    expected = binomtest(hits, count).proportion_ci(method="wilson")
    assert share_interval(hits / count, count) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_a_figure_is_as_wide_as_its_grid_where_its_texts_fit():
    short, long = (labelled(_images(), 2, 3, GridText(title), "t = 0.5") for title in ("x", "a long title " * 3))
    assert short.pixels.shape[1] < long.pixels.shape[1]
