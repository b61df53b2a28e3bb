"""Settings of the optimizer, of its learning rate and of the training's number format."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from latentline.runtime.precision import Precision
from latentline.training.muon import Muon
from latentline.training.schedule import stable_steps, warmup_cosine, warmup_milestones, warmup_stable_decay


@dataclass(frozen=True)
class Optimizer:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) or Muon, and its schedule; fields as in training/params.py."""

    lr: float
    weight_decay: float
    warmup_steps: int
    decay_fraction: float
    clip_norm: float
    schedule: str = "warmup_stable_decay"
    milestones: Sequence[int] = ()
    gamma: float = 0.2
    betas: Sequence[float] = (0.9, 0.99)
    precision: Precision = "float32"
    by_muon: Callable[[str, nn.Parameter], bool] | None = None
    """Name and parameter -> whether Muon moves it, not AdamW; None = AdamW moves all."""

    def of(self, network: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer of the network's weights."""
        beta1, beta2 = self.betas
        if self.by_muon is None:
            return torch.optim.AdamW(
                network.parameters(), lr=self.lr, betas=(beta1, beta2), weight_decay=self.weight_decay, fused=True
            )
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in network.named_parameters():
            (matrices if self.by_muon(name, parameter) else others).append(parameter)
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        return Muon(matrices, others, self.lr, (beta1, beta2), self.weight_decay, dtype)

    def rate(self, step: int, total_steps: int, steps_per_epoch: int) -> float:
        """Return the learning rate at ``step``, counted from 0."""
        if self.schedule == "warmup_stable_decay":
            return self.lr * warmup_stable_decay(step, total_steps, self.warmup_steps, self.decay_fraction)
        if self.schedule == "cosine":
            return self.lr * warmup_cosine(step, total_steps, self.warmup_steps)
        if self.schedule == "milestones":
            return self.lr * warmup_milestones(step, steps_per_epoch, self.warmup_steps, self.milestones, self.gamma)
        raise ValueError(f"unknown schedule {self.schedule!r}")

    def schedule_invariant_steps(self, total_steps: int) -> int:
        """Return how many first steps have a learning rate that does not depend on ``total_steps``.

        A longer run begins with the same steps.
        """
        if self.schedule == "warmup_stable_decay":
            return stable_steps(total_steps, self.decay_fraction)
        return total_steps if self.schedule == "milestones" else 0
