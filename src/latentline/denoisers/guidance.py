"""Guidance by the difference of two predictions, of one condition or of several with weights.

It is classifier-free guidance (Ho and Salimans, arXiv 2207.12598) where one network makes both. It is autoguidance
(Karras et al., arXiv 2406.02507) where a weaker network makes the one that it leads away from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.core.condition import Condition, Mixture, concatenate
from latentline.denoisers.text_conditioned import encoded_condition
from latentline.diffusion.path import expand
from latentline.diffusion.process import DenoiserModel, Network, Process, conditional_model

_ROUNDING = 1e-7  # of a time in [0, 1] in float32


@dataclass(frozen=True)
class Guidance:
    """Settings of guidance.

    Args:
        scale: w of uncond + w * (cond - uncond); 1 = off, 0 = unconditional.
        start: smallest t that is guided.
        end: largest t that is guided. Guidance hurts near noise and is wasted near data (Kynkaanniemi et al., arXiv
            2404.07724). Outside [start, end] only the conditional half is evaluated.
        rescale: phi in [0, 1], from no rescaling to the conditional output's standard deviation (Lin et al., arXiv
            2305.08891, eq. 15 and 16).
        early: whether the early network of :class:`latentline.denoisers.load.Denoiser` predicts uncond, where the
            checkpoint has it.
    """

    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0
    rescale: float = 0.0
    early: bool = False

    @property
    def interval(self) -> tuple[float, float]:
        """The first and the last guided t, with room for a float32's rounding of a time that a setting names."""
        return self.start - _ROUNDING, self.end + _ROUNDING

    def covers(self, time: float) -> bool:
        """Return whether the model is guided at ``time``."""
        first, last = self.interval
        return first <= time <= last

    def evaluations(self, times: Tensor) -> int:
        """Return the network forwards per image for one evaluation of the model at each of ``times`` (N,)."""
        inside = 1 if self.scale in (0, 1) else 2
        return sum(inside if self.covers(time) else 1 for time in times.tolist())


def guided_model(
    network: Network,
    process: Process,
    condition: Condition | Mixture,
    guidance: Guidance,
    negative: Condition | None = None,
    guide: Network | None = None,
) -> DenoiserModel:
    """Return the network conditioned on ``condition`` of B examples, and guided away from ``negative`` of B examples.

    Without ``negative`` it is guided away from the null condition. A mixture of n conditions is guided as one
    condition, at the cost of n + 1 network forwards; it takes no ``negative``, which has a place among its weights.
    ``guide`` predicts what is guided away from; None = the network itself does.
    """
    mixture = condition if isinstance(condition, Mixture) else Mixture((condition,), (1.0,))
    away_from = condition.null() if negative is None else negative
    conditions = [encoded_condition(network, one) for one in mixture.conditions]
    single = mixture.weights == (1.0,)
    if single and guidance.scale == 1:
        return conditional_model(network, process, conditions[0])
    null = encoded_condition(network if guide is None else guide, away_from)
    at_once = conditions if guide is not None else [*conditions, null]  # what the network predicts as one batch
    every, copies = concatenate(at_once), len(at_once)

    def outputs(z_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        predicted = list(network(torch.cat([z_t] * copies), torch.cat([t] * copies), every).chunk(copies))
        uncond = predicted.pop() if guide is None else guide(z_t, t, null)
        return mixed_output(predicted, mixture.weights, uncond), uncond

    def guided_at_once(z_t: Tensor, t: Tensor) -> Tensor:
        return guided_output(*outputs(z_t, t), guidance.scale, guidance.rescale)

    conditional = DenoiserModel(process, lambda z_t, t: outputs(z_t, t)[0])
    if single:
        conditional = conditional_model(network, process, conditions[0])
    if guidance.scale == 1:
        return conditional
    guided = DenoiserModel(process, guided_at_once)
    if guidance.scale == 0:
        guided = conditional_model(network, process, encoded_condition(network, away_from))
    if guidance.covers(0) and guidance.covers(1):
        return guided
    first, last = guidance.interval

    def output(z_t: Tensor, t: Tensor) -> Tensor:
        inside = expand((t >= first) & (t <= last), z_t.ndim)
        return torch.where(inside, guided.output(z_t, t), conditional.output(z_t, t))

    return DenoiserModel(process, output, lambda time: (guided if guidance.covers(time) else conditional).output)


def mixed_output(conditional: Sequence[Tensor], weights: Sequence[float], uncond: Tensor) -> Tensor:
    """Return the output (B, ...) of a mixture (Liu et al., arXiv 2206.01714, eq. 11).

    Args:
        conditional: output under each condition, (B, ...).
        weights: of the conditions.
        uncond: output under the null condition, (B, ...).
    """
    if tuple(weights) == (1.0,):  # exactly, without rounding
        return conditional[0]
    return uncond + sum(weight * (cond - uncond) for weight, cond in zip(weights, conditional, strict=True))


def guided_output(cond: Tensor, uncond: Tensor, scale: float, rescale: float) -> Tensor:
    """Return the guided output (B, ...) of the two outputs.

    It holds for every prediction, because all are linear in one another at fixed z_t and t.
    """
    guided = uncond + scale * (cond - uncond)  # arXiv 2207.12598, eq. 6, with scale = 1 + w
    if rescale == 0:
        return guided
    axes = tuple(range(1, cond.ndim))
    factor = cond.std(axes, keepdim=True) / guided.std(axes, keepdim=True)  # (B, 1, ...); arXiv 2305.08891, eq. 15
    return rescale * (guided * factor) + (1 - rescale) * guided  # eq. 16
