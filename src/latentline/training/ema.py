"""Exponential moving average of weights, with warm-up."""

import copy
import math

import torch
from torch import Tensor, nn

from latentline.runtime.compute import channels_last
from latentline.runtime.sharding import full_tensor, shard_like


class Ema:
    """Averaged copy of a network, for sampling.

    The decay is min(decay, (1 + n) / (10 + n)) at update n, as in TensorFlow's ExponentialMovingAverage. So the random
    beginning of a short run is soon forgotten.

    Args:
        model: the network that trains. It must stay on its device, since its tensors are referenced.
        decay: per step, in [0, 1).
        steps: training steps after which the average stays as it is; None = it never does.
    """

    def __init__(self, model: nn.Module, decay: float, steps: int | None = None) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self._steps = math.inf if steps is None else steps
        # Listed once: walking a small network's modules takes longer than averaging its weights.
        self._averaged: tuple[Tensor, ...] = tuple(self.model.parameters())
        self._current = tuple(model.parameters())
        self._buffers, self._current_buffers = tuple(self.model.buffers()), tuple(model.buffers())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the network's weights after training step ``step``, counted from 0; copy its buffers."""
        if step >= self._steps:
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averaged, self._current, 1 - decay)
        for own, current in zip(self._buffers, self._current_buffers, strict=True):
            own.copy_(current)

    def tensors(self) -> dict[str, Tensor]:
        """Return the averaged weights and the saved buffers by name; not copies."""
        weights = zip((name for name, _ in self.model.named_parameters()), self._averaged, strict=True)
        return {**self.model.state_dict(), **dict(weights)}

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Copy in what :meth:`tensors` returned, each tensor whole."""
        for name, own in self.tensors().items():
            own.copy_(shard_like(tensors[name], own))

    def shard(self, model: nn.Module) -> None:
        """Shard the averages like ``model``, which has just been sharded. :meth:`gather` fills ``self.model``."""
        self._current = tuple(model.parameters())
        self._averaged = tuple(
            shard_like(whole, current) for whole, current in zip(self._averaged, self._current, strict=True)
        )
        self.release()

    def gather(self, *, keep: bool) -> None:
        """Put whole averages into ``self.model`` on the ranks with ``keep``. All ranks must call this."""
        for parameter, averaged in zip(self.model.parameters(), self._averaged, strict=True):
            whole = full_tensor(averaged)
            if keep:
                parameter.data = channels_last(whole)

    def release(self) -> None:
        """Free what :meth:`gather` put there."""
        for parameter in self.model.parameters():
            parameter.data = parameter.data.new_empty(0)
