"""Threads, determinism and memory layout are as the settings ask, whatever the environment holds."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from latentline.core.errors import UserError
from latentline.runtime import compute
from latentline.runtime.compute import channels_last, has_device, set_up, to_device

PROGRAM = """
import json, os, sys
sys.path.insert(0, {src!r})
import torch
from latentline.runtime.compute import set_up
device = set_up("cpu", 3, deterministic=False)
variables = [os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")]
print(json.dumps([str(device), torch.get_num_threads(), variables]))
print(json.dumps([torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()]))
print("torch._dynamo" in sys.modules)
"""


def test_the_machine_is_set_up_as_asked_whatever_the_environment_holds(root):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(src=str(root / "src"))],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    place, strict, compiler = done.stdout.splitlines()
    assert json.loads(place) == ["cpu", 3, ["3", "3", "3"]]
    assert json.loads(strict) == [True, False]  # the CPU repeats its bytes whatever is asked; no mere warnings
    assert compiler == "False"  # its import would cost a second


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(
        UserError, match=rf"compute\.device \({device}\) must be a device of this machine.*; set it to auto or cpu"
    ):
        set_up(device, 1)
    assert not has_device(device)
    assert has_device("cpu")
    assert has_device("auto")


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("deterministic", [True, False])
def test_on_a_gpu_algorithms_are_strictly_deterministic_or_the_fastest(deterministic, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", deterministic)
    assert set_up("auto", torch.get_num_threads(), deterministic) == torch.device("cuda")
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.backends.cudnn.benchmark == (not deterministic)


def test_a_placed_network_is_channels_last_and_computes_the_same():
    network = nn.Conv2d(8, 8, 3)
    x = torch.randn(2, 8, 5, 5)
    expected = network(x)
    assert to_device(network, torch.device("cpu")) is network
    assert network.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(network(x), expected, atol=1e-5, rtol=1e-5)


def test_on_other_devices_layouts_are_contiguous_but_for_batch_norm_on_cuda():
    grouped, batched = nn.Sequential(nn.Conv2d(8, 8, 3), nn.GroupNorm(2, 8)), nn.Sequential(nn.BatchNorm2d(8))
    cpu, cuda, mps = (torch.device(name) for name in ("cpu", "cuda", "mps"))
    layouts = {
        device: [compute._layout(network, device) for network in (grouped, batched)] for device in (cpu, cuda, mps)
    }
    last, contiguous = torch.channels_last, torch.contiguous_format
    assert layouts == {cpu: [last, last], cuda: [contiguous, last], mps: [contiguous, contiguous]}
    assert channels_last(torch.randn(2, 8, 5, 5)).is_contiguous(memory_format=torch.channels_last)
