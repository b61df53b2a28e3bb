"""q(z_s | z_t, z0) for s < t: where a state came from, if its z0 were known (Kingma et al., arXiv 2107.00630, appendix A).

For the discrete schedules this is Ho et al., arXiv 2006.11239, eq. 6 and 7; it needs alpha and sigma only, so it serves every path.
"""

from dataclasses import dataclass

from torch import Tensor

from latentline.diffusion.path import PathPoint


@dataclass(frozen=True)
class Posterior:
    """Normal with mean of_z * z_t + of_z0 * z0. ``beta`` is the variance that the step from s to t adds. All float64 scalars."""

    of_z: Tensor
    of_z0: Tensor
    variance: Tensor
    beta: Tensor


def posterior(now: PathPoint, after: PathPoint) -> Posterior:
    """Of the state at ``after`` (s) given that at ``now`` (t), the noisier one."""
    ratio = now.alpha / after.alpha  # alpha_{t|s}
    beta = now.sigma.square() - ratio.square() * after.sigma.square()  # sigma^2_{t|s}
    share = after.sigma.square() / now.sigma.square()
    return Posterior(of_z=ratio * share, of_z0=after.alpha * beta / now.sigma.square(), variance=beta * share, beta=beta)
