"""What exceeds the machine's memory is refused before any work, and counting takes no memory."""

from functools import partial

import pytest
import torch
from torch import nn

from latentline.core.errors import UserError
from latentline.runtime import compute, memory
from latentline.runtime.compute import memory_bytes
from latentline.runtime.memory import require_memory, require_trainable
from latentline.runtime.parallel import Ranks

CPU = torch.device("cpu")
SETTINGS = {"width": 1000}


@pytest.fixture
def small(monkeypatch):
    """Give the machine 16 MB: room to train a million parameters."""
    monkeypatch.setattr(memory, "memory_bytes", lambda device: 16_000_000)


def test_the_machines_memory_is_that_of_its_container_where_that_has_less(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(compute, "_MEMORY_LIMIT", limit)
    machine = memory_bytes(CPU)
    assert machine > 1 << 28
    for text, expected in (("max\n", machine), ("12345\n", 12345), (f"{machine * 2}\n", machine)):
        limit.write_text(text)
        assert memory_bytes(CPU) == expected


def test_what_fits_exactly_is_accepted_and_a_byte_more_refused(small):
    require_memory(16_000_000, CPU, "latents: 5 need", "lower it")
    with pytest.raises(
        UserError, match=r"latents: 5 need 0\.0 GiB of memory; expected at most the 0\.0 GiB of this machine; lower it"
    ):
        require_memory(16_000_001, CPU, "latents: 5 need", "lower it")


def test_a_network_counts_its_weights_gradients_and_two_moments(small):
    require_trainable(lambda: nn.Linear(1000, 1000, bias=False), CPU, "denoiser", SETTINGS)
    with pytest.raises(
        UserError,
        match=r"denoiser: \{'width': 1000\} make a network that needs at least .*; expected .*; lower a width or a "
        r"depth",
    ):
        require_trainable(lambda: nn.Linear(1000, 1000), CPU, "denoiser", SETTINGS)


def test_processes_that_shard_the_weights_need_less_each_but_build_all_of_them(small):
    network = partial(nn.Linear, 1000, bias=False)
    for count, outputs in ((2, 2000), (4, 4000), (8, 4000)):
        sharded = Ranks(0, count, sharded=True)
        require_trainable(lambda outputs=outputs: network(outputs), CPU, "denoiser", SETTINGS, sharded)
        with pytest.raises(UserError, match="make a network"):
            require_trainable(lambda outputs=outputs: network(outputs + 1), CPU, "denoiser", SETTINGS, sharded)


def test_counting_takes_no_memory_and_draws_no_random_number(small):
    before = torch.get_rng_state()
    with pytest.raises(UserError, match="make a network"):
        require_trainable(lambda: nn.Linear(10**7, 10**7), CPU, "denoiser", SETTINGS)  # 400 TB
    assert torch.equal(torch.get_rng_state(), before)


def test_a_layer_of_more_weights_than_can_be_counted_is_refused_too(small):
    with pytest.raises(
        UserError, match=r"denoiser: .* a layer too large for any machine .*; expected less; lower a width"
    ):
        require_trainable(lambda: nn.Linear(10**10, 10**10), CPU, "denoiser", SETTINGS)
