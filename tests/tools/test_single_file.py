"""A module as one file: what it uses comes along, and what does not fit into one file is refused."""

import pytest

from latentline.tools import single_file as tool

UNITS = """'''Lengths.'''

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

INCH = 2.54
'''In centimetres.'''
FOOT = 12 * INCH


# A circle, not a disc
def around(radius: float) -> float:
    return 2 * math.pi * radius * INCH


def unused(path: "Path") -> None:
    return None
"""
WHEEL = """'''Wheels.'''

from latentline.units import FOOT, around


class Wheel:
    '''A wheel.'''

    def __init__(self, radius: float) -> None:
        self.around = around(radius)

    def same(self, other: FOOT) -> bool:
        return self.around == other.around
"""

CAR = """'''Cars.'''

from latentline.wheel import TREAD, Wheel


class Car:
    def __init__(self) -> None:
        self.wheels = [Wheel(TREAD)]
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write modules of a package in place of ours."""
    monkeypatch.setattr(tool, "_SOURCE", tmp_path)
    (tmp_path / "latentline").mkdir()

    def written(**modules: str) -> None:
        for name, text in modules.items():
            (tmp_path / "latentline" / f"{name}.py").write_text(text)

    return written


def test_a_class_comes_with_all_that_it_runs_and_no_more(write, tmp_path):
    write(units=UNITS, wheel=WHEEL)
    text = tool.single_file("latentline.wheel", "Wheel")
    assert text.startswith('"""Wheels."""')
    assert "INCH = 2.54\n'''In centimetres.'''\n" in text
    assert "# A circle, not a disc\ndef around" in text
    assert "unused" not in text
    assert "FOOT =" not in text  # in a type hint alone
    assert "import math\n" in text


def test_the_file_may_run_again_while_its_class_stays_the_same(write, tmp_path):
    write(units=UNITS, wheel=WHEEL)
    path = tmp_path / "exported.py"
    path.write_text(tool.single_file("latentline.wheel", "Wheel"))
    first, second = ({"__name__": "exported", "__file__": str(path)} for _ in range(2))
    for namespace in (first, second):
        exec(compile(path.read_text(), str(path), "exec"), namespace)  # noqa: S102 - written above
    assert first["Wheel"] is second["Wheel"]
    assert first["Wheel"](2.0).around == pytest.approx(31.92, abs=0.01)


def test_two_definitions_of_one_name_are_refused(write):
    write(units=UNITS, wheel=WHEEL + "\n\nINCH = 3\nTREAD = INCH\n", car=CAR)
    with pytest.raises(ValueError, match="INCH must be defined once"):
        tool.single_file("latentline.car", "Car")
