"""UniPC-2, bh2 (Zhao et al., arXiv 2302.04867): the sampler for few evaluations.

The predictor is :mod:`dpmpp_2m`'s. Its error shows at the next evaluation, which has to be made anyway: the corrector then redoes the step
just made with that evaluation too, now interpolating where the predictor had to extrapolate. One order more for nothing but arithmetic.

Why this one: on mixtures of ten Gaussians in 16 dimensions with exact scores, at 6 to 10 evaluations on the uniform grid it lands nearest
to the ODE's solution on all three paths (straight path, 10 evaluations: distance 0.09, second-order Adams-Bashforth 0.11, dpmpp_2m and
heun 0.14, euler 0.21).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.diffusion.process import Model
from latentline.diffusion.samplers.exponential import Evaluation, exponential_step, extrapolate
from latentline.diffusion.samplers.steps import OnStep, walk


@dataclass(frozen=True)
class _Step:
    """A step just predicted: from the state ``z`` and the evaluation there, with the evaluation before it."""

    z: Tensor
    here: Evaluation
    before: Evaluation | None


def unipc(model: Model, z: Tensor, times: Tensor, on_step: OnStep | None = None) -> Tensor:
    """Integrate d(z / sigma) = z0 d(alpha / sigma) along falling ``times`` (see the package's docstring).

    ``on_step`` sees predicted states; the corrected ones are only known a step later.
    """
    last: _Step | None = None

    def step(_: int, z: Tensor, now: float, after: float) -> Tensor:
        nonlocal last
        here, end = Evaluation(model.at(z, now).z0, model.path.at(now)), model.path.at(after)
        if last is not None:
            z = _corrected(last, here)
        before = last.here if last else None
        last = _Step(z, here, before)
        return exponential_step(z, extrapolate(before, here, end), here.point, end)

    return walk(step, z, times, on_step)


def _corrected(last: _Step, arrived: Evaluation) -> Tensor:
    """The state (B, ...) where ``last`` led, now that z0 is known there.

    In u = (lambda - lambda_here) / h the evaluations lie at r < 0 (before), 0 (here) and 1 (arrived). The parabola through them,
    averaged over the step with the weight e^(h u) that the integral has, is ``here`` plus two weighted differences.
    """
    start, change = last.here, arrived.z0 - last.here.z0
    if last.before is None:
        return exponential_step(last.z, start.z0 + change / 2, start.point, arrived.point)
    h = arrived.point.log_snr - start.point.log_snr
    r = (last.before.point.log_snr - start.point.log_snr) / h
    mean_u, mean_u2 = _moments(h)
    weight_before = (mean_u - mean_u2) / (1 - r)  # these two make the average exact for u and for u^2
    weight_arrived = mean_u - weight_before
    z0 = start.z0 + weight_before / r * (last.before.z0 - start.z0) + weight_arrived * change
    return exponential_step(last.z, z0, start.point, arrived.point)


def _moments(h: Tensor) -> tuple[Tensor, Tensor]:
    """Means of u and u^2 over [0, 1] under the weight e^(h u)."""
    end = -1 / torch.expm1(-h)
    mean_u = end - 1 / h
    return mean_u, end - 2 / h * mean_u
