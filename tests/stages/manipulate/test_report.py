"""Report of the edits: metrics of the strongest one, the scores by strength, and the figures."""

import json
import logging
from dataclasses import dataclass

import pandas as pd
import pytest
import torch

from latentline.autoencoders.identity import Identity
from latentline.autoencoders.load import TrainedAutoencoder
from latentline.core.attributes import Attribute
from latentline.core.labels import LabelTable, build_schema
from latentline.editing.directions import unit
from latentline.editing.targets import all_targets
from latentline.latents.cache import LatentStats
from latentline.latents.normalizer import Normalizer
from stages.manipulate.directions import Directions
from stages.manipulate.edit import Editor
from stages.manipulate.edit_inputs import EditBatch
from stages.manipulate.report import report, report_nothing_to_change
from support.pictures import grid_size

SCHEMA = build_schema(("cat", "dog"), (Attribute("smiling", "binary"),))
TARGETS = all_targets(SCHEMA)
SHAPE = (1, 8, 8)
CELL = 2 * (8 + 2)  # pixels of an image and its gap, twice as large


@dataclass
class Params:
    strengths: list[float]
    strips: int
    count: int


def _table(names: list[str]) -> list[dict[str, float]]:
    columns = [f"{name}{end}" for name in names for end in ("", "_random")]
    return [{"strength": strength, **dict.fromkeys(columns, strength / 4)} for strength in (0.0, 1.0, 2.0)]


@pytest.mark.parametrize("names", [["flip_rate", "ssim"], ["flip_rate", "ssim", "identity"]])
def test_the_metrics_are_the_strongest_edits_and_every_figure_has_its_size(names, workplace):
    stats = LatentStats(SHAPE, SCHEMA, "ab", Normalizer(torch.zeros(1, 1, 1), torch.ones(1, 1, 1)))
    editor = Editor(TrainedAutoencoder(Identity(SHAPE), torch.device("cpu"), "ab", SHAPE), stats, None)
    values = torch.stack([(torch.arange(12) % 2).float(), (torch.arange(12) % 3 > 0).float()], dim=1)
    images = torch.randint(0, 256, (12, *SHAPE), dtype=torch.uint8)
    batch = EditBatch(torch.arange(12), images, LabelTable(SCHEMA, values), torch.randn(12, 64), None)
    learnt, random = (Directions(unit(torch.randn(3, 64)), torch.ones(3)) for _ in range(2))
    report(Params([0.0, 1.0, 2.0], 2, 12), 0, TARGETS, learnt, random, batch, editor, _table(names))
    metrics = json.loads((workplace / "metrics" / "manipulate.json").read_text())
    strongest = {f"{name}{end}": 0.5 for name in names for end in ("", "_random")}
    expected = {"targets": 3, "target_names": ["cat", "dog", "smiling"], "by_strength": _table(names)}
    assert metrics == {**strongest, **expected}
    folder = workplace / "fig" / "manipulate"
    assert pd.read_csv(folder / "curves.csv").to_dict("records") == _table(names)
    cells = {"strips": (4, 2), "strips_random": (4, 2), "before_after": (6, 4)}  # columns, rows
    for name, (columns, rows) in cells.items():
        assert grid_size(folder / f"{name}.png") == (columns * CELL + 4, rows * CELL + 4), name
    others = {"curves.csv", "edits.gif", *(f"{name}.png" for name in ("flip_rate", "kept", "trade_off"))}
    others |= {f"{name}.png" for name in ("interpolations", "perturbations", "arithmetic")}
    assert {path.name for path in folder.iterdir()} == {*(f"{name}.png" for name in cells), *others}


def test_without_a_target_there_are_a_notice_and_the_columns_that_plots_need(workplace, caplog):
    with caplog.at_level(logging.INFO):
        report_nothing_to_change()
    assert caplog.messages == ["nothing to change: these images have neither labels nor attributes that differ"]
    assert json.loads((workplace / "metrics" / "manipulate.json").read_text()) == {"targets": 0}
    folder = workplace / "fig" / "manipulate"
    assert {path.name for path in folder.iterdir()} == {"curves.csv", "notice.png"}
    columns = pd.read_csv(folder / "curves.csv").columns
    assert columns.tolist() == ["strength", "flip_rate", "ssim", "flip_rate_random", "ssim_random"]
