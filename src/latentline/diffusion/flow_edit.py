"""FlowEdit (Kulikov et al., arXiv 2412.08629): the way from data under one condition to data under another."""

import torch
from torch import Tensor

from latentline.diffusion.path import add_noise_at
from latentline.diffusion.process import DenoiserModel
from latentline.diffusion.steps import NoiseFn, integrate
from latentline.diffusion.time_grid import time_grid


def flow_edit(
    source: DenoiserModel,
    target: DenoiserModel,
    z0: Tensor,
    noise_fn: NoiseFn,
    *,
    start: float = 0.9,
    steps: int = 8,
    strength: float = 1.0,
) -> Tensor:
    """Return what to add to ``z0`` (B, ...) so that it fits the target's condition instead of the source's: (B, ...).

    It integrates the difference of both velocities from ``start`` to 0 (algorithm 1 with one noise per step). The
    source sees ``z0`` with noise, and the target sees the same plus what has been added so far. This is defined on
    every noise path, since the velocity is the right side of the path's own ODE.

    Args:
        source: the network under the condition that describes ``z0``.
        target: the same network under the wanted condition.
        z0: (B, ...).
        noise_fn: noise of each step.
        start: in (0, 1]. The larger, the more the edit may change the layout.
        steps: from ``start`` to 0, with one evaluation of each model.
        strength: factor of the difference; 0 = no edit, below 0 = away from the target.
    """

    def step(index: int, moved: Tensor, now: float, after: float) -> Tensor:
        z_t = add_noise_at(source.path, z0, noise_fn(index), now)
        difference = target.predict_at(z_t + moved, now).velocity - source.predict_at(z_t, now).velocity
        return moved + strength * (after - now) * difference

    return integrate(step, torch.zeros_like(z0), start * time_grid(steps), None)
