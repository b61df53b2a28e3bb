"""The learning rate as a function of the step."""


def warmup_stable_decay(step: int, total_steps: int, warmup_steps: int, decay_fraction: float) -> float:
    """Factor in (0, 1] of the learning rate at ``step``, counted from 0 (Hu et al., arXiv 2404.06395, section 4).

    Rises linearly over ``warmup_steps``, stays at 1, and falls linearly over the last ``decay_fraction`` of all steps. Up to
    the fall it does not depend on ``total_steps``, so a longer run shares the beginning of a shorter one.
    """
    warmup = (step + 1) / warmup_steps if step < warmup_steps else 1.0
    decay_steps = round(decay_fraction * total_steps)
    left = total_steps - step  # at least 1
    decay = left / (decay_steps + 1) if left <= decay_steps else 1.0
    return min(warmup, decay)
