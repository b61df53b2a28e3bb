"""Targets of edits: which images match, how labels change, which names exist."""

import pytest
import torch

from latentline.core.attributes import Attribute, num_logits
from latentline.core.errors import UserError
from latentline.core.labels import build_schema
from latentline.editing.targets import Target, all_targets, require_names

HAIR = Attribute("hair", "categorical", ("red", "none"))
SCHEMA = build_schema(
    ("cat", "dog", "owl"), (Attribute("smiling", "binary"), Attribute("age", "continuous", mean=40.0, std=12.5), HAIR)
)
VALUES = torch.tensor([[0, 1, 39.5, 0], [1, 0, 40.5, 1], [2, 1, 12.0, 0], [1, 0, 90.0, 1]])


@pytest.mark.parametrize(
    ("column_index", "class_index", "matches"),
    [
        (0, 0, [True, False, False, False]),
        (0, 1, [False, True, False, True]),
        (0, 2, [False, False, True, False]),
        (1, 0, [True, False, True, False]),  # the attribute is present
        (2, 0, [False, True, False, True]),  # above the mean
        (3, 1, [False, True, False, True]),
    ],
)
def test_images_match_a_target_by_class_presence_or_a_number_above_the_mean(column_index, class_index, matches):
    target = Target(column_index, SCHEMA[column_index], class_index)
    assert target.matches(VALUES).tolist() == matches
    non_matching = [row for row, match in enumerate(matches) if not match]
    assert target.non_matching(VALUES, 10).tolist() == non_matching
    assert target.non_matching(VALUES, 1).tolist() == non_matching[:1]


def test_there_is_a_named_target_for_each_logit_of_a_classifier():
    targets = all_targets(SCHEMA)
    assert len(targets) == num_logits(SCHEMA)
    assert [target.name for target in targets] == ["cat", "dog", "owl", "smiling", "age", "hair=red", "hair=none"]


def test_labels_with_the_target_match_it_and_nothing_else_is_changed():
    for target in all_targets(SCHEMA):
        changed = target.with_target(VALUES)
        assert target.matches(changed).all()
        others = [index for index in range(4) if index != target.column_index]
        assert torch.equal(changed[:, others], VALUES[:, others])


def test_an_unknown_name_is_refused_in_one_line_with_the_names_that_exist():
    require_names("manipulate.target_names", ["dog", "cat"], ["cat", "dog"])
    with pytest.raises(UserError, match=r"^manipulate\.target_names \('bird'\) must be one of cat, dog; correct it$"):
        require_names("manipulate.target_names", ["dog", "bird"], ["cat", "dog"])
    with pytest.raises(
        UserError,
        match=r"^manipulate\.source_class \('bird'\) must be empty for images without labels; remove the name$",
    ):
        require_names("manipulate.source_class", ["bird"], [])
    with pytest.raises(UserError) as caught:
        require_names("manipulate.source_class", ["bird"], [f"class {number}" for number in range(1000)])
    assert "class 59, ...; correct it" in str(caught.value)


@pytest.mark.parametrize("target", all_targets(SCHEMA[1:]), ids=lambda target: target.name)
def test_an_image_without_a_value_neither_matches_nor_is_edited(target):
    values = VALUES[:, 1:].clone()
    values[1, target.column_index] = torch.nan
    assert target.unknown(values).tolist() == [False, True, False, False]
    matches = target.matches(values)
    assert not matches[1]
    assert target.non_matching(values, 4).tolist() == [row for row in (0, 2, 3) if not matches[row]]
    assert not target.with_target(values).isnan().any()
