"""Shared parts of exponential integrators: a step in lambda = log(alpha / sigma), and the estimate of z0 along it.

Divided by sigma, the ODE dz = z0 d(alpha) + noise d(sigma) loses its noise term: d(z / sigma) = z0 d(alpha / sigma).
Only z0 has to be estimated between evaluations. All else is exact, however fast the noise level falls.
"""

from dataclasses import dataclass

from torch import Tensor

from latentline.diffusion.path import Coefficients


@dataclass(frozen=True)
class Evaluation:
    """The network's estimate of z0 (B, ...), and the coefficients where it was made."""

    z0: Tensor
    point: Coefficients


def z0_weight(now: Coefficients, after: Coefficients) -> Tensor:
    """Return alpha_after (1 - e^-h), h = lambda_after - lambda_now, in a form finite at t = 1 and at t = 0.

    There alpha or sigma is 0.
    """
    return after.alpha - after.sigma * now.alpha / now.sigma


def exponential_step(z: Tensor, z0: Tensor, now: Coefficients, after: Coefficients) -> Tensor:
    """Return the state (B, ...) at ``after`` for a constant ``z0`` (Lu et al., arXiv 2211.01095, proposition 4.1)."""
    return after.sigma / now.sigma * z + z0_weight(now, after) * z0


def extrapolate(before: Evaluation | None, here: Evaluation, after: Coefficients, after_time: float) -> Tensor:
    """Return z0 (B, ...) half-way to ``after`` in lambda, on the line through the last two evaluations.

    This is algorithm 2 of arXiv 2211.01095. Without an earlier evaluation the result is the last one itself. The same
    holds for the step to t = 0, which is infinitely long in lambda. A step from alpha = 0 is infinitely long too, so
    the line through its ends is level.
    """
    if before is None or after_time == 0:
        return here.z0
    ratio = (here.point.log_snr - before.point.log_snr) / (after.log_snr - here.point.log_snr)
    return here.z0 + (here.z0 - before.z0) / (2 * ratio)
