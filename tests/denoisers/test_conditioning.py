import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentline.core.attributes import Attribute, all_columns, condition
from latentline.core.errors import UserError
from latentline.denoisers.conditioning import build_conditioning, conditioning_on, labels_for_samples

ATTRIBUTES = (Attribute("smiling", "binary"), Attribute("age", "continuous", mean=40.0, std=12.5))
COLUMNS = all_columns(("cat", "dog", "owl"), ATTRIBUTES)


def _known(count: int, classes: int = 3) -> torch.Tensor:
    """Values (count, 3) of images of the first ``classes`` classes; no two images are of the same age."""
    return torch.stack(
        [torch.randint(0, classes, (count,)).float(), torch.rand(count).round(), torch.randperm(count).float()], dim=1
    )


@given(count=st.integers(1, 60), images=st.integers(1, 20))
def test_classes_come_in_turn_and_the_rest_from_an_image_of_that_class(count, images):
    known = _known(images)
    values = labels_for_samples(COLUMNS, known, count)
    assert values[:, 0].tolist() == [index % 3 for index in range(count)]
    rows = {tuple(row) for row in known.tolist()}
    present = set(known[:, 0].tolist())
    assert all(tuple(row) in rows for row in values.tolist() if row[0] in present)


def test_every_image_of_a_class_has_its_turn_before_one_has_a_second():
    known = torch.cat(
        [torch.tensor([0.0, 0, 0, 0, 1, 2, 2])[:, None], torch.zeros(7, 1), torch.arange(7.0)[:, None]], dim=1
    )
    ages = labels_for_samples(COLUMNS, known, 3 * 8)[:, 2].reshape(8, 3).T  # (class, its samples)
    for label, of_class in enumerate([[0, 1, 2, 3], [4], [5, 6]]):
        times = [ages[label].tolist().count(age) for age in of_class]
        assert sum(times) == 8
        assert max(times) - min(times) <= 1


def test_a_class_without_an_image_borrows_the_rest_from_another():
    known = _known(10, classes=2)
    values = labels_for_samples(COLUMNS, known, 30)
    assert values[2::3, 0].tolist() == [2] * 10
    rest = {tuple(row) for row in known[:, 1:].tolist()}
    assert all(tuple(row) in rest for row in values[2::3, 1:].tolist())


def test_without_a_class_images_come_in_turn():
    known = _known(4)[:, 1:]
    assert torch.equal(labels_for_samples(ATTRIBUTES, known, 10), known[torch.arange(10) % 4])


def test_without_columns_there_is_nothing_to_draw_for():
    assert labels_for_samples((), torch.empty(0, 0), 7).shape == (7, 0)


@pytest.mark.parametrize(
    ("wanted", "names", "features"),
    [("all", ["label", "smiling", "age"], 3 + 1 + 2), ("class", ["label"], 3), ("none", [], 0)],
)
def test_the_denoiser_is_told_what_the_knob_says(wanted, names, features):
    conditions, known = build_conditioning(wanted, COLUMNS), _known(5)
    assert (conditions.names, conditions.features) == (names, features)
    chosen = [index for index, column in enumerate(COLUMNS) if column.name in names]
    assert torch.equal(conditions.encode(known), condition([COLUMNS[index] for index in chosen], known[:, chosen]))
    assert conditioning_on(conditions.names, COLUMNS) == conditions


def test_any_column_finds_its_own_values_among_all():
    known = _known(5)
    assert torch.equal(conditioning_on(["age"], COLUMNS).encode(known), ATTRIBUTES[1].encode(known[:, 2]))


def test_a_class_that_is_not_there_is_refused_with_the_remedy():
    with pytest.raises(UserError, match=r"denoiser\.condition: class, but .*; set it to all or none"):
        build_conditioning("class", ATTRIBUTES)


@pytest.mark.parametrize(
    ("wanted", "scale", "used", "words"), [("all", 1.9, 1.9, 0), ("none", 1.9, 1.0, 1), ("none", 1.0, 1.0, 0)]
)
def test_guidance_is_switched_off_where_nothing_is_told_and_a_word_in_the_log_says_so(
    caplog, wanted, scale, used, words
):
    with caplog.at_level(logging.INFO):
        assert build_conditioning(wanted, COLUMNS).guidance(scale, "sample.guidance_scale") == used
    assert [record.message.split()[0] for record in caplog.records] == ["sample.guidance_scale"] * words
