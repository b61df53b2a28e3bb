"""The rows of a training step follow from the seed and the step alone."""

import pytest
import torch

from latentline.data.batches import EpochSampler


def _epoch(sampler: EpochSampler, epoch: int) -> list[int]:
    steps = range(epoch * sampler.steps_per_epoch, (epoch + 1) * sampler.steps_per_epoch)
    return torch.cat([sampler.rows(step) for step in steps]).tolist()


@pytest.mark.parametrize(("count", "batch_size"), [(10, 3), (12, 4), (1, 1), (5, 8), (7, 7)])
def test_an_epoch_visits_every_row_at_most_once_and_drops_less_than_a_batch(count, batch_size):
    sampler = EpochSampler(count, batch_size, seed=0)
    for epoch in range(4):
        rows = _epoch(sampler, epoch)
        assert len(set(rows)) == len(rows) > count - batch_size
        assert set(rows) <= set(range(count))


def test_over_many_epochs_every_row_is_visited():
    sampler = EpochSampler(10, 3, seed=0)
    assert set().union(*(_epoch(sampler, epoch) for epoch in range(20))) == set(range(10))


def test_each_epoch_and_each_seed_has_an_order_of_its_own():
    orders = [tuple(_epoch(EpochSampler(50, 10, seed), epoch)) for seed in (0, 1) for epoch in range(3)]
    assert len(set(orders)) == len(orders)


def test_the_rows_of_a_step_do_not_depend_on_the_steps_before_it():
    straight = EpochSampler(20, 3, seed=4)
    rows = [straight.rows(step).tolist() for step in range(30)]
    for step in (29, 0, 17, 5, 18, 6):
        torch.rand(3)
        assert EpochSampler(20, 3, seed=4).rows(step).tolist() == rows[step]
        assert straight.rows(step).tolist() == rows[step]


def test_a_batch_larger_than_the_data_is_all_of_it():
    sampler = EpochSampler(5, 8, seed=0)
    assert sampler.steps_per_epoch == 1
    assert sorted(sampler.rows(0).tolist()) == list(range(5))
