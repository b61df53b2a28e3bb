"""Scores of edits: flip rate, SSIM and identity, of learnt directions and of the random reference."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from latentline.core.attributes import Attribute
from latentline.core.labels import LabelTable
from latentline.editing.targets import Target, all_targets
from stages.manipulate.edit_inputs import EditBatch
from stages.manipulate.measure import measure_edits, unchanged

SCHEMA = (
    Attribute("label", "categorical", ("cat", "dog", "owl")),
    Attribute("smiling", "binary"),
    Attribute("age", "continuous", mean=40.0, std=10.0),
)


@dataclass
class Params:
    strengths: list[float]
    count: int


@dataclass
class Extractor:
    """Predicts an attribute from the value of each pixel: 0 or 1."""

    schema: tuple[Attribute, ...]

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        values = images.flatten(1)[:, : len(self.schema)].float() / 255
        return images, values


def _batch(values: Tensor, schema: tuple[Attribute, ...]) -> EditBatch:
    images = torch.zeros(len(values), 1, 8, 8, dtype=torch.uint8)
    images.flatten(1)[:, : values.shape[1]] = (255 * values).to(torch.uint8)
    return EditBatch(torch.arange(len(values)), images, LabelTable(schema, values), torch.zeros(len(values), 2), None)


def _edited(batch: EditBatch, target: Target, count: int, change: dict[int, int]) -> Tensor:
    """Return the images that are edited towards ``target``, with other values of some pixels."""
    images = batch.images[target.non_matching(batch.labels.values, count)].clone()
    for pixel, value in change.items():
        images.flatten(1)[:, pixel] = value
    return images


def test_classes_must_stay_equal_and_numbers_may_differ_by_half_a_deviation():
    before = torch.tensor([[0.0, 1, 40], [1, 0, 40], [2, 1, 40]])
    after = torch.tensor([[0.0, 0, 44], [2, 0, 36], [2, 1, 46]])
    assert unchanged(SCHEMA, before, after).tolist() == [[True, False, True], [False, True, True], [True, True, False]]


def test_without_attributes_there_is_nothing_that_may_change():
    assert unchanged((), torch.empty(3, 0), torch.empty(3, 0)).shape == (3, 0)


def test_the_scores_count_matches_of_the_target_and_values_of_the_others_that_stay():
    schema = (Attribute("smiling", "binary"), Attribute("hat", "binary"))
    batch = _batch(torch.tensor([[0.0, 0], [0, 1], [0, 1], [1, 1]]), schema)
    smiling, hat = all_targets(schema)
    edited = iter(
        [
            _edited(batch, smiling, 2, {0: 255}),  # learnt: both match, and nothing else changes
            _edited(batch, hat, 2, {}),  # the only image without a hat stays as it is
            _edited(batch, smiling, 2, {}),  # random: no image matches
            _edited(batch, hat, 2, {0: 255, 1: 255}),  # it matches, and smiles too
        ]
    )
    (row,) = measure_edits(Params([3.0], 2), [smiling, hat], edited, batch, Extractor(schema))
    assert row.keys() == {
        "strength",
        *(f"{name}{end}" for name in ("flip_rate", "ssim", "identity") for end in ("", "_random")),
    }
    assert row["strength"] == 3.0
    assert (row["flip_rate"], row["identity"]) == (pytest.approx(2 / 3), 1.0)
    assert (row["flip_rate_random"], row["identity_random"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert row["ssim"] < 1
    assert next(edited, None) is None


def test_an_edit_that_changes_nothing_has_an_ssim_of_1_and_one_attribute_alone_has_no_identity():
    schema = (Attribute("smiling", "binary"),)
    batch, (smiling,) = _batch(torch.zeros(3, 1), schema), all_targets(schema)
    edited = iter([_edited(batch, smiling, 3, {}) for _ in range(4)])
    table = measure_edits(Params([0.0, 1.0], 3), [smiling], edited, batch, Extractor(schema))
    scores = {"flip_rate": 0.0, "flip_rate_random": 0.0, "ssim": pytest.approx(1), "ssim_random": pytest.approx(1)}
    assert table == [{"strength": 0.0, **scores}, {"strength": 1.0, **scores}]
