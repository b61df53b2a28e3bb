"""Agreement of predicted labels with the ground truth."""

import torch
from torch import Tensor

from latentline.core.attributes import Attribute


def agreement(column: Attribute, predicted: Tensor, targets: Tensor) -> float:
    """Return the accuracy of predictions (N,), or the coefficient of determination of a continuous column, at most 1.

    Where the ground truth (N,) of a continuous column is constant, return 1 if every prediction is right, else 0.
    """
    if column.kind != "continuous":
        return float((predicted == targets).float().mean())
    targets = targets.double()
    residual, variation = (predicted - targets).square().sum(), (targets - targets.mean()).square().sum()
    return float(1 - residual / variation if variation > 0 else residual == 0)


def constant_agreement(column: Attribute, targets: Tensor) -> float:
    """Return the agreement of the best constant prediction with the ground truth (N,)."""
    if column.kind == "continuous":
        return 0.0
    return float(targets.unique(return_counts=True)[1].max() / len(targets))


def confusion_counts(column: Attribute, predicted: Tensor, targets: Tensor) -> Tensor:
    """Count the images of each class (rows) by predicted class (columns): two (N,) -> int64 (K, K)."""
    pairs = targets.long() * column.num_logits + predicted.long()
    return torch.bincount(pairs, minlength=column.num_logits**2).reshape(column.num_logits, column.num_logits)
