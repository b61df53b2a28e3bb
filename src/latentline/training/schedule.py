"""Learning-rate schedules: factors in [0, 1] of the full rate, as functions of the step, counted from 0."""

import math
from collections.abc import Sequence


def warmup_stable_decay(step: int, total_steps: int, warmup_steps: int, decay_fraction: float) -> float:
    """Rise, stay, fall (Hu et al., arXiv 2404.06395, section 4).

    The factor rises linearly over ``warmup_steps``, stays at 1, and falls linearly over the last ``decay_fraction`` of
    all steps. Up to the fall it does not depend on ``total_steps``, so a longer run begins like a shorter one.
    """
    decay_steps = total_steps - stable_steps(total_steps, decay_fraction)
    left = total_steps - step  # at least 1
    decay = left / (decay_steps + 1) if left <= decay_steps else 1.0
    return min(_warmup(step, warmup_steps), decay)


def stable_steps(total_steps: int, decay_fraction: float) -> int:
    """Return the steps before the fall of :func:`warmup_stable_decay`."""
    return total_steps - round(decay_fraction * total_steps)


def warmup_cosine(step: int, total_steps: int, warmup_steps: int) -> float:
    """Rise, then fall along half a cosine to 0 after the last step (Loshchilov and Hutter, arXiv 1608.03983, eq. 5)."""
    if step < warmup_steps:
        return _warmup(step, warmup_steps)
    return (1 + math.cos(math.pi * (step - warmup_steps) / (total_steps - warmup_steps))) / 2


def warmup_milestones(
    step: int, steps_per_epoch: int, warmup_steps: int, after_epochs: Sequence[int], gamma: float
) -> float:
    """Rise, then multiply by ``gamma`` after each of ``after_epochs``, counted from 1, at any length of the run."""
    passed = sum(step >= epoch * steps_per_epoch for epoch in after_epochs)
    return _warmup(step, warmup_steps) * gamma**passed


def _warmup(step: int, warmup_steps: int) -> float:
    return min(1.0, (step + 1) / max(warmup_steps, 1))
