import pytest
import torch

from latentline.core.attributes import Column, all_columns
from latentline.core.errors import UserError
from latentline.editing.targets import Target, all_targets, require_known

HAIR = Column("hair", "categorical", ("red", "none"))
COLUMNS = all_columns(("cat", "dog", "owl"), (Column("smiling", "binary"), Column("age", "continuous", mean=40.0, std=12.5), HAIR))
VALUES = torch.tensor([[0, 1, 39.5, 0], [1, 0, 40.5, 1], [2, 1, 12.0, 0], [1, 0, 90.0, 1]])


@pytest.mark.parametrize(
    ("place", "kind", "holds"),
    [
        (0, 0, [True, False, False, False]),
        (0, 1, [False, True, False, True]),
        (0, 2, [False, False, True, False]),
        (1, 0, [True, False, True, False]),  # the attribute is present
        (2, 0, [False, True, False, True]),  # above the mean
        (3, 1, [False, True, False, True]),
    ],
)
def test_a_target_holds_where_an_image_is_so_already(place, kind, holds):
    target = Target(place, COLUMNS[place], kind)
    assert target.holds(VALUES).tolist() == holds
    others = [row for row, so in enumerate(holds) if not so]
    assert target.others(VALUES, 10).tolist() == others
    assert target.others(VALUES, 1).tolist() == others[:1]


def test_there_is_a_target_for_each_output_of_a_classifier_by_its_name():
    targets = all_targets(COLUMNS)
    assert len(targets) == sum(column.outputs for column in COLUMNS)
    assert [target.name for target in targets] == ["cat", "dog", "owl", "smiling", "age", "hair=red", "hair=none"]


def test_an_image_of_which_the_target_is_told_is_so_and_nothing_else_is_changed():
    for target in all_targets(COLUMNS):
        told = target.told(VALUES)
        assert target.holds(told).all()
        others = [place for place in range(4) if place != target.place]
        assert torch.equal(told[:, others], VALUES[:, others])


def test_an_unknown_name_is_refused_in_one_line_with_those_that_exist():
    require_known("manipulate.target_names", ["dog", "cat"], ["cat", "dog"])
    with pytest.raises(UserError, match=r"manipulate\.target_names: 'bird' is unknown; expected one of cat, dog; correct it"):
        require_known("manipulate.target_names", ["dog", "bird"], ["cat", "dog"])
    with pytest.raises(UserError, match="expected one of none, as nothing is known here"):
        require_known("manipulate.source_class", ["bird"], [])
    with pytest.raises(UserError) as caught:
        require_known("manipulate.source_class", ["bird"], [f"class {number}" for number in range(1000)])
    assert "class 59, ...; correct it" in str(caught.value)
