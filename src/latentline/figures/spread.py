"""Spread of scores, for the bands and bars of plots."""

import math

_Z = 1.959964  # 95 % of a normal distribution lie within so many standard deviations


def share_interval(share: float, count: float) -> tuple[float, float]:
    """Return Wilson's interval, 95 %, of a share of ``count`` > 0 independent cases (Wilson 1927)."""
    middle = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z / (1 + _Z**2 / count) * math.sqrt(max(share * (1 - share), 0) / count + (_Z / (2 * count)) ** 2)
    return max(0.0, middle - half), min(1.0, middle + half)
