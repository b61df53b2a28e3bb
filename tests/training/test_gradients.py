"""Gradients are summed in buckets while the last backward pass of a step goes on; sharded ones once per step."""

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.debug import CommDebugMode

from latentline.runtime.parallel import SINGLE_PROCESS, Ranks
from latentline.runtime.sharding import full_tensor, shard
from latentline.training.gradients import GradientBuckets
from support.several import several

STEPS, MICRO_BATCHES = 2, 3


class _Network(nn.Module):
    """Three layers whose tensors differ in size, a parameter that is never used, and one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(2, 5, 3).to(memory_format=torch.channels_last)
        self.unused = nn.Parameter(torch.ones(3))
        self.second = nn.Conv2d(5, 6, 3).to(memory_format=torch.channels_last)
        self.last = nn.Linear(6, 2)
        self.last.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(x).tanh()).tanh().mean((2, 3)))


def _loss(network: nn.Module, rank: int, micro_batch: int) -> Tensor:
    draw = torch.Generator().manual_seed(10 * rank + micro_batch)
    return network(torch.randn(2, 2, 8, 8, generator=draw)).square().mean()


def _gradients(network: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}


def _step(network: nn.Module, buckets: GradientBuckets, rank: int, micro_batches: int = MICRO_BATCHES) -> None:
    network.zero_grad()
    for index in range(micro_batches):
        loss = _loss(network, rank, index)
        buckets.begin_backward()
        loss.backward()
    buckets.finish()


@pytest.mark.parametrize("bucket_bytes", [1, 300, 1 << 20], ids=["one each", "some", "all in one"])
def test_gradients_are_sums_over_ranks_and_micro_batches_the_same_bytes_on_each(bucket_bytes):
    def work(ranks: Ranks) -> dict[str, Tensor]:
        network = _Network()
        buckets = GradientBuckets(network, ranks, MICRO_BATCHES, bucket_bytes)
        for _ in range(STEPS):
            _step(network, buckets, ranks.number)
        for name, gradient in _gradients(network).items():
            assert gradient.stride() == network.get_parameter(name).stride()
        assert not any(parameter._post_accumulate_grad_hooks for parameter in network.parameters())
        return _gradients(network)

    alone = _Network()
    for rank in range(3):
        for index in range(MICRO_BATCHES):
            _loss(alone, rank, index).backward()
    expected = _gradients(alone)
    first, *others = several(3, work)
    assert first.keys() == expected.keys()  # neither the unused parameter nor the frozen one
    for name, gradient in first.items():
        torch.testing.assert_close(gradient, expected[name])
        assert all(torch.equal(other[name], gradient) for other in others)


def test_buckets_are_sent_in_order_during_the_last_backward_pass_alone(monkeypatch):
    def work(ranks: Ranks) -> list[list[str]]:
        network = _Network()
        names = {parameter.numel(): name for name, parameter in network.named_parameters()}
        sent: list[str] = []
        begin = Ranks.begin_all_reduce

        def noting(ranks: Ranks, tensor: Tensor) -> object:
            sent.append(names[tensor.numel()])
            return begin(ranks, tensor)

        monkeypatch.setattr(Ranks, "begin_all_reduce", noting)
        # The last gradient of the pass to be computed is that of the first layer.
        network.first.weight.register_post_accumulate_grad_hook(lambda _: by_pass.append(list(sent)))
        by_pass: list[list[str]] = []
        _step(network, GradientBuckets(network, ranks, MICRO_BATCHES, 1), ranks.number)
        return [*by_pass, list(sent)]

    *before, during, after = several(2, work)[0]
    assert before == [[], []]
    assert during == ["last.weight", "second.bias", "second.weight"]
    assert after == [*during, "first.bias", "first.weight"]


def test_a_step_of_other_length_than_announced_is_an_error():
    def work(ranks: Ranks) -> list[str]:
        errors = []
        for micro_batches in (1, 3):
            network = _Network()
            with pytest.raises(ValueError, match="micro-batches") as caught:
                _step(network, GradientBuckets(network, ranks, 2), ranks.number, micro_batches)
            errors.append(str(caught.value))
        return errors

    assert several(2, work) == [["a step has 1 micro-batches, not 2", "a step has more than 2 micro-batches"]] * 2


def test_one_process_alone_keeps_its_gradients():
    network, expected = _Network(), _Network()
    _step(network, GradientBuckets(network, SINGLE_PROCESS), 0)
    for index in range(MICRO_BATCHES):
        _loss(expected, 0, index).backward()
    assert all(torch.equal(gradient, _gradients(expected)[name]) for name, gradient in _gradients(network).items())


class _Block(nn.Linear):
    computed_in: torch.dtype

    def forward(self, x: Tensor) -> Tensor:
        self.computed_in = self.weight.dtype
        return super().forward(x).tanh()


class _Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.Sequential(_Block(8, 8), _Block(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


def _tower_loss(tower: _Tower, rank: int, micro_batch: int) -> Tensor:
    draw = torch.Generator().manual_seed(10 * rank + micro_batch)
    return tower(torch.randn(4, 8, generator=draw)).float().square().mean()


@pytest.mark.parametrize("param_dtype", [None, torch.bfloat16])
def test_sharded_gradients_are_reduced_once_per_step_in_float32(param_dtype):
    def work(ranks: Ranks) -> tuple[list[int], dict[str, Tensor], set[torch.dtype]]:
        tower = _Tower()
        shard(tower, ranks, param_dtype)
        buckets, counts = GradientBuckets(tower, ranks, MICRO_BATCHES), []
        for _ in range(STEPS):
            tower.zero_grad()
            with CommDebugMode() as calls, torch.autocast("cpu", torch.bfloat16, enabled=param_dtype is not None):
                for index in range(MICRO_BATCHES):
                    loss = _tower_loss(tower, ranks.number, index)
                    buckets.begin_backward()
                    loss.backward()
                buckets.finish()
            counts.append(
                sum(count for call, count in calls.get_comm_counts().items() if "reduce_scatter" in str(call))
            )
        assert all(isinstance(gradient, DTensor) for gradient in _gradients(tower).values())
        return (
            counts,
            {name: full_tensor(g) for name, g in _gradients(tower).items()},
            {block.computed_in for block in tower.blocks},
        )

    expected = _Tower()
    for rank in range(2):
        for index in range(MICRO_BATCHES):
            _tower_loss(expected, rank, index).backward()
    for counts, gradients, computed_in in several(2, work, sharded=True):
        assert counts == [len(expected.blocks)] * STEPS
        assert computed_in == {param_dtype or torch.float32}
        for name, gradient in _gradients(expected).items():
            assert gradients[name].dtype == torch.float32
            tolerance = {"rtol": 0.05, "atol": 0.01} if param_dtype else {"rtol": 1e-5, "atol": 1e-7}
            torch.testing.assert_close(gradients[name], gradient, **tolerance)
