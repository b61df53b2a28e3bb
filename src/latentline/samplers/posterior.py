"""The posterior q(z_s | z_t, z0) for s < t (Kingma et al., arXiv 2107.00630, appendix A).

For the discrete schedules this is Ho et al., arXiv 2006.11239, eq. 6 and 7. It needs alpha and sigma only, so it serves
every path.
"""

from dataclasses import dataclass

from torch import Tensor

from latentline.diffusion.path import Coefficients


@dataclass(frozen=True)
class Posterior:
    """Normal distribution with mean of_z * z_t + of_z0 * z0, in float64 scalars.

    ``beta`` is the variance that the step from s to t adds.
    """

    of_z: Tensor
    of_z0: Tensor
    variance: Tensor
    beta: Tensor


def posterior(now: Coefficients, after: Coefficients) -> Posterior:
    """Return the posterior of the state at ``after`` (s) given the noisier state at ``now`` (t)."""
    ratio = now.alpha / after.alpha  # alpha_{t|s}
    beta = now.sigma.square() - ratio.square() * after.sigma.square()  # sigma^2_{t|s}
    kept = after.sigma.square() / now.sigma.square()
    return Posterior(of_z=ratio * kept, of_z0=after.alpha * beta / now.sigma.square(), variance=beta * kept, beta=beta)
