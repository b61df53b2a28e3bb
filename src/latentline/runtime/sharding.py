"""Weights of which each process holds a part, by torch's fully_shard (Rajbhandari et al., arXiv 1910.02054, stage 3; Zhao et al., arXiv 2304.11277).

A block's weights are gathered where it computes, and let go; its gradients are added up and divided right after its backward pass.
"""

import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor, nn

from latentline.runtime.parallel import Ranks

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

_LISTS = (nn.ModuleList, nn.Sequential)
_OTHER_WAYS_IN = ("loss",)  # methods besides ``forward`` by which a training may call a network


def shard(module: nn.Module, ranks: Ranks) -> None:
    """Divide the weights of ``module`` among the processes, in place and for good; all of them hold the same before.

    Gradients become the sums over all processes. Each must call the network as often as the others, and backwards too.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import (  # a second to import, which no other run needs
        fully_shard,
        register_fsdp_forward_method,
    )

    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")  # cropped maps, which nobody changes in place
    mesh = init_device_mesh(torch.device(ranks.device).type, (ranks.count,))
    module.to(memory_format=torch.contiguous_format)  # no other layout can be divided
    for unit in [*_blocks(module), module]:
        divided = fully_shard(unit, mesh=mesh)
        divided.set_gradient_divide_factor(1.0)
        divided.set_force_sum_reduction_for_comms(True)  # a factor would else ask the network card to multiply, which few can
    for name in _OTHER_WAYS_IN:
        if hasattr(module, name):
            register_fsdp_forward_method(module, name)


def cut(whole: Tensor, like: Tensor) -> Tensor:
    """Of ``whole``, which every process has, what it is to hold: a part divided as ``like`` is; else a copy in the layout of ``like``."""
    if _is_divided(like):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(whole.detach().to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return torch.empty_like(like).copy_(whole)


def joined(tensor: Tensor) -> Tensor:
    """A tensor whose parts the processes hold, whole; any other as it is. To be called by all of them."""
    return tensor.full_tensor().detach() if _is_divided(tensor) else tensor


def joined_by_first(tensor: Tensor) -> Tensor:
    """As :func:`joined`, but on the CPU and for the first process alone: others get nothing of a divided tensor."""
    if not _is_divided(tensor):
        return tensor
    whole = joined(tensor)
    return whole.cpu() if tensor.device_mesh.get_rank() == 0 else whole.new_empty(0)


def _is_divided(tensor: Tensor) -> "TypeGuard[DTensor]":
    loaded = sys.modules.get("torch.distributed.tensor")  # without it there are none
    return loaded is not None and isinstance(tensor, loaded.DTensor)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """What is gathered at once: each entry of a list of modules that is in no such list itself. What is left is the root's."""
    for child in module.children():
        if isinstance(child, _LISTS):
            yield from (entry for entry in child if next(entry.parameters(), None) is not None)
        else:
            yield from _blocks(child)
