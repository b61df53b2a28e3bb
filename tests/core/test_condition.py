"""Every operation on a condition treats its vector, tokens and mask alike, and torch finds the tensors in it."""

import pytest
import torch
from torch.utils import _pytree as pytree

from latentline.core.condition import Condition, concatenate

COUNT = 5


@pytest.fixture(params=["vector", "tokens", "tokens and mask", "no features"])
def condition(request) -> Condition:
    """The condition of 5 examples, of each kind."""
    vector = torch.randn(COUNT, 0 if request.param == "no features" else 3)
    if "tokens" not in request.param:
        return Condition(vector)
    mask = torch.arange(4) < torch.tensor([[4], [2], [0], [1], [3]]) if "mask" in request.param else None
    return Condition(vector, torch.randn(COUNT, 4, 2), mask)


def _same(one: Condition, other: Condition) -> bool:
    return all(
        (a is None and b is None) or (a is not None and b is not None and torch.equal(a, b))
        for a, b in zip(one, other, strict=True)
    )


def _each(condition: Condition) -> list[Condition]:
    """The condition of each example alone, by plain indexing."""
    return [
        Condition(*(None if part is None else part[index : index + 1] for part in condition)) for index in range(COUNT)
    ]


def test_its_size_is_the_number_of_examples(condition):
    assert condition.size == COUNT
    assert condition.rows(slice(2)).size == 2


@pytest.mark.parametrize("rows", [torch.tensor([4, 0, 0]), slice(1, 4)], ids=["indices", "slice"])
def test_rows_are_those_of_every_part(condition, rows):
    assert _same(condition.rows(rows), concatenate([_each(condition)[index] for index in torch.arange(COUNT)[rows]]))


def test_conditions_of_single_examples_concatenate_to_the_whole(condition):
    assert _same(concatenate(_each(condition)), condition)
    assert _same(concatenate([condition]), condition)


def test_repeated_puts_the_copies_of_an_example_one_after_the_other(condition):
    expected = concatenate([one for one in _each(condition) for _ in range(3)])
    assert _same(condition.repeated(3), expected)


def test_expanded_takes_one_example_for_all_or_each_for_itself(condition):
    first = condition.rows(slice(1))
    assert _same(first.expanded(3), concatenate([first] * 3))
    assert _same(condition.expanded(COUNT), condition)


def test_the_null_condition_is_a_vector_of_zeros_and_no_token(condition):
    null = condition.null()
    assert torch.equal(null.vector, torch.zeros_like(condition.vector))
    if condition.tokens is None:
        assert null.tokens is None
        assert null.mask is None
    else:
        assert null.mask is not None
        assert (null.mask.dtype, null.mask.shape) == (torch.bool, (COUNT, 4))
        assert not null.mask.any()
    assert _same(null.null(), null)


def test_dropped_examples_are_null_and_all_others_as_before(condition):
    drop = torch.tensor([True, False, True, False, False])
    dropped = condition.dropped(drop)
    for index, one in enumerate(_each(dropped)):
        before = _each(condition)[index]
        if drop[index]:
            assert _same(one, before.null())
        else:
            kept = before.dropped(torch.tensor([False]))
            assert _same(one, kept)
            assert torch.equal(one.vector, before.vector)
            assert one.mask is None or before.mask is None or torch.equal(one.mask, before.mask)
            assert one.mask is None or before.mask is not None or one.mask.all()
    assert _same(condition.dropped(torch.ones(COUNT, dtype=torch.bool)), condition.null())


def test_a_condition_concatenates_with_its_null_condition(condition):
    both = concatenate([condition, condition.null()])
    assert both.size == 2 * COUNT
    assert _same(both.rows(slice(COUNT, None)), condition.null())
    assert _same(both.rows(slice(COUNT)), condition.dropped(torch.zeros(COUNT, dtype=torch.bool)))


def test_nothing_changes_the_condition_itself(condition):
    before = Condition(*(None if part is None else part.clone() for part in condition))
    condition.null()
    condition.dropped(torch.ones(COUNT, dtype=torch.bool))
    condition.repeated(2)
    concatenate([condition, condition.null()])
    assert _same(condition, before)


def test_it_moves_to_a_device_as_a_whole(condition):
    moved = condition.to("meta")
    assert {part.device.type for part in moved if part is not None} == {"meta"}
    assert [None if part is None else part.shape for part in moved] == [
        None if part is None else part.shape for part in condition
    ]


def test_it_is_a_node_of_torchs_pytrees(condition):
    leaves, spec = pytree.tree_flatten(condition)
    assert [leaf for leaf in leaves if leaf is not None] == [part for part in condition if part is not None]
    again = pytree.tree_unflatten(leaves, spec)
    assert isinstance(again, Condition)
    assert _same(again, condition)
    doubled = pytree.tree_map_only(torch.Tensor, lambda part: torch.cat([part, part]), condition)
    assert isinstance(doubled, Condition)
    assert _same(doubled, concatenate([condition, condition]))


def test_gradients_reach_its_tensors_through_a_module(condition):
    class Sum(torch.nn.Module):
        def forward(self, condition: Condition) -> torch.Tensor:
            return sum((part.float().sum() for part in condition if part is not None), torch.zeros(()))

    vector = condition.vector.requires_grad_()
    Sum()(condition).backward()
    assert torch.equal(vector.grad, torch.ones_like(vector))
