"""Calibration of a classifier: confidence against accuracy."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Bin:
    """Predictions of about the same confidence."""

    confidence: float
    """Mean over the bin, in [0, 1]."""
    accuracy: float
    """Share of the bin's predictions that are correct."""
    share: float
    """Share of all predictions that are in the bin."""


def reliability(confidence: Tensor, correct: Tensor, bins: int = 15) -> list[Bin]:
    """Sort predictions (N,) by confidence into ``bins`` equal slices of [0, 1], and leave out empty slices.

    Args:
        confidence: probability of each predicted class.
        correct: bool, whether each prediction is correct.
        bins: 15 as in Guo et al. (arXiv 1706.04599).
    """
    index = (confidence.double() * bins).ceil().long().clamp(
        1, bins
    ) - 1  # (N,): slices are open below, as in the paper
    membership = torch.nn.functional.one_hot(index, bins).double()  # (N, bins)
    counts = membership.sum(dim=0)  # (bins,)
    sums = torch.stack([confidence.double() @ membership, correct.double() @ membership])  # (2, bins)
    mean_confidence, accuracy = (sums / counts).tolist()  # NaN in empty slices
    columns = zip(mean_confidence, accuracy, (counts / len(index)).tolist(), strict=True)
    return [Bin(*column) for column in columns if column[-1]]


def calibration_error(bins: list[Bin]) -> float:
    """Return the expected calibration error: mean distance of accuracy and confidence (arXiv 1706.04599, eq. 5)."""
    return sum(part.share * abs(part.accuracy - part.confidence) for part in bins)
