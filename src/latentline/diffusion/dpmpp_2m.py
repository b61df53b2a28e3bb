"""DPM-Solver++(2M) (Lu et al., arXiv 2211.01095, algorithm 2): second order with one evaluation per step."""

from torch import Tensor

from latentline.diffusion.exponential import Evaluation, exponential_step, extrapolate
from latentline.diffusion.process import DenoiserModel
from latentline.diffusion.steps import Callback, Times, integrate


def dpmpp_2m(model: DenoiserModel, z: Tensor, times: Times, callback: Callback | None = None) -> Tensor:
    """Integrate d(z / sigma) = z0 d(alpha / sigma) along falling ``times``: see :class:`steps.Sampler`."""
    before: Evaluation | None = None

    def step(_: int, z: Tensor, now: float, after: float) -> Tensor:
        nonlocal before
        here, end = Evaluation(model.predict_at(z, now).z0, model.path.at_time(now)), model.path.at_time(after)
        z0, before = extrapolate(before, here, end, after), here
        return exponential_step(z, z0, here.point, end)

    return integrate(step, z, times, callback)
