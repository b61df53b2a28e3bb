"""Sharded weights come back whole, one block at a time, and their gradients are sums over the ranks."""

import torch
import torch._dynamo
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from latentline.runtime.parallel import Ranks
from latentline.runtime.sharding import full_tensor, gather_to_rank0, shard, shard_like
from support.several import several


class _Squares(nn.Module):
    """A weight that is not contiguous, has fewer rows than there are ranks, and is not used by ``forward``."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.arange(2.0 * 3 * 2 * 2).view(2, 3, 2, 2).contiguous(memory_format=torch.channels_last)
        )

    def loss(self, x: Tensor) -> Tensor:
        return (self.weight * x).square().sum()


def test_tensors_come_back_whole_and_gradients_are_sums():
    whole = _Squares().weight.detach()

    def work(ranks: Ranks) -> tuple[Tensor, ...]:
        network = _Squares()
        shard(network, ranks)
        network.loss(torch.tensor(ranks.number + 1.0)).backward()
        other = shard_like(10 * whole, network.weight.detach())
        assert isinstance(other, DTensor)
        gradient = network.weight.grad
        assert gradient is not None
        return (
            full_tensor(network.weight),
            full_tensor(gradient),
            full_tensor(other),
            gather_to_rank0(other),
            gather_to_rank0(whole[0]),
        )

    for number, (weight, gradient, other, first, plain) in enumerate(several(3, work, sharded=True)):
        assert torch.equal(weight, whole)
        torch.testing.assert_close(gradient, 2 * whole * (1 + 4 + 9))
        assert torch.equal(other, 10 * whole)
        assert torch.equal(plain, whole[0])
        assert torch.equal(first, 10 * whole) if number == 0 else first.numel() == 0


class _Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def test_the_weights_of_one_block_at_a_time_are_whole():
    def work(ranks: Ranks) -> list[list[int]]:
        tower = _Tower()
        shard(tower, ranks)
        whole: list[list[int]] = []

        def note_whole(*_: object) -> None:
            whole.append(
                [index for index, block in enumerate(tower.blocks) if not isinstance(block[0].weight, DTensor)]
            )

        for block in tower.blocks:
            block[1].register_forward_hook(note_whole)
        tower(torch.ones(2, 4)).sum().backward()
        note_whole()
        return whole

    assert several(2, work, sharded=True) == [[[0], [1], [2], []]] * 2


def test_a_tensor_that_is_not_sharded_keeps_its_layout():
    like = torch.empty(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    whole = torch.randn(2, 3, 4, 4)
    copy = shard_like(whole, like)
    assert torch.equal(copy, whole)
    assert copy.stride() == like.stride()
    assert full_tensor(copy) is gather_to_rank0(copy) is copy
