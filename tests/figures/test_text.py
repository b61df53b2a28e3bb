"""Every plot draws names in any script as they are, or as a visible stand-in, without a warning."""

import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager
from matplotlib.text import Text
from PIL import Image

from latentline.figures import grids, plots, text

NAMES = {
    "one dollar": "$",
    "two dollars": "$$",
    "prices": "$10 and $20_",
    "mathematics": r"$\frac{1}$",
    "backslash": r"\alpha",
    "underscore first": "_private",
    "matplotlib's own": "_child0",
    "CJK": "猫と犬",
    "Cyrillic": "Кошка",
    "Greek": "γάτα",
    "emoji": "😀🦊👨‍👩‍👧",
    "Hebrew": "חתול",
    "Arabic": "قطة",
    "Thai": "แมว",
    "Devanagari": "बिल्ली",
    "decomposed": "U\u0308ber",
    "bidirectional control": "a\u202egpj.b",
    "control": "a\nb\tc\x00d\x7f",
    "not UTF-8": "caf\udce9",
    "private use": "\ue000",
    "not assigned": "\U000e0fff",
    "empty": "",
    "blank": " ",
    "long": "x" * 255,
    "long CJK": "猫" * 200,
}
DRAWN_APART = ("prices", "underscore first", "CJK", "control", "not UTF-8", "empty", "long CJK")
"""Names that matplotlib itself would treat in ways of their own; to a plot, all others are like one of these."""
POINTS = [(0.1, 0.2), (0.5, 0.9)]
PLOTS = {
    "curves": lambda path, name: plots.curves(path, [{name: 1.0}, {name: 2.0}], name, [name], name),
    "log curves": lambda path, name: plots.curves(path, [{name: 1.0}, {name: 2.0}], name, [name], name, log=True),
    "curve_panels": lambda path, name: plots.curve_panels(
        path, [{name: 1.0}, {name: 2.0}], name, {name: [name], "b": [name]}
    ),
    "relation": lambda path, name: plots.relation(path, {name: POINTS}, name, name, marks=[name], diagonal="equal"),
    "shares": lambda path, name: plots.shares(path, {name: [0.1, 0.2], "b": [0.3]}, name),
    "bars": lambda path, name: plots.bars(path, [name, "b"], [1.0, 2.0], name),
    "many bars": lambda path, name: plots.bars(path, [name] * 63, list(range(63)), name),
    "histogram": lambda path, name: plots.histogram(path, [name, "b"], [1, 2], name),
    "long histogram": lambda path, name: plots.histogram(path, [name] * 100, [1] * 100, name),
    "confusion": lambda path, name: plots.confusion(path, np.array([[3, 1], [0, 2]]), [name, "b"]),
    "large confusion": lambda path, name: plots.confusion(path, np.eye(30), [name] * 30),
    "notice": plots.notice,
    "labelled grid": lambda path, name: grids.save_grid(
        path,
        torch.zeros(2, 1, 2, 2, dtype=torch.uint8),
        1,
        20,
        grids.GridText(name, name, [name, "b"], [name], name, [name, "b"]),
    ),
    "histograms_against_normal": lambda path, name: plots.histograms_against_normal(
        path, np.random.default_rng(0).normal(size=(2, 50)), [name, "b"]
    ),
}
WITHOUT_NAMES = {"write_table"}
WITH_EVERY_NAME = ("notice", "bars")
"""One plot that draws whole texts and one that draws short names: the functions that all plots share."""


@pytest.fixture
def no_font_looked_up_yet(monkeypatch):
    monkeypatch.setattr(text, "_family", {})


@pytest.fixture
def drawn(monkeypatch):
    """The texts that matplotlib draws, with their fonts."""
    texts = []
    draw = Text.draw
    monkeypatch.setattr(Text, "draw", lambda self, *args: (texts.append(self), draw(self, *args))[1])
    return texts


def test_every_plot_is_tried():
    public = {
        name
        for name, value in vars(plots).items()
        if getattr(value, "__module__", "") == plots.__name__ and not name.startswith("_")
    }
    assert public - WITHOUT_NAMES == {name for name in PLOTS if " " not in name}


@pytest.mark.parametrize("plot", PLOTS)
def test_a_plot_draws_every_name_without_a_warning_and_with_the_same_bytes(tmp_path, caplog, plot):
    names = NAMES if plot in WITH_EVERY_NAME else DRAWN_APART
    for name in names:
        with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
            warnings.simplefilter("error")
            PLOTS[plot](tmp_path / "one.png", NAMES[name])
            if name in ("underscore first", "CJK"):
                PLOTS[plot](tmp_path / "two.png", NAMES[name])
                assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
        with Image.open(tmp_path / "one.png") as picture:
            assert max(picture.size) < 5000
    assert {record.name for record in caplog.records} <= {text.__name__}
    assert len(caplog.records) <= len(names)


