"""Floating-point operations of a training step, counted while it is computed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop, sdpa_flop

from latentline.runtime.compile import is_compiled
from latentline.runtime.compute import reset_peak_memory
from latentline.training.state import TrainedModule

_FORMULAS: dict[Any, Callable[..., int]] = {
    **flop_registry,  # by torch; of attention, those of GPUs alone
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: sdpa_backward_flop,
}


class FlopCounter(TorchDispatchMode):
    """Count the FLOPs of matrix products, convolutions and attention within a block, by torch's formulas.

    Torch's own FlopCounterMode replaces some operations by others, such as SiLU's gradient, which changes last digits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the operation ``func`` and add its FLOPs."""
        result = func(*args, **(kwargs or {}))
        if formula := _FORMULAS.get(getattr(func, "_overloadpacket", None)):
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


class StepFlops:
    """FLOPs of a step of each network on this rank, forward and backward, what checkpointing repeats included."""

    def __init__(self) -> None:
        self._of: dict[nn.Module, int] = {}

    def __getitem__(self, network: nn.Module) -> int:
        """Return the FLOPs of a step of ``network``, once one is counted."""
        return self._of[network]

    @contextmanager
    def counted(self, module: TrainedModule, step: int) -> Iterator[None]:
        """Count within the block, the forward and backward passes of ``step``, unless a step is counted already.

        A compiled graph is no series of operations that could be counted. Such a training computes the passes of its
        first step twice: first not compiled, to count them.
        """
        if module.network in self._of:
            yield
        elif is_compiled(module.network):
            self._of[module.network] = _count_apart(module, step)
            yield
        else:
            with FlopCounter() as counter:
                yield
            self._of[module.network] = counter.total


def _count_apart(module: TrainedModule, step: int) -> int:
    """Count the FLOPs of ``step`` and restore what it changes: gradients, buffers, random numbers, peak of memory."""
    buffers = [(buffer, buffer.clone()) for buffer in module.network.buffers()]
    with torch.random.fork_rng(devices=[]), torch.compiler.set_stance("force_eager"), FlopCounter() as counter:
        for _ in module.micro_batches(step):
            pass
        module.gradients.finish()
    module.optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    reset_peak_memory(module.device)
    return counter.total
