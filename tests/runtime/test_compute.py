"""Threads, determinism and memory layout are as the settings ask, whatever the environment holds."""

import json
import subprocess
import sys

import torch
from torch import nn

from latentline.runtime.compute import to_device

PROGRAM = """
import json, os, sys
sys.path.insert(0, {src!r})
import torch
from latentline.runtime.compute import set_up
device = set_up("cpu", 3)
variables = [os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")]
print(json.dumps([str(device), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), variables]))
"""


def test_the_machine_is_set_up_as_asked_whatever_the_environment_holds(root):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(src=str(root / "src"))],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout) == ["cpu", 3, True, ["3", "3", "3"]]


def test_a_placed_network_is_channels_last_and_computes_the_same():
    network = nn.Conv2d(8, 8, 3)
    x = torch.randn(2, 8, 5, 5)
    expected = network(x)
    assert to_device(network, torch.device("cpu")) is network
    assert network.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(network(x), expected, atol=1e-5, rtol=1e-5)
