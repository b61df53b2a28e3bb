"""metrics/timing.json keeps the values of all stages, and a damaged file costs nothing."""

import json
from pathlib import Path

import pytest

from latentline.core.timing import record_timing

FILE = Path("metrics/timing.json")


def test_stages_and_their_values_are_kept_side_by_side(workplace):
    record_timing("train_x", seconds=1.26)
    record_timing("sample", images_per_second=10.04)
    record_timing("sample", seconds=2.0)
    timings = json.loads(FILE.read_text())
    assert timings["train_x"]["seconds"] == 1.3
    assert (timings["sample"]["images_per_second"], timings["sample"]["seconds"]) == (10.0, 2.0)
    assert 1 < timings["sample"]["peak_memory_mib"] < 1e6


def test_small_values_keep_three_digits_and_unknown_ones_are_null(workplace):
    record_timing("train_x", share_of_peak=0.37219, tflop_per_second=0.0, peak_device_memory_mib=None)
    timings = json.loads(FILE.read_text())["train_x"]
    assert (timings["share_of_peak"], timings["tflop_per_second"]) == (0.372, 0.0)
    assert timings["peak_device_memory_mib"] is None


@pytest.mark.parametrize("content", [b"", b'{"sample": {', b"\xff\xfe"])
def test_a_damaged_file_of_speeds_is_replaced(workplace, content):
    FILE.parent.mkdir()
    FILE.write_bytes(content)
    record_timing("sample", seconds=2.0)
    assert json.loads(FILE.read_text())["sample"]["seconds"] == 2.0


@pytest.mark.parametrize("content", ["[1]", '"text"', "null", '{"sample": 3}'])
def test_a_file_of_speeds_of_another_shape_is_replaced(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    Path("metrics").mkdir()
    Path("metrics/timing.json").write_text(content)
    record_timing("sample", seconds=2.0)
    assert json.loads(Path("metrics/timing.json").read_text())["sample"]["seconds"] == 2.0
