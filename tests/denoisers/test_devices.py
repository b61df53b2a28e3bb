"""Every denoiser runs on every device and in every precision: its operators have MPS kernels, and it can be cast."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torchgen
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from latentline.core.condition import Condition
from latentline.denoisers.build import build_denoiser
from latentline.diffusion.objective import denoising_loss
from latentline.diffusion.process import build_process

MAP, VECTOR = [3, 5, 6], [12]
NEWER = {"norm": "rms", "mlp": "swiglu", "rope": True, "qk_norm": True, "time_features": 32, "learn_sigma": True}
UNET = {"channels": [16, 16], "blocks": 1, "attention_levels": [1], "patch_size": 2}
GAUSSIAN = {"classes": 2, "rank": 4, "path": "flow", "prediction": "velocity"}
DENOISERS: dict[str, tuple[str, list[int], dict[str, Any]]] = {  # name, shape of the latents, settings
    "unet": ("unet", MAP, UNET),
    "gaussian": ("unet", MAP, {**UNET, "gaussian": GAUSSIAN}),
    "dit": ("dit", MAP, {"width": 32, "depth": 2, "heads": 2, "patch_size": 2}),
    "dit_newer": ("dit", MAP, {"width": 32, "depth": 2, "heads": 2, "patch_size": 2, **NEWER}),
    "mlp": ("mlp", VECTOR, {"width": 32, "depth": 2}),
}
# Torch chooses these by the device: on MPS it calls another operator in their place.
OF_THE_CPU = {"_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention_for_cpu_backward"}
each_denoiser = pytest.mark.parametrize("kind", DENOISERS)


class Operators(TorchDispatchMode):
    """Names of the operators that are called inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@cache
def without_mps_kernel() -> set[str]:
    """Return the operators of the installed torch that have kernels for single devices, but none for MPS.

    Torch's own list of operators lies in its code generator. In-place and out variants count as the same operator.
    """
    text = (Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml").read_text()
    devices: dict[str, set[str]] = {}
    for entry in text.split("\n- func: ")[1:]:
        name = re.match(r"\w+?(?=_?[.(])", entry)[0]
        dispatch = re.search(r"\n  dispatch:\n((?:    .*\n?)+)", entry)
        keys = re.findall(r"^    ([\w, ]+):", dispatch[1], re.MULTILINE) if dispatch else []
        devices.setdefault(name, set()).update(key.strip() for line in keys for key in line.split(","))
    return {name for name, keys in devices.items() if "CPU" in keys and "MPS" not in keys}


def _network(kind: str) -> torch.nn.Module:
    name, shape, settings = DENOISERS[kind]
    return build_denoiser(name, latent_shape=shape, cond_dim=4, **settings)


def _inputs(kind: str, count: int = 3) -> tuple[Tensor, Tensor, Condition]:
    return torch.randn(count, *DENOISERS[kind][1]), torch.rand(count), Condition(torch.randn(count, 4))


@each_denoiser
def test_every_operator_of_a_training_step_has_an_mps_kernel(kind):
    """``logspace`` has none: frequencies are computed when the network is built, on the CPU."""
    assert "logspace" in without_mps_kernel()
    network, process = _network(kind), build_process("flow", "velocity")
    z, t, condition = _inputs(kind)
    with Operators() as called:
        denoising_loss(network, process, z, condition, t, torch.randn_like(z)).mean().backward()
    assert {"mm", "add", "cat"} <= called.names
    assert called.names & without_mps_kernel() - OF_THE_CPU == set()


@each_denoiser
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.01), (torch.float16, 0.002)])
def test_a_network_that_is_cast_whole_predicts_about_the_same(awake, kind, dtype, tolerance):
    """The root mean square difference is within 1 % (bfloat16) or 0.2 % (float16) of the prediction's."""
    network, inputs = awake(_network(kind)), _inputs(kind)
    expected = network(*inputs)
    predicted = network.to(dtype)(*inputs)
    assert {tensor.dtype for tensor in network.state_dict().values()} == {dtype}
    assert predicted.dtype == torch.float32
    assert (predicted - expected).square().mean() <= tolerance**2 * expected.square().mean()
    assert not torch.equal(predicted, expected)
