"""Exact log likelihood by the probability flow (Song et al., arXiv 2011.13456, section 4.3)."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from latentline.diffusion.path import increments
from latentline.diffusion.process import DenoiserModel


def gaussian_log_density(z: Tensor) -> Tensor:
    """Return the log density of N(0, I) in nats: (B, ...) -> (B,)."""
    return -0.5 * (z.square() + math.log(2 * math.pi)).flatten(1).sum(dim=1)


def log_likelihood(model: DenoiserModel, z0: Tensor, times: Tensor, probes: Tensor | None = None) -> Tensor:
    """Return the log density of z0 in nats, by Heun's steps from data to noise (appendix D.2, eq. 39).

    log p_0(z0) = log N(z_1; 0, I) + the divergence of the flow, integrated from t = 0 to 1.

    Args:
        model: the network, without guidance: a guided flow has no density of its own.
        z0: standardised latents (B, ...), D values each.
        times: (K + 1,), a sampling grid, from 1 to 0.
        probes: (P, B, ...), independent random signs for Hutchinson's unbiased estimate of the divergence (eq. 40),
            with P backward passes per evaluation; None = exact, with D backward passes.

    Returns:
        (B,).
    """
    grid = times.flip(0).tolist()
    z, divergence = z0, z0.new_zeros(len(z0))
    for now, after in pairwise(grid):
        d_alpha, d_sigma = increments(model.path.at_time(now), model.path.at_time(after))
        move, spread = _move(model, z, now, d_alpha, d_sigma, probes)
        move_after, spread_after = _move(model, z + move, after, d_alpha, d_sigma, probes)
        z = z + (move + move_after) / 2
        divergence = divergence + (spread + spread_after) / 2
    return gaussian_log_density(z) + divergence


def _move(
    model: DenoiserModel, z: Tensor, time: float, d_alpha: Tensor, d_sigma: Tensor, probes: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the step z0 d(alpha) + noise d(sigma) as estimated at z (B, ...), and its divergence (B,)."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        here = model.predict_at(z, time)
        move = d_alpha * here.z0 + d_sigma * here.noise
        if probes is None:
            return move.detach(), _trace(move, z)
        along = [torch.autograd.grad(move, z, probe, retain_graph=True)[0] * probe for probe in probes]
    return move.detach(), torch.stack(along).flatten(2).sum(dim=2).mean(dim=0)  # (P, B, D) -> (B,)


def _trace(move: Tensor, z: Tensor) -> Tensor:
    """Return the trace of d move / d z (B,), by D backward passes; one pass serves all rows, which are independent."""
    values = move.flatten(1).sum(dim=0)  # (D,)
    rows = [
        torch.autograd.grad(value, z, retain_graph=True)[0].flatten(1)[:, index] for index, value in enumerate(values)
    ]
    return torch.stack(rows).sum(dim=0)
