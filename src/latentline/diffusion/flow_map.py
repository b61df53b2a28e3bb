"""Flow maps: learn where a denoiser's trajectories lead, so that one evaluation crosses a long interval.

The flow map of an ODE takes z_t to the point z_r, r < t, of the trajectory through it (Boffi et al., arXiv 2406.07507).
A network gives it by the average velocity u(z_t, r, t) = (z_t - z_r) / (t - r) (Geng et al., arXiv 2505.13447, eq. 3),
which at r = t is the velocity.

A trained denoiser, the teacher, draws trajectories with its sampler and its guidance. Their average velocities are the
targets of a regression (knowledge distillation, Luhman and Luhman, arXiv 2101.02388), over the whole of [0, 1] and over
its halves. So the guidance is built in. The other examples teach the velocity from data, as before.

What a regression cannot predict, it leaves out: its outputs vary less than its targets, and samples would be too
typical. So targets of intervals that begin at noise are lengthened, until the outputs vary as much as the trajectories
do: see :func:`lengthened`.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from latentline.core.condition import Condition
from latentline.diffusion.path import add_noise, expand, flow_path

TRAJECTORY_TIMES = (1.0, 0.5, 0.0)
"""Times of the states of a trajectory that are kept; a flow map crosses from one to another."""
_WHOLE = 0.5  # fraction of the intervals that are [0, 1]; the others are its halves in equal numbers
_LEAST_COSINE = 0.5  # a target at most doubles its distance, at the start of a training


class AverageNetwork(Protocol):
    """A network of average velocities; without r it returns the velocity."""

    def __call__(self, z_t: Tensor, t: Tensor, condition: Condition, r: Tensor | None = None) -> Tensor:
        """Return the average velocity (B, ...) over [r, t] of the guided trajectory through z_t (B, ...)."""


@dataclass(frozen=True)
class FlowMap:
    """The guidance of the trajectories that a network has learnt (``denoiser.flow_map``).

    Args:
        guidance_scale: of the teacher.
        guidance_start: smallest t with guidance.
        guidance_end: largest t with guidance.
    """

    guidance_scale: float
    guidance_start: float
    guidance_end: float


class Intervals(NamedTuple):
    """Intervals [r, t] of B examples, (B,) each; where r = t an example teaches the velocity at t, from data."""

    t: Tensor
    r: Tensor


def sample_intervals(t: Tensor, fraction: float, generator: torch.Generator) -> Intervals:
    """Draw the intervals of a batch, on the CPU.

    Of each ten examples with ``fraction`` 0.8, eight in turn get an interval between two of ``TRAJECTORY_TIMES``. The
    others keep their t with r = t.

    Args:
        t: (B,), times of the velocity.
        fraction: of examples with r < t, in [0, 1).
        generator: on the CPU.
    """
    turns = (torch.arange(len(t) + 1, dtype=torch.float64) * fraction).floor()
    averaged = turns.diff() > 0  # (B,)
    chosen = torch.rand(len(t), generator=generator)
    starts_at_noise, ends_at_data = chosen < (1 + _WHOLE) / 2, (chosen < _WHOLE) | (chosen >= (1 + _WHOLE) / 2)
    return Intervals(
        torch.where(averaged, torch.where(starts_at_noise, 1.0, 0.5), t),
        torch.where(averaged, torch.where(ends_at_data, 0.0, 0.5), t),
    )


def flow_map_loss(
    network: AverageNetwork,
    z0: Tensor,
    trajectories: Tensor,
    condition: Condition,
    intervals: Intervals,
    noise: Tensor,
) -> Tensor:
    """Return the mean squared error of the average velocity of B examples, (B,).

    Args:
        network: it trains.
        z0: clean standardised latents (B, ...), of the velocity.
        trajectories: (B, 4, ...), states of the teacher's trajectories at ``TRAJECTORY_TIMES``, and the clean latents
            that it predicts at their start.
        condition: of the latent and of the trajectory of each example.
        intervals: of B examples.
        noise: (B, ...) standard normal, of the velocity.
    """
    t, r = intervals
    averaged = expand(r < t, z0.ndim)
    z_r, z_s = (_states_at(trajectories, time) for time in (r, t))  # of no use where r = t
    z_t = torch.where(averaged, z_s, add_noise(z0, noise, flow_path(t)))
    target = torch.where(averaged, (z_s - z_r) / expand(t - r, z0.ndim).clamp(min=0.5), noise - z0)
    output = network(z_t, t, condition, r)
    velocity = z_s - trajectories[:, -1].to(z_s.dtype)  # of the teacher, where t = 1
    from_noise = averaged & expand(t == 1, z0.ndim)
    target = torch.where(from_noise, lengthened(target, velocity, output.detach().to(target.dtype)), target)
    return (output - target).square().flatten(1).mean(dim=1)


def lengthened(target: Tensor, velocity: Tensor, output: Tensor) -> Tensor:
    """Return average velocities (B, ...) farther from ``velocity``, in the directions of ``target``.

    The least squares solution of d = target - velocity has the length |d| cos, where cos is of the angle between d and
    the solution. Of d / cos it has the length |d|.

    Args:
        target: average velocities of trajectories, (B, ...).
        velocity: at their start: what all trajectories of a condition have in common.
        output: of the network for ``target``.
    """
    wanted, found = target - velocity, output - velocity
    cosine = F.cosine_similarity(wanted.flatten(1), found.flatten(1)).clamp(min=_LEAST_COSINE)
    return velocity + wanted / expand(cosine, target.ndim)


def _states_at(trajectories: Tensor, times: Tensor) -> Tensor:
    """Return the state (B, ...) of each trajectory at its time (B,), the nearest of ``TRAJECTORY_TIMES``."""
    rows = torch.arange(len(times), device=times.device)
    return trajectories[rows, (2 - 2 * times).round().long()].to(times.dtype)
