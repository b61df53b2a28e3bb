"""Agreement of predicted labels with the ground truth."""

from typing import NamedTuple

import torch
from torch import Tensor

from latentline.core.attributes import Attribute, most_frequent

_MAX_DRAWN = 200  # classes in a confusion matrix for people
NO_VALUE = "no image has a value"
"""Why an agreement is None, for the metrics."""


def accuracy(predicted: Tensor, targets: Tensor) -> float:
    """Return the share of predictions (N,) that equal the ground truth (N,)."""
    return float((predicted == targets).float().mean())


def agreement(column: Attribute, predicted: Tensor, targets: Tensor) -> float | None:
    """Return the accuracy of predictions (N,), or the coefficient of determination of a continuous column, at most 1.

    Where the ground truth (N,) of a continuous column is constant, return 1 if every prediction is right, else 0.
    Images without a value are left out; None where no image has one.
    """
    if (missing := targets.isnan()).any():
        predicted, targets = predicted[~missing], targets[~missing]
    if not len(targets):
        return None
    if column.kind != "continuous":
        return accuracy(predicted, targets)
    targets = targets.double()
    residual, variation = (predicted - targets).square().sum(), (targets - targets.mean()).square().sum()
    return float(1 - residual / variation if variation > 0 else residual == 0)


def constant_agreement(column: Attribute, targets: Tensor) -> float | None:
    """Return the agreement of the best constant prediction with the ground truth (N,); None where it has no value."""
    targets = targets[~targets.isnan()]
    if not len(targets):
        return None
    if column.kind == "continuous":
        return 0.0
    return float(targets.unique(return_counts=True)[1].max() / len(targets))


def confusion_counts(column: Attribute, predicted: Tensor, targets: Tensor) -> Tensor:
    """Count the images of each class (rows) by predicted class (columns): two (N,) -> int64 (K, K)."""
    pairs = targets.long() * column.num_logits + predicted.long()
    return torch.bincount(pairs, minlength=column.num_logits**2).reshape(column.num_logits, column.num_logits)


class ConfusionSample(NamedTuple):
    """Confusion counts for a figure: of all classes, or of the most frequent ones."""

    counts: Tensor
    """int64 (K, K): true class, predicted class."""
    names: list[str]
    """Of the K classes."""
    note: str
    """Which classes these are; empty where they are all."""


def confusion_sample(column: Attribute, predicted: Tensor, targets: Tensor) -> ConfusionSample:
    """Count the images of each class by predicted class; of more than 200 classes, of the 200 most frequent ones.

    Args:
        column: categorical.
        predicted: class indices (N,).
        targets: ground truth (N,).
    """
    total = column.num_logits
    if total <= _MAX_DRAWN:
        return ConfusionSample(confusion_counts(column, predicted, targets), list(column.classes), "")
    chosen = most_frequent(targets, _MAX_DRAWN)
    names = [column.classes[index] for index in chosen.tolist()]
    position = torch.full((total,), -1).scatter_(0, chosen, torch.arange(len(chosen)))
    pairs = torch.stack([position[targets.long()], position[predicted.long()]])  # (2, N)
    pairs = pairs[:, (pairs >= 0).all(dim=0)]
    counts = torch.bincount(pairs[0] * len(chosen) + pairs[1], minlength=len(chosen) ** 2)
    return ConfusionSample(
        counts.reshape(len(chosen), len(chosen)), names, f"the {len(chosen)} most frequent of {total} classes"
    )