@pytest.mark.parametrize("name", ["$", "$10 and $20_", "_child0", "Кошка", "חתול"])
@pytest.mark.parametrize("plot", ["curves", "curve_panels", "relation", "shares", "bars", "histogram", "confusion"])
def test_a_name_that_the_first_font_can_draw_is_drawn_as_it_is(tmp_path, drawn, plot, name):
    PLOTS[plot](tmp_path / "x.png", name)
    assert name in {one.get_text() for one in drawn}
    assert not any(one.get_parse_math() for one in drawn)


def test_a_legend_has_every_line_but_the_diagonal(tmp_path, drawn):
    lines = {"_a": POINTS, "b": POINTS, "": POINTS}
    plots.relation(tmp_path / "x.png", lines, "x", "y", diagonal="equal")
    shown = {one.get_text() for one in drawn}
    assert {"_a", "b"} <= shown
    assert not any(one.startswith("_child") for one in shown)


def test_a_logarithmic_axis_has_plain_numbers(tmp_path, drawn):
    plots.curves(tmp_path / "x.png", [{"x": 1, "y": 0.01}, {"x": 2, "y": 10.0}], "x", ["y"], "loss", log=True)
    assert {"0.01", "0.1", "1", "10"} <= {one.get_text() for one in drawn}
    assert not any("$" in one.get_text() for one in drawn)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb", r"a\nb"),
        ("a\u202eb", r"a\u202eb"),
        ("caf\udce9", r"caf\udce9"),
        ("\ue000", r"\ue000"),
        ("\U000e0fff", r"\U000e0fff"),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"),
        ("x" * 32, "x" * 32),
        ("begin" + "x" * 250 + "finis", f"begin{'x' * 10}\u2026{'x' * 10}finis"),
    ],
)
def test_what_cannot_be_drawn_is_shown_as_an_escape_and_long_names_without_their_middle(name, shown):
    assert text.short_name(name) == shown


def test_names_without_a_font_stay_apart_and_one_warning_counts_them(no_font_looked_up_yet, monkeypatch, caplog):
    monkeypatch.setattr(text, "_families", lambda: ["DejaVu Sans"])
    assert text.short_name("cat 猫") == r"cat \u732b"
    assert text.short_name("犬") == r"\u72ac"
    caplog.clear()
    monkeypatch.setattr(text, "_family", {})
    with text.text_settings(["猫", "犬", "猫犬"]):
        assert [text.short_name(name) for name in ("猫", "犬")] == [r"\u732b", r"\u72ac"]
    (record,) = caplog.records
    assert record.getMessage().startswith("characters that figures show as escapes, since no installed font")
    assert ": 2, such as \\u72ac for 犬; " in record.getMessage()


def _font(path: Path, family: str, characters: str) -> Path:
    """Write a font in which each of the characters is a black square."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 700), (700, 700), (700, 0)):
        pen.lineTo(point)
    pen.closePath()
    glyph, names = pen.glyph(), [".notdef", *(f"u{ord(char):X}" for char in characters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(char): f"u{ord(char):X}" for char in characters})
    builder.setupGlyf(dict.fromkeys(names, glyph))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (800, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


@pytest.fixture
def installed(no_font_looked_up_yet, tmp_path, monkeypatch):
    """Installs fonts for one test."""
    monkeypatch.setattr(fontManager, "ttflist", list(fontManager.ttflist))

    def install(family: str, characters: str) -> Path:
        path = _font(tmp_path / f"{family}.ttf", family, characters)
        fontManager.addfont(path)
        fontManager._findfont_cached.cache_clear()
        return path

    yield install
    fontManager._findfont_cached.cache_clear()


@pytest.mark.parametrize("plot", PLOTS)
def test_another_installed_font_draws_what_the_first_one_lacks(tmp_path, installed, caplog, plot):
    plain = tmp_path / "plain.png"
    PLOTS[plot](plain, "猫")
    installed("Test Serif", "猫犬")
    installed("Test Sans", "猫")
    text._family.clear()
    caplog.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PLOTS[plot](tmp_path / "x.png", "猫")
    assert text.short_name("猫 犬") == "猫 犬"
    assert (text._family["猫"], text._family["犬"]) == ("Test Sans", "Test Serif")
    assert caplog.records == []
    assert ((tmp_path / "x.png").read_bytes() == plain.read_bytes()) == (plot == "large confusion")


def test_a_font_that_is_gone_or_damaged_is_passed_over(tmp_path, installed):
    installed("A Sans", "猫").write_bytes(b"no font")
    installed("B Sans", "猫")
    plots.notice(tmp_path / "x.png", "猫")
    assert text._family["猫"] == "B Sans"
