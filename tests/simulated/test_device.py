"""The simulated device computes as the CPU does, refuses what CUDA refuses, and counts copies and waits."""

import copy

import pytest
import torch
from torch import nn

from latentline.runtime.compute import channels_last, to_device
from support.simulated_device import counting, simulated_device, simulated_pinning


@pytest.fixture
def device() -> torch.device:
    return simulated_device()


def test_a_training_step_gives_the_numbers_of_the_cpu(device):
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(), nn.Flatten(), nn.Linear(72, 3))
    x = torch.randn(4, 1, 5, 5)
    results = []
    for place in (torch.device("cpu"), device):
        placed = copy.deepcopy(network).to(place)
        optimizer = torch.optim.AdamW(placed.parameters(), lr=1e-2, fused=True)
        placed(x.to(place)).square().mean().backward()
        norm = nn.utils.clip_grad_norm_(placed.parameters(), 0.5)
        optimizer.step()
        assert all(parameter.device == place for parameter in placed.parameters())
        results.append([norm.cpu(), *(tensor.cpu() for tensor in placed.state_dict().values())])
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "mixed",
    [
        lambda x: x + torch.ones(3),
        lambda x: torch.stack([x[0], torch.tensor(1.0)]),
        lambda x: torch.ones(3)[x.long()],
        lambda x: nn.functional.mse_loss(torch.ones(3), x),
        lambda x: x.index_put_((torch.tensor([0]),), torch.ones(1)),
    ],
    ids=["sum", "stack", "rows of the CPU", "loss", "assigned"],
)
def test_operations_on_two_devices_are_refused(device, mixed):
    with pytest.raises(RuntimeError, match="same device"):
        mixed(torch.zeros(3, device=device))


def test_numbers_without_dimensions_are_taken_from_the_cpu(device):
    assert (torch.ones(2, device=device) * torch.tensor(3.0)).tolist() == [3.0, 3.0]


def test_nothing_is_drawn_on_the_device_and_no_numpy_array_is_made_of_it(device):
    x = torch.ones(3, device=device)
    for draw in (lambda: torch.randn(3, device=device), lambda: nn.functional.dropout(x), x.uniform_):
        with pytest.raises(RuntimeError, match="random numbers are drawn on the CPU"):
            draw()
    with pytest.raises(TypeError, match="can't convert"):
        x.numpy()


def test_waits_are_counted_by_their_cause(device):
    x = torch.arange(4.0, device=device)
    with counting() as counts:
        x.sum().item()
        float(x[0])
        x.tolist()
        x.cpu()
        x.to("cpu", non_blocking=True)  # into memory that is not pinned
        torch.ones(2).to(device)
        x[x > 1]
    assert counts.synchronisations == {
        "item": 2,
        "tolist": 1,
        "copy to_host": 2,
        "copy to_device": 1,
        "index by mask": 1,
    }
    assert counts.copies == {"to_host": 2, "to_device": 1}
    assert counts.copied_bytes == {"to_host": 32, "to_device": 8}


def test_rows_counted_on_the_cpu_are_copied(device):
    with counting() as counts:
        assert torch.arange(4.0, device=device)[torch.tensor([2, 3])].tolist() == [2.0, 3.0]
    assert counts.copied_bytes == {"to_device": 16}


def test_a_copy_of_pinned_memory_waits_for_nothing(device):
    with simulated_pinning(), counting() as counts:
        torch.ones(2).pin_memory().to(device, non_blocking=True)
        torch.ones(4).pin_memory()[2:].to(device, non_blocking=True)
        torch.ones(2).to(device, non_blocking=True)
    assert counts.copies == {"to_device": 3}
    assert counts.synchronisations == {"copy to_device": 1}


def test_layouts_are_contiguous_where_a_network_has_group_norm(device):
    grouped, x = nn.Sequential(nn.Conv2d(8, 8, 3), nn.GroupNorm(2, 8)), torch.randn(2, 8, 5, 5)
    assert to_device(grouped, device)[0].weight.is_contiguous()
    assert channels_last(channels_last(x).to(device)).is_contiguous()
