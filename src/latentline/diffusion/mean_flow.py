"""MeanFlow: learn average velocities, with which one evaluation crosses any interval (Geng et al., arXiv 2505.13447).

The average velocity of the path through z_t is u(z_t, r, t) = (z_t - z_r) / (t - r), r <= t (eq. 3). At r = t it is the
velocity. Differentiating (t - r) u along the path gives the MeanFlow identity (eq. 6)

    u(z_t, r, t) = v(z_t, t) - (t - r) du/dt,    du/dt = v du/dz + du/dt at fixed z and r.

Its right side, without gradients, is the target of the left side. The network learns both at once: the velocity from
data where r = t, and averages of its own velocity where r < t. So v above is the network's estimate, as in improved
MeanFlow (arXiv 2512.02012, section 4.1), not noise - z0, whose variance would reach u through du/dt.

Guidance is a part of v: the averages are those of the guided field, and its scale is an input of the network (arXiv
2512.02012, section 4.2). A sample then costs one evaluation per step, guided or not.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from latentline.core.condition import Condition, concatenate
from latentline.diffusion.path import add_noise, flow_path

_OFFSET = 1e-3  # c of arXiv 2505.13447, eq. 22


class AverageNetwork(Protocol):
    """A network of average velocities; without r and a guidance scale it returns the velocity."""

    def __call__(
        self,
        z_t: Tensor,
        t: Tensor,
        condition: Condition,
        r: Tensor | None = None,
        guidance_scale: Tensor | None = None,
    ) -> Tensor:
        """Return the average velocity (B, ...) over [r, t] of the guided path through z_t (B, ...)."""


@dataclass(frozen=True)
class MeanFlow:
    """The guided field whose averages a network has learnt (``denoiser.mean_flow``).

    Args:
        max_guidance_scale: the scales are from 1 to this.
        guidance_start: smallest t with guidance.
        guidance_end: largest t with guidance.
    """

    max_guidance_scale: float
    guidance_start: float
    guidance_end: float


class Intervals(NamedTuple):
    """What a network of averages is trained at: t, r <= t and guidance_scale, (B,) each. r = t asks for the velocity.

    Where r = t the guidance scale is 1.
    """

    t: Tensor
    r: Tensor
    guidance_scale: Tensor


def sample_intervals(t: Tensor, fraction: float, max_guidance_scale: float, generator: torch.Generator) -> Intervals:
    """Draw intervals for a batch, on the CPU.

    Of each ten examples with ``fraction`` 0.5, five in turn keep their t with r = t. The others have the two ends
    drawn uniformly. Their scales are uniform in log from 1 to the largest.

    Args:
        t: (B,), times of the velocity.
        fraction: of examples with r < t, in [0, 1).
        max_guidance_scale: at least 1.
        generator: on the CPU.
    """
    count = len(t)
    turns = ((torch.arange(count + 1, dtype=torch.float64)) * fraction).floor()
    averaged = turns.diff() > 0  # (B,)
    ends = torch.rand(2, count, generator=generator)
    scale = max_guidance_scale ** torch.rand(count, generator=generator)
    return Intervals(
        torch.where(averaged, ends.amax(0), t),
        torch.where(averaged, ends.amin(0), t),
        torch.where(averaged, scale, 1.0),
    )


def mean_flow_loss(
    network: AverageNetwork,
    field: MeanFlow,
    z0: Tensor,
    condition: Condition,
    intervals: Intervals,
    noise: Tensor,
    power: float,
) -> Tensor:
    """Return the squared error of the average velocity, (B,): weighted where r < t, plain where r = t.

    The weight is 1 / (error + 0.001)^power without gradient (arXiv 2505.13447, eq. 22). It is not used where r = t:
    that target is noisy, and weights that depend on the noise would move its mean.

    Args:
        network: it trains; its targets are computed without gradients.
        field: whose averages it learns.
        z0: clean standardised latents (B, ...).
        condition: of B examples.
        intervals: of B examples.
        noise: (B, ...) standard normal.
        power: p of eq. 22, from 0 (none).
    """
    t, r, scale = intervals.t, intervals.r, intervals.guidance_scale
    z_t, target = add_noise(z0, noise, flow_path(t)), noise - z0
    averaged = r < t
    rows = averaged.nonzero()[:, 0]
    if len(rows):
        some = Intervals(t[rows], r[rows], scale[rows])
        target = target.index_copy(0, rows, average_target(network, field, z_t[rows], condition.rows(rows), some))
    predicted = network(z_t, t, condition, r, scale)
    error = (predicted - target).square().flatten(1).mean(dim=1)  # (B,)
    return error * torch.where(averaged, (error.detach() + _OFFSET) ** -power, 1)


@torch.no_grad()
def average_target(
    network: AverageNetwork, field: MeanFlow, z_t: Tensor, condition: Condition, intervals: Intervals
) -> Tensor:
    """Return the right side of the MeanFlow identity, (B, ...), of the guided field at z_t (B, ...)."""
    t, r, scale = intervals.t, intervals.r, intervals.guidance_scale
    both = concatenate([condition, condition.null()])  # 2B examples
    # The networks that train may be compiled, for batches of one size and without derivatives in forward mode.
    with torch.compiler.set_stance("force_eager"):
        cond, uncond = network(torch.cat([z_t, z_t]), torch.cat([t, t]), both).chunk(2)
        guided = (t >= field.guidance_start) & (t <= field.guidance_end)
        weight = _like(torch.where(guided, scale, 1), z_t)
        velocity = uncond + weight * (cond - uncond)
        with sdpa_kernel(SDPBackend.MATH):  # the other kernels of attention have no derivative in forward mode
            derivative = torch.func.jvp(
                lambda z, time: network(z, time, condition, r, scale), (z_t, t), (velocity, torch.ones_like(t))
            )[1]
    return velocity - _like(t - r, z_t) * derivative


def _like(values: Tensor, z: Tensor) -> Tensor:
    """Return values (B,) with axes of length 1, to broadcast over z (B, ...)."""
    return values.reshape(-1, *(1,) * (z.ndim - 1))
