"""Sharded weights, by torch's fully_shard.

See Rajbhandari et al., arXiv 1910.02054, stage 3, and Zhao et al., arXiv 2304.11277.

Each rank holds a shard of every weight. A block's weights are gathered while it computes, and freed afterwards. Its
gradients are summed and sharded right after its last backward pass of a step.
"""

import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeGuard, cast

import torch
from torch import Tensor, nn

from latentline.runtime.parallel import Ranks

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

_LISTS = (nn.ModuleList, nn.Sequential)
_FORWARD_METHODS = ("loss",)  # besides ``forward``; a training may call a network by them


def shard(module: nn.Module, ranks: Ranks, param_dtype: torch.dtype | None = None) -> None:
    """Shard the weights of ``module``, the same on all ranks before, in place and for good.

    Gradients become sums over all ranks. Each rank must run the forward and the backward pass equally often.

    Args:
        module: the network.
        ranks: the processes that hold a shard each.
        param_dtype: type in which weights are gathered and compute, such as bfloat16 within its autocast; None = their
            own. Shards stay float32 and gradients are summed in float32 (Micikevicius et al., arXiv 1710.03740).
            Inputs are not cast, since times must stay float32.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import (  # imports that take a second, needed by these runs alone
        MixedPrecisionPolicy,
        fully_shard,
        register_fsdp_forward_method,
    )

    warnings.filterwarnings(
        "ignore", message="FSDP2-wrapped module .* returned a view"
    )  # cropped maps, never changed in place
    mesh = init_device_mesh(torch.device(ranks.device).type, (ranks.count,))
    module.to(memory_format=torch.contiguous_format)  # no other layout can be sharded
    reduce_dtype = None if param_dtype is None else torch.float32
    policy = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype, cast_forward_inputs=False)
    for unit in [*_blocks(module), module]:
        sharded = fully_shard(unit, mesh=mesh, mp_policy=policy)
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(
            True
        )  # else NCCL is asked to multiply by the factor, which few network cards can
    for name in _FORWARD_METHODS:
        if hasattr(module, name):
            register_fsdp_forward_method(module, name)


def sum_gradients_after_backward(module: nn.Module, enabled: bool) -> None:
    """Set whether the next backward pass of a sharded ``module`` sums and shards the gradients.

    Until one does, each rank holds its own whole gradients of all passes.
    """
    cast("FSDPModule", module).set_requires_gradient_sync(enabled)


def shard_like(whole: Tensor, like: Tensor) -> Tensor:
    """Return this rank's shard of ``whole``, sharded like ``like``.

    Where ``like`` is no DTensor, return a copy of ``whole`` in the memory layout of ``like``.
    """
    if is_sharded(like):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(whole.detach().to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return torch.empty_like(like).copy_(whole)


def full_tensor(tensor: Tensor) -> Tensor:
    """Return a sharded tensor whole, and any other as it is. All ranks must call this."""
    return tensor.full_tensor().detach() if is_sharded(tensor) else tensor


def gather_to_rank0(tensor: Tensor) -> Tensor:
    """Return a sharded tensor whole on rank 0's CPU and empty on other ranks, and any other tensor as it is.

    All ranks must call this.
    """
    if not is_sharded(tensor):
        return tensor
    whole = full_tensor(tensor)
    return whole.cpu() if tensor.device_mesh.get_rank() == 0 else whole.new_empty(0)


def is_sharded(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Return whether a tensor is sharded over ranks."""
    loaded = sys.modules.get("torch.distributed.tensor")  # not loaded = no tensor is sharded
    return loaded is not None and isinstance(tensor, loaded.DTensor)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield what is gathered at once: each entry of an outermost list of modules. The root gathers the rest."""
    for child in module.children():
        if isinstance(child, _LISTS):
            yield from (entry for entry in child if next(entry.parameters(), None) is not None)
        else:
            yield from _blocks(child)
