"""Flow maps: learn where a denoiser's trajectories lead, so that one evaluation crosses a long interval.

The flow map of an ODE takes z_t to the point z_r, r < t, of the trajectory through it (Boffi et al., arXiv 2406.07507,
definition 2.1). A network gives it by the average velocity u(z_t, r, t) = (z_t - z_r) / (t - r) (Geng et al., arXiv
2505.13447, eq. 3), which at r = t is the velocity.

A trained denoiser, the teacher, draws trajectories with its sampler and its guidance. Their average velocities are the
targets of a regression (knowledge distillation, Luhman and Luhman, arXiv 2101.02388, eq. 5), over the whole of [0, 1]
and over its halves. So the guidance is built in. The other examples teach the velocity from data, as before.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from latentline.core.condition import Condition
from latentline.diffusion.path import add_noise, flow_path

TRAJECTORY_TIMES = (1.0, 0.5, 0.0)
"""Times of the states of a trajectory that are kept; a flow map crosses from one to another."""
_WHOLE = 0.625  # fraction of the intervals that are [0, 1]; the others are its halves in equal numbers


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
        trajectories: states (B, 3, ...) of the teacher's trajectories at ``TRAJECTORY_TIMES``.
        condition: of the latent and of the trajectory of each example.
        intervals: of B examples.
        noise: (B, ...) standard normal, of the velocity.
    """
    t, r = intervals
    averaged = _like(r < t, z0)
    z_r, z_s = (_states_at(trajectories, time) for time in (r, t))  # of no use where r = t
    z_t = torch.where(averaged, z_s, add_noise(z0, noise, flow_path(t)))
    target = torch.where(averaged, (z_s - z_r) / _like(t - r, z0).clamp(min=0.5), noise - z0)
    return (network(z_t, t, condition, r) - target).square().flatten(1).mean(dim=1)


def _states_at(trajectories: Tensor, times: Tensor) -> Tensor:
    """Return the state (B, ...) of each trajectory at its time (B,), the nearest of ``TRAJECTORY_TIMES``."""
    rows = torch.arange(len(times), device=times.device)
    return trajectories[rows, (2 - 2 * times).round().long()].to(times.dtype)


def _like(values: Tensor, z: Tensor) -> Tensor:
    """Return values (B,) with axes of length 1, to broadcast over z (B, ...)."""
    return values.reshape(-1, *(1,) * (z.ndim - 1))
