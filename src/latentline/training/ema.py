"""Exponential moving average of weights, with warm-up."""

import copy

import torch
from torch import nn


class Ema:
    """Averaged copy of a network: what sampling uses.

    The decay is min(decay, (1 + n) / (10 + n)) at update n (as in TensorFlow's ExponentialMovingAverage), so that a short run
    does not drag its random beginning along.

    Args:
        model: the network that trains.
        decay: per step, below 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards ``model`` after training step ``step``, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for averaged, current in zip(self.model.parameters(), model.parameters(), strict=True):
            averaged.lerp_(current, 1 - decay)
        for kept, latest in zip(self.model.buffers(), model.buffers(), strict=True):
            kept.copy_(latest)
