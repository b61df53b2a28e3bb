"""What exponential integrators share: one step in lambda = log(alpha / sigma), and the guess of z0 along it.

Divided by sigma, the ODE dz = z0 d(alpha) + noise d(sigma) loses its noise term: d(z / sigma) = z0 d(alpha / sigma). Only z0 has to be
guessed between evaluations; the rest is exact, however fast the noise level falls.
"""

from dataclasses import dataclass

from torch import Tensor

from latentline.diffusion.path import PathPoint


@dataclass(frozen=True)
class Evaluation:
    """What the network said of z0 (B, ...), and where."""

    z0: Tensor
    point: PathPoint


def z0_weight(now: PathPoint, after: PathPoint) -> Tensor:
    """alpha_after (1 - e^-h), h = lambda_after - lambda_now: written so that it is finite at t = 1 (alpha = 0) and t = 0 (sigma = 0)."""
    return after.alpha - after.sigma * now.alpha / now.sigma


def exponential_step(z: Tensor, z0: Tensor, now: PathPoint, after: PathPoint) -> Tensor:
    """The state (B, ...) at ``after`` if the network says ``z0`` all along (Lu et al., arXiv 2211.01095, proposition 4.1)."""
    return after.sigma / now.sigma * z + z0_weight(now, after) * z0


def extrapolate(before: Evaluation | None, here: Evaluation, after: PathPoint) -> Tensor:
    """z0 (B, ...) half-way to ``after`` in lambda, on the line through the last two evaluations (arXiv 2211.01095, algorithm 2).

    The last evaluation itself where there is only one, and for the step to t = 0, which is infinitely long in lambda. A step from alpha = 0
    is infinitely long too: the line through its ends is level, and so is the guess.
    """
    if before is None or after.sigma == 0:
        return here.z0
    ratio = (here.point.log_snr - before.point.log_snr) / (after.log_snr - here.point.log_snr)
    return here.z0 + (here.z0 - before.z0) / (2 * ratio)
