"""DDIM (Song et al., arXiv 2010.02502), on any grid and any path."""

from torch import Tensor

from latentline.diffusion.process import DenoiserModel
from latentline.diffusion.steps import Callback, NoiseFn, Times, integrate
from latentline.samplers.posterior import posterior


def ddim(
    model: DenoiserModel,
    z: Tensor,
    times: Times,
    callback: Callback | None = None,
    *,
    noise_fn: NoiseFn,
    eta: float = 0.0,
) -> Tensor:
    """Step by eq. 12, without noise for eta = 0 and in the last step.

    Args:
        model: the network.
        z: (B, ...).
        times: (K + 1,), falling unless eta = 0.
        callback: receives each state.
        noise_fn: step -> (B, ...).
        eta: fraction of the ancestral step's standard deviation (eq. 16): 0 = the ODE (``euler``), 1 = ``ddpm`` with
            the posterior variance.
    """

    def step(index: int, z: Tensor, now: float, after: float) -> Tensor:
        here, end = model.predict_at(z, now), model.path.at_time(after)
        if eta == 0 or after == 0:
            return end.alpha * here.z0 + end.sigma * here.noise
        variance = eta**2 * posterior(model.path.at_time(now), end).variance
        direction = (end.sigma.square() - variance).sqrt()
        return end.alpha * here.z0 + direction * here.noise + variance.sqrt() * noise_fn(index)

    return integrate(step, z, times, callback)
