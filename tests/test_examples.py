"""examples/repair.py scores and draws fills of hidden parts, beside a small run."""

import json
from types import ModuleType

import pytest
import torch

from support.examples import load_example
from support.pictures import grid_size


@pytest.fixture(scope="module")
def repair() -> ModuleType:
    return load_example("repair")


def test_a_third_of_an_image_is_hidden_by_a_rectangle_of_its_own(repair):
    masks = torch.stack([repair.hidden_third(index, 28, 28)[0] for index in range(50)])
    areas = masks.flatten(1).float().mean(1)
    assert areas.min() > 0.31
    assert areas.max() < 0.36
    boxes = masks.any(1).sum(1) * masks.any(2).sum(1)
    assert torch.equal(boxes, masks.flatten(1).sum(1))  # whole rectangles
    assert len(masks.unique(dim=0)) > 40


def test_repair_writes_the_scores_of_every_fill_and_a_figure(repair, finished, tmp_path, monkeypatch):
    monkeypatch.chdir(finished.folder)
    repair.main(str(tmp_path / "repair"), count=5)
    result = json.loads((tmp_path / "repair.json").read_text())
    fills = result["fills"]
    assert result["images"] == 5
    assert fills["truth"]["mse"] == 0
    assert 0 < fills["reconstruction of the truth"]["mse"] < fills["pasted samples"]["mse"]
    assert len({fill["mse"] for name, fill in fills.items() if "resamplings" in name}) == 3
    assert all(0 <= fill["accuracy"] <= 1 for fill in fills.values())
    # A row for each fill and one for the hidden parts, of 5 images of 8 pixels with gaps of 2.
    assert grid_size(tmp_path / "repair.png") == (2 * (5 * 10 + 2), 2 * ((len(fills) + 1) * 10 + 2))
