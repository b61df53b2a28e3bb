"""UniPC-2, bh2 (Zhao et al., arXiv 2302.04867): the sampler for few evaluations.

The predictor is :mod:`dpmpp_2m`'s. Its error shows at the next evaluation, which has to be made anyway. The corrector
then repeats the last step with that evaluation, interpolating where the predictor had to extrapolate. The result is of
third order without a further evaluation.

Why this one: the table has the root mean square distance to the ODE's solution at 4 / 6 / 8 / 10 / 16 evaluations on
the uniform grid. It is the mean over 24 mixtures of ten Gaussians in 16 dimensions with exact scores. Standard
deviations over mixtures are 0.02 to 0.05, so neighbours often swap on a single mixture.

    path        unipc                           Adams-Bashforth 2               dpmpp_2m
    flow        .262 .161 .087 .045 .011        .253 .146 .103 .074 .027        .307 .223 .167 .129 .061
    vp_linear   .277 .172 .137 .114 .071        .286 .210 .156 .116 .056        .290 .188 .154 .130 .074
    vp_cosine   .269 .175 .104 .061 .021        .288 .176 .118 .087 .032        .317 .245 .192 .155 .085

It has the lowest mean at 8 and 10 on every path. Adams-Bashforth on the velocity is ahead at 4 and 6 on the straight
path and at 16 on ``vp_linear``. We chose unipc because it also leads at 4 and 6 on the other paths and can be tested
against a library. Exact scores do not cover the errors of a trained network.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.diffusion.exponential import Evaluation, exponential_step, extrapolate
from latentline.diffusion.process import DenoiserModel
from latentline.diffusion.steps import Callback, Times, integrate


@dataclass(frozen=True)
class _Step:
    """A predicted step: its first state ``z``, the evaluation there, and the evaluation before it."""

    z: Tensor
    here: Evaluation
    before: Evaluation | None


def unipc(model: DenoiserModel, z: Tensor, times: Times, callback: Callback | None = None) -> Tensor:
    """Integrate d(z / sigma) = z0 d(alpha / sigma) along falling ``times``: see :class:`steps.Sampler`.

    ``callback`` receives corrected states, so each comes after the evaluation that corrects it.
    """
    last: _Step | None = None

    def step(_: int, z: Tensor, now: float, after: float) -> Tensor:
        nonlocal last
        here, end = Evaluation(model.predict_at(z, now).z0, model.path.at_time(now)), model.path.at_time(after)
        if last is not None:
            z = _corrected(last, here)
        if callback:
            callback(now, z)
        before = last.here if last else None
        last = _Step(z, here, before)
        return exponential_step(z, extrapolate(before, here, end, after), here.point, end)

    z = integrate(step, z, times, None)
    if callback:
        callback(float(times[-1]), z)
    return z


def _corrected(last: _Step, arrived: Evaluation) -> Tensor:
    """Return the state (B, ...) at the end of ``last``, corrected with the evaluation there.

    In u = (lambda - lambda_here) / h the evaluations lie at r < 0 (before), 0 (here) and 1 (arrived). The parabola
    through them is averaged over the step with the integral's weight e^(h u). The average is ``here`` plus two weighted
    differences.
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
    """Return the means of u and u^2 over [0, 1] under the weight e^(h u)."""
    end = -1 / torch.expm1(-h)
    mean_u = end - 1 / h
    return mean_u, end - 2 / h * mean_u
