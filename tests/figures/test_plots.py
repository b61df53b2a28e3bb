"""Plots and tables are complete and have the same bytes every time."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from PIL import Image

from latentline.figures import plots

ROWS = [{"epoch": 1, "loss": 0.5, "val_loss": 0.6}, {"epoch": 2, "loss": 0.25, "val_loss": 0.1 + 0.2}]
DRAWINGS = {
    "curves": lambda path: plots.curves(path, ROWS, "epoch", ["loss", "val_loss"], "loss"),
    "log curves": lambda path: plots.curves(path, ROWS, "epoch", ["loss"], "loss", log=True),
    "panels": lambda path: plots.curve_panels(
        path, [{"epoch": 0}, *ROWS], "epoch", {"losses": ["loss", "val_loss"], "other": ["loss"]}
    ),
    "relation": lambda path: plots.relation(
        path, {"a": [(0.1, 0.2), (0.5, 0.9)], "b": [(0.2, 0.1)]}, "x", "y", marks=["1", "2"], diagonal="equal"
    ),
    "shares": lambda path: plots.shares(path, {"a": [0.1, 0.2], "b": [0.2, 0.9]}, "confidence"),
    "bars": lambda path: plots.bars(path, ["T-shirt/top", "b"], [1.0, 2.0], "count"),
    "confusion": lambda path: plots.confusion(path, np.array([[3, 1], [0, 0]]), ["a", "b"]),
    "notice": lambda path: plots.notice(path, "nothing to learn"),
    "histograms": lambda path: plots.histograms_against_normal(
        path, np.random.default_rng(0).normal(size=(5, 200)), list("abcde")
    ),
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_a_plot_is_a_png_that_is_not_blank_and_has_the_same_bytes_every_time(tmp_path, draw):
    for name in ("one.png", "other.png"):
        draw(tmp_path / "new" / name)
    with Image.open(tmp_path / "new" / "one.png") as picture:
        assert picture.format == "PNG"
        assert len(np.unique(np.asarray(picture.convert("L")))) > 5
    assert (tmp_path / "new" / "one.png").read_bytes() == (tmp_path / "new" / "other.png").read_bytes()
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_plots_depend_on_their_numbers(tmp_path):
    plots.bars(tmp_path / "one.png", ["a", "b"], [1.0, 2.0], "count")
    plots.bars(tmp_path / "other.png", ["a", "b"], [1.0, 3.0], "count")
    assert (tmp_path / "one.png").read_bytes() != (tmp_path / "other.png").read_bytes()


def test_the_legend_of_ordered_curves_has_the_order_of_their_ends(tmp_path, monkeypatch):
    legends = []
    monkeypatch.setattr(Axes, "legend", lambda axes, lines, names, **_: legends.append((names, lines)))
    rows = [{"epoch": 1, "a": 3.0, "b": 1.0}, {"epoch": 2, "a": 0.5, "b": 0.9}]
    for ordered in (False, True):
        plots.curves(tmp_path / "x.png", rows, "epoch", ["a", "b"], "loss", ordered=ordered, note="How to read it")
    assert [names for names, _ in legends] == [["a", "b"], ["b", "a"]]
    assert [line.get_ydata()[-1] for line in legends[1][1]] == [0.9, 0.5]


def test_of_too_many_bars_the_lowest_are_drawn(tmp_path):
    names = [f"class {index}" for index in range(1000)]
    values = np.random.default_rng(0).permutation(1000) / 1000
    better, worse = np.where(values > 0.9, 1.0, values), np.where(values == 0.5, 0.01, values)
    pictures = []
    for numbers in (values, better, worse):
        plots.bars(tmp_path / "x.png", names, numbers, "f1")
        pictures.append((tmp_path / "x.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.width < 3000


@pytest.mark.parametrize(
    ("classes", "note"), [(500, ""), (501, ", 2 classes per cell"), (4_000, ", 8 classes per cell")]
)
def test_a_confusion_matrix_of_thousands_of_classes_is_drawn_in_blocks_and_says_so(
    tmp_path, monkeypatch, classes, note
):
    labels = []
    monkeypatch.setattr(Axes, "set", lambda axes, draw=Axes.set, **texts: (labels.append(texts), draw(axes, **texts)))
    plots.confusion(tmp_path / "x.png", np.eye(classes, dtype=np.int32), [f"class {i}" for i in range(classes)])
    assert labels == [{"xlabel": f"predicted{note}", "ylabel": f"true{note}"}]
    with Image.open(tmp_path / "x.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) > 5


def test_drawing_leaves_no_figure_open(tmp_path):
    for draw in DRAWINGS.values():
        draw(tmp_path / "x.png")
    assert plt.get_fignums() == []


def test_a_table_reads_back_to_six_digits(tmp_path):
    plots.write_table(tmp_path / "x.csv", ROWS)
    back = pd.read_csv(tmp_path / "x.csv").to_dict("records")
    assert back == [{name: pytest.approx(value, rel=1e-6) for name, value in row.items()} for row in ROWS]
    assert (tmp_path / "x.csv").read_bytes().startswith(b"epoch,loss,val_loss\n1,0.5,0.6\n")


def test_a_table_without_rows_names_its_columns(tmp_path):
    plots.write_table(tmp_path / "x.csv", [], ["epoch", "loss"])
    assert (tmp_path / "x.csv").read_bytes() == b"epoch,loss\n"
