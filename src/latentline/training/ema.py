"""Exponential moving average of weights, with warm-up."""

import copy

import torch
from torch import nn


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
        self._averaged, self._current = tuple(self.model.parameters()), tuple(model.parameters())
        self._kept, self._latest = tuple(self.model.buffers()), tuple(model.buffers())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the network after training step ``step``, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averaged, self._current, 1 - decay)
        for kept, latest in zip(self._kept, self._latest, strict=True):
            kept.copy_(latest)
