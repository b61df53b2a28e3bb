"""Micro-batches cover a batch once and train what the whole batch trains."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from latentline.core.seeds import generator
from latentline.runtime.resume import ResumeFile
from latentline.training.loop import Saving, TrainConfig, fit
from latentline.training.micro_batches import MicroBatch, micro_batches
from support.training_run import EPOCHS, NEVER, OPTIMIZER, STEPS


@given(st.integers(1, 40), st.integers(1, 40))
def test_micro_batches_cover_a_batch_once_in_order_and_differ_by_one_row_at_most(count, accumulate):
    cut = list(micro_batches(count, accumulate))
    rows = [list(range(count))[part] for _, part in cut]
    assert [row for part in rows for row in part] == list(range(count))
    sizes = [len(part) for part in rows]
    assert len(sizes) == min(count, accumulate)
    assert 1 <= max(sizes) <= min(sizes) + 1
    assert [weight for weight, _ in cut] == [size / count for size in sizes]


@pytest.mark.parametrize("accumulate", [2, 3, 7])
def test_micro_batches_train_what_the_whole_batch_trains(workplace, accumulate):
    """In float64, where the order of a sum hardly matters; seven rows make uneven micro-batches."""

    def run(accumulate: int) -> tuple[nn.Module, list[dict[str, float]], list[int]]:
        torch.manual_seed(7)
        network = nn.Sequential(nn.Linear(4, 8), nn.GroupNorm(2, 8), nn.ReLU(), nn.Linear(8, 1)).double()
        x = torch.randn(STEPS, 7, 4, dtype=torch.float64, generator=generator(0, "x"))
        sizes: list[int] = []

        def loss(step: int) -> Iterator[MicroBatch]:
            for weight, rows in micro_batches(7, accumulate):
                batch = x[step % STEPS, rows]
                sizes.append(len(batch))
                error = (network(batch)[:, 0] - batch.sum(dim=1)).square()
                yield weight, error.mean(), {"loss": error.mean()}

        saving = Saving(ResumeFile("x", {"accumulate": accumulate}, ()), NEVER)
        _, history = fit(network, loss, TrainConfig("x", EPOCHS, STEPS, OPTIMIZER, saving))
        return network, history, sizes

    whole, cut = run(1), run(accumulate)
    for one, other in zip(whole[0].parameters(), cut[0].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    assert [row["loss"] for row in cut[1]] == pytest.approx([row["loss"] for row in whole[1]], rel=1e-9)
    assert max(whole[2]) == 7
    assert max(cut[2]) == -(-7 // accumulate)
