"""The training objective: regress the velocity at random times."""

from collections.abc import Callable

import torch
from torch import Tensor

from latentline.diffusion.path import add_noise, flow_path, velocity

Network = Callable[[Tensor, Tensor, Tensor], Tensor]
"""net(z_t (B, ...), t (B,), condition (B, F)) -> prediction (B, ...)."""


def draw_times(count: int, kind: str, generator: torch.Generator) -> Tensor:
    """Times (count,) in (0, 1), stratified: one per equal slice of probability, which lowers the variance of the loss.

    Args:
        count: B.
        kind: ``uniform``, or ``logit_normal``: the logistic of a standard normal (Esser et al., arXiv 2403.03206, eq. 19).
        generator: on the CPU.
    """
    strata = (torch.arange(count) + torch.rand(count, generator=generator)) / count  # (B,) in [0, 1)
    u = strata[torch.randperm(count, generator=generator)]
    if kind == "uniform":
        return u
    if kind == "logit_normal":
        return torch.special.ndtri(u.clamp(1e-6, 1 - 1e-6)).sigmoid()
    raise ValueError(f"unknown time sampling {kind!r}")


def velocity_loss(network: Network, z0: Tensor, condition: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of the predicted velocity, per example (Liu et al., arXiv 2209.03003, eq. 1).

    Args:
        network: predicts the velocity.
        z0: clean standardised latents (B, ...).
        condition: (B, F).
        t: (B,).
        noise: (B, ...) standard normal.

    Returns:
        (B,).
    """
    point = flow_path(t)
    predicted = network(add_noise(z0, noise, point), t, condition)
    return (predicted - velocity(z0, noise, point)).square().flatten(1).mean(dim=1)
