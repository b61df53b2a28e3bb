"""SDE of the straight path with the ODE's marginals at every t (Song et al., arXiv 2011.13456, appendix D.1).

For any g(t) the equation run backwards in time (dt < 0)

    dz = (velocity - g^2 / 2 * score) dt + g dW

has the marginals of dz = velocity dt: Langevin noise and the drift against it cancel in the Fokker-Planck equation.
Here g(t) = diffusion * t, largest where the state is noise anyway, and zero at the data.
"""

from torch import Tensor

from latentline.diffusion.process import DenoiserModel
from latentline.diffusion.steps import Callback, NoiseFn, Times, integrate


def flow_sde(
    model: DenoiserModel,
    z: Tensor,
    times: Times,
    callback: Callback | None = None,
    *,
    noise_fn: NoiseFn,
    diffusion: float,
) -> Tensor:
    """Take Euler-Maruyama steps; the last one is the ODE's, since noise added there would stay in the data.

    Args:
        model: the network, of the straight path.
        z: (B, ...).
        times: (K + 1,), falling.
        callback: receives each state.
        noise_fn: step -> (B, ...).
        diffusion: noise level, at least 0; 0 = ``euler``.
    """

    def step(index: int, z: Tensor, now: float, after: float) -> Tensor:
        here, dt = model.predict_at(z, now), after - now
        if after == 0:
            return z + here.velocity * dt
        g = diffusion * now
        return z + (here.velocity - g**2 / 2 * here.score) * dt + g * abs(dt) ** 0.5 * noise_fn(index)

    return integrate(step, z, times, callback)
