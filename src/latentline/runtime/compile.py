"""Compilation of networks (torch.compile; Ansel et al., ASPLOS 2024), in place, for a block of code."""

import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from latentline.core.errors import UserError

_SMALL = 32_000_000  # weights; below, a GPU starts kernels more slowly than it computes them


def require_compiler(enabled: bool, device: torch.device) -> None:
    """Refuse ``compute.compile`` (``enabled``) where there is nothing to compile with.

    Raises:
        UserError: there is no C++ compiler, or on CUDA no Triton.
    """
    if not enabled:
        return
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    for missing, found in (("a C++ compiler", shutil.which(compiler)), ("Triton", find_spec("triton"))):
        if not found and (device.type == "cuda" or missing != "Triton"):
            raise UserError(
                f"compute.compile (true) must be false without {missing}; install {missing}, or set it to false"
            )


def is_compiled(network: nn.Module) -> bool:
    """Return whether the network or a module of it is compiled; see :func:`compiled`."""
    return any(module._compiled_call_impl is not None for module in network.modules())


@contextmanager
def compiled(
    enabled: bool, device: torch.device, networks: Sequence[nn.Module], *, walks_graph_once: bool = True
) -> Iterator[None]:
    """Compile the forward pass of each network, and its backward pass, while the block runs.

    Networks keep their type and the names of their weights. Copies of them, such as averages, are not compiled. Each
    size of a batch has its own graph, so that results do not depend on the sizes that came before. Random numbers are
    those of a network that is not compiled.

    On CUDA, small networks run as CUDA graphs, which start all kernels at once. A CUDA graph writes gradients to the
    same memory each time, so a step may walk through it only once. What it computes without gradients is copied, since
    the next call of any graph overwrites it: guidance needs the outputs of two networks.

    Args:
        enabled: ``compute.compile``; False = do nothing.
        device: of the networks.
        networks: each becomes one graph; equal ones share it.
        walks_graph_once: False = a step may walk back through the same graph again, as gradient accumulation and
            adversarial training do.
    """
    if not enabled:
        yield
        return
    import torch._functorch.config

    # Tracing reads this attribute of every input, also of one that an earlier graph computed.
    warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf Tensor")
    warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")  # a choice: precision

    weights = sum(parameter.numel() for network in networks for parameter in network.parameters())
    graphs = device.type == "cuda" and walks_graph_once and weights < _SMALL
    options: dict[str, str | int | bool] = {"fallback_random": True, "triton.cudagraphs": graphs}
    for network in networks:
        network.compile(dynamic=False, options=options)
        if graphs and network._compiled_call_impl:
            network._compiled_call_impl = _copied(network._compiled_call_impl)
    try:
        # A donated buffer is overwritten by the first walk.
        with torch._functorch.config.patch(donated_buffer=walks_graph_once):
            yield
    finally:
        for network in networks:
            network._compiled_call_impl = None


def _copied(call: Callable[..., Any]) -> Callable[..., Any]:
    def compute(*args: Any, **kwargs: Any) -> Any:
        # A frozen network has none in a training, either.
        return tree_map_only(Tensor, lambda part: part if part.requires_grad else part.clone(), call(*args, **kwargs))

    return compute
