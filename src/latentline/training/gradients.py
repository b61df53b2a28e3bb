"""Gradients summed over all ranks while the rest of them is computed."""

from collections.abc import Callable
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from latentline.runtime.parallel import Ranks
from latentline.runtime.sharding import sum_gradients_after_backward

_BUCKET_BYTES = 25 << 20  # of Li et al.'s DistributedDataParallel


class GradientBuckets:
    """Sum the gradients of a network over all ranks, in buckets that overlap the last backward pass of a step.

    See Li et al., arXiv 2006.15704, section 3.2. Buckets are filled in reverse order of the parameters, about the order
    in which their gradients are computed. A bucket is sent once its gradients are complete and the buckets before it
    are sent, so that all ranks send the same messages in the same order. Gradients become views of their bucket, so a
    second copy exists of one bucket at most.

    A parameter may have no gradient in a step, but then it must have none on any rank. Under FSDP the weights' own
    hooks reduce; this class only decides after which backward pass. With one process it does nothing.

    Args:
        network: the network that trains; under FSDP it is sharded.
        ranks: the processes that share each batch.
        micro_batches: backward passes of a step on each rank.
        bucket_bytes: size from which a bucket is full.
    """

    def __init__(
        self, network: nn.Module, ranks: Ranks, micro_batches: int = 1, bucket_bytes: int = _BUCKET_BYTES
    ) -> None:
        self._network, self._ranks, self._micro_batches = network, ranks, micro_batches
        self._buckets = [] if ranks.count == 1 or ranks.sharded else _buckets(network, bucket_bytes)
        self._bucket_of: dict[Tensor, int] = {
            parameter: index for index, bucket in enumerate(self._buckets) for parameter in bucket
        }
        self._missing: list[int] = []  # gradients that each bucket still waits for
        self._sent: list[Callable[[], None]] = []  # what waits for each sent bucket, in order
        self._hooks: list[RemovableHandle] = []
        self._passes = 0  # begun in this step

    def begin_backward(self) -> None:
        """Prepare for the next backward pass; during the last one of a step buckets are sent.

        Raises:
            ValueError: the step has more passes than ``micro_batches``.
        """
        self._passes += 1
        if self._ranks.count == 1:
            return
        if self._passes > self._micro_batches:
            raise ValueError(f"a step has more than {self._micro_batches} micro-batches")
        is_last = self._passes == self._micro_batches
        if self._ranks.sharded:
            sum_gradients_after_backward(self._network, is_last)
        elif is_last:
            self._missing = list(map(len, self._buckets))
            # Only for this pass: networks that are compiled must not have hooks in their forward pass.
            self._hooks = [parameter.register_post_accumulate_grad_hook(self._count) for parameter in self._bucket_of]

    def finish(self) -> None:
        """Send what is not sent yet and wait; the gradients are sums over all ranks afterwards.

        Raises:
            LostRankError: another process has ended.
            ValueError: the step had fewer passes than ``micro_batches``.
        """
        passes, self._passes = self._passes, 0
        if self._ranks.count == 1:
            return
        if passes < self._micro_batches:
            raise ValueError(f"a step has {passes} micro-batches, not {self._micro_batches}")
        while len(self._sent) < len(self._buckets):
            self._send()
        for wait in self._sent:
            wait()
        for hook in self._hooks:
            hook.remove()
        self._sent, self._hooks = [], []

    def _count(self, parameter: Tensor) -> None:
        """Note that the gradient of ``parameter`` is complete, and send the buckets that are."""
        self._missing[self._bucket_of[parameter]] -= 1
        while len(self._sent) < len(self._buckets) and self._missing[len(self._sent)] == 0:
            self._send()

    @torch.no_grad()
    def _send(self) -> None:
        """Copy the gradients of the next bucket into one tensor, let them be views of it, and begin to sum it."""
        gradients = {p: p.grad for p in self._buckets[len(self._sent)] if p.grad is not None}
        if not gradients:
            self._sent.append(lambda: None)
            return
        sizes = [parameter.numel() for parameter in gradients]
        flat = next(iter(gradients.values())).new_empty(sum(sizes))
        # In the parameters' own memory layout, since the fused optimizer walks both together.
        views = [
            part.as_strided(parameter.shape, parameter.stride(), part.storage_offset())
            for part, parameter in zip(flat.split(sizes), gradients, strict=True)
        ]
        torch._foreach_copy_(views, list(gradients.values()))
        for parameter, view in zip(gradients, views, strict=True):
            parameter.grad = view
        self._sent.append(self._ranks.begin_all_reduce(flat))


def _buckets(network: nn.Module, most_bytes: int) -> list[list[nn.Parameter]]:
    """Return the trained parameters in reverse order, in groups of one type and device and about ``most_bytes``."""
    buckets: list[list[nn.Parameter]] = []
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad][::-1]
    for _, alike in groupby(trained, key=lambda parameter: (parameter.dtype, parameter.device)):
        size = most_bytes
        for parameter in alike:
            if size >= most_bytes:
                buckets.append([])
                size = 0
            buckets[-1].append(parameter)
            size += parameter.nbytes
    return buckets
