import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentline.common.column import Column
from latentline.pipeline.manipulate import Target, evenly

COLUMNS = (Column("label", "categorical", ("cat", "dog", "owl")), Column("smiling", "binary"), Column("age", "continuous", mean=40.0, std=12.5))
VALUES = torch.tensor([[0, 1, 39.5], [1, 0, 40.5], [2, 1, 12.0], [1, 0, 90.0]])


@pytest.mark.parametrize(
    ("place", "kind", "holds"),
    [
        (0, 0, [True, False, False, False]),
        (0, 1, [False, True, False, True]),
        (0, 2, [False, False, True, False]),
        (1, 0, [True, False, True, False]),  # the attribute is present
        (2, 0, [False, True, False, True]),  # above the mean
    ],
)
def test_a_target_holds_where_an_image_is_so_already(place, kind, holds):
    assert Target(place, COLUMNS[place], kind).holds(VALUES).tolist() == holds


@given(count=st.integers(2, 2000), share=st.floats(0, 1))
def test_targets_are_chosen_evenly_and_none_twice(count, share):
    most = 1 + int(share * (count - 2))
    chosen = evenly(range(count), most)
    steps = {after - before for before, after in itertools.pairwise([*chosen, count])}
    assert (len(chosen), chosen[0]) == (most, 0)
    assert steps <= {count // most, -(-count // most)}
