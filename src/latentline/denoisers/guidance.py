"""Classifier-free guidance (Ho and Salimans, arXiv 2207.12598)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.core.condition import Condition, concatenate
from latentline.diffusion.process import DenoiserModel, Network, Process


@dataclass(frozen=True)
class Guidance:
    """Settings of classifier-free guidance.

    Args:
        scale: w of uncond + w * (cond - uncond); 1 = off, 0 = unconditional.
        start: smallest t that is guided.
        end: largest t that is guided. Guidance hurts near noise and is wasted near data (Kynkaanniemi et al., arXiv
            2404.07724). Outside [start, end] only the conditional half is evaluated.
        rescale: phi in [0, 1], from no rescaling to the conditional output's standard deviation (Lin et al., arXiv
            2305.08891, eq. 15 and 16).
    """

    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0
    rescale: float = 0.0

    def covers(self, t: Tensor) -> Tensor:
        """Return which of the times (B,) are guided, in float32, so that a network's times and a grid's agree."""
        start, end = torch.tensor([self.start, self.end])
        return (t.float() >= start) & (t.float() <= end)

    def evaluations(self, times: Tensor) -> int:
        """Return the network forwards per image for one evaluation of the model at each of ``times`` (N,)."""
        halves = 1 if self.scale in (0, 1) else 2
        return int(torch.where(self.covers(times), halves, 1).sum())


def guided_model(network: Network, process: Process, condition: Condition, guidance: Guidance) -> DenoiserModel:
    """Return the network conditioned on ``condition`` of B examples, and guided away from the null condition."""
    null = condition.null()
    both = concatenate([condition, null])  # 2B examples

    def output(z_t: Tensor, t: Tensor) -> Tensor:
        inside = guidance.covers(t)  # (B,)
        if guidance.scale == 1 or not inside.any():
            return network(z_t, t, condition)
        if guidance.scale == 0 and inside.all():
            return network(z_t, t, null)
        cond, uncond = network(torch.cat([z_t, z_t]), torch.cat([t, t]), both).chunk(2)
        guided = guided_output(cond, uncond, guidance.scale, guidance.rescale)
        return torch.where(inside.reshape(-1, *(1,) * (z_t.ndim - 1)), guided, cond)

    return DenoiserModel(process, output)


def guided_output(cond: Tensor, uncond: Tensor, scale: float, rescale: float) -> Tensor:
    """Return the guided output (B, ...) of the two outputs.

    It holds for every prediction, because all are linear in one another at fixed z_t and t.
    """
    guided = uncond + scale * (cond - uncond)  # arXiv 2207.12598, eq. 6, with scale = 1 + w
    if rescale == 0:
        return guided
    axes = tuple(range(1, cond.ndim))
    factor = cond.std(axes, keepdim=True) / guided.std(axes, keepdim=True)  # (B, 1, ...); arXiv 2305.08891, eq. 15
    return rescale * (guided * factor) + (1 - rescale) * guided  # eq. 16
