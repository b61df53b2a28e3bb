import torch

from latentline.core.attributes import Column
from stages.manipulate.edits import unchanged

COLUMNS = (Column("label", "categorical", ("cat", "dog", "owl")), Column("smiling", "binary"), Column("age", "continuous", mean=40.0, std=10.0))


def test_what_is_counted_must_be_equal_and_numbers_may_stray_by_half_a_deviation():
    before = torch.tensor([[0.0, 1, 40], [1, 0, 40], [2, 1, 40]])
    after = torch.tensor([[0.0, 0, 44], [2, 0, 36], [2, 1, 46]])
    assert unchanged(COLUMNS, before, after).tolist() == [[True, False, True], [False, True, True], [True, True, False]]


def test_nothing_is_asked_of_no_columns():
    assert unchanged((), torch.empty(3, 0), torch.empty(3, 0)).shape == (3, 0)
