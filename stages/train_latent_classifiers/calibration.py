"""Whether a classifier is right as often as it says."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Bin:
    """Decisions of about the same confidence."""

    confidence: float  # mean
    accuracy: float  # share of them that is right
    share: float  # of all decisions that are among them


def reliability(confidence: Tensor, correct: Tensor, bins: int = 15) -> list[Bin]:
    """Decisions (N,) by confidence, in ``bins`` equal slices of [0, 1]; slices without a decision are left out.

    Args:
        confidence: probability that the classifier gave its decision.
        correct: whether it was right.
        bins: 15 as in Guo et al. (arXiv 1706.04599).
    """
    index = (confidence.double() * bins).ceil().long().clamp(1, bins) - 1  # (N,): slices are open below, as in that paper
    here = torch.nn.functional.one_hot(index, bins).double()  # (N, bins)
    counts = here.sum(dim=0)  # (bins,)
    sums = torch.stack([confidence.double() @ here, correct.double() @ here])  # (2, bins)
    said, right = (sums / counts).tolist()  # of an empty slice not a number
    return [Bin(*part) for part in zip(said, right, (counts / len(index)).tolist(), strict=True) if part[-1]]


def calibration_error(bins: list[Bin]) -> float:
    """Mean distance of accuracy and confidence over all decisions (Guo et al., arXiv 1706.04599, eq. 5)."""
    return sum(part.share * abs(part.accuracy - part.confidence) for part in bins)
