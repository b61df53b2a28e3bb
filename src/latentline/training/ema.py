"""Exponential moving average of weights, with warm-up."""

import copy

import torch
from torch import Tensor, nn

from latentline.runtime.compute import fast_layout
from latentline.runtime.sharding import cut, joined


class Ema:
    """Averaged copy of a network: what sampling uses.

    The decay is min(decay, (1 + n) / (10 + n)) at update n (as in TensorFlow's ExponentialMovingAverage), so that a short run
    does not drag its random beginning along.

    Args:
        model: the network that trains; it is followed where it is, so it must stay on its device.
        decay: per step, below 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        # Listed once: to walk a small network's modules takes longer than to average its weights.
        self._averaged: tuple[Tensor, ...] = tuple(self.model.parameters())
        self._current = tuple(model.parameters())
        self._kept, self._latest = tuple(self.model.buffers()), tuple(model.buffers())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the network after training step ``step``, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averaged, self._current, 1 - decay)
        for kept, latest in zip(self._kept, self._latest, strict=True):
            kept.copy_(latest)

    def tensors(self) -> dict[str, Tensor]:
        """The averaged weights, and the buffers that are saved, by name: the very tensors."""
        weights = zip((name for name, _ in self.model.named_parameters()), self._averaged, strict=True)
        return {**self.model.state_dict(), **dict(weights)}

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Become what :meth:`tensors` gave, each whole."""
        for name, own in self.tensors().items():
            own.copy_(cut(tensors[name], own))

    def shard(self, model: nn.Module) -> None:
        """Follow ``model``, which has been divided among processes, with averages divided alike; :meth:`join` brings them into ``self.model``."""
        self._current = tuple(model.parameters())
        self._averaged = tuple(cut(whole, current) for whole, current in zip(self._averaged, self._current, strict=True))
        self.release()

    def join(self, *, keep: bool) -> None:
        """Put whole averages into ``self.model`` of the processes that are to ``keep`` them; to be called by all."""
        for parameter, averaged in zip(self.model.parameters(), self._averaged, strict=True):
            whole = joined(averaged)
            if keep:
                parameter.data = fast_layout(whole)

    def release(self) -> None:
        """Let go what :meth:`join` put there."""
        for parameter in self.model.parameters():
            parameter.data = parameter.data.new_empty(0)
