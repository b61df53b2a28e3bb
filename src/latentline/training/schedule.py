"""The learning rate as a function of the step: factors in [0, 1] of the full rate, at steps counted from 0."""

import math
from collections.abc import Sequence


def warmup_stable_decay(step: int, total_steps: int, warmup_steps: int, decay_fraction: float) -> float:
    """Rise, stay, fall (Hu et al., arXiv 2404.06395, section 4).

    Rises linearly over ``warmup_steps``, stays at 1, and falls linearly over the last ``decay_fraction`` of all steps. Up to
    the fall it does not depend on ``total_steps``, so a longer run shares the beginning of a shorter one.
    """
    decay_steps = total_steps - stable_steps(total_steps, decay_fraction)
    left = total_steps - step  # at least 1
    decay = left / (decay_steps + 1) if left <= decay_steps else 1.0
    return min(_warmup(step, warmup_steps), decay)


def stable_steps(total_steps: int, decay_fraction: float) -> int:
    """Steps before the fall of :func:`warmup_stable_decay`."""
    return total_steps - round(decay_fraction * total_steps)


def warmup_cosine(step: int, total_steps: int, warmup_steps: int) -> float:
    """Rise, then fall along half a cosine over all steps that are left (Loshchilov and Hutter, arXiv 1608.03983, eq. 5); 0 after the last."""
    if step < warmup_steps:
        return _warmup(step, warmup_steps)
    return (1 + math.cos(math.pi * (step - warmup_steps) / (total_steps - warmup_steps))) / 2


def warmup_milestones(step: int, steps_per_epoch: int, warmup_steps: int, after_epochs: Sequence[int], gamma: float) -> float:
    """Rise; times ``gamma`` after each of the epochs ``after_epochs``, counted from 1. Does not depend on the length of the run."""
    passed = sum(step >= epoch * steps_per_epoch for epoch in after_epochs)
    return _warmup(step, warmup_steps) * gamma**passed


def _warmup(step: int, warmup_steps: int) -> float:
    return min(1.0, (step + 1) / max(warmup_steps, 1))
