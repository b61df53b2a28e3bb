"""How well decisions agree with what is known of the images."""

import torch
from torch import Tensor

from latentline.core.attributes import Attribute


def agreement(column: Attribute, decided: Tensor, known: Tensor) -> float:
    """Share of decisions (N,) equal to the known values (N,); of a continuous column the coefficient of determination, at most 1.

    Where all known numbers are the same, which leaves nothing to explain, it is 1 if every decision is right and else 0.
    """
    if column.kind != "continuous":
        return float((decided == known).float().mean())
    known = known.double()
    residual, variation = (decided - known).square().sum(), (known - known.mean()).square().sum()
    return float(1 - residual / variation if variation > 0 else residual == 0)


def constant_agreement(column: Attribute, known: Tensor) -> float:
    """What the best constant answer to ``known`` (N,) would reach."""
    if column.kind == "continuous":
        return 0.0
    return float(known.unique(return_counts=True)[1].max() / len(known))


def confusion_counts(column: Attribute, decided: Tensor, known: Tensor) -> Tensor:
    """How many images of each class (rows) were taken for each class (columns), from classes (N,) decided and known: int64 (K, K)."""
    pairs = known.long() * column.num_logits + decided.long()
    return torch.bincount(pairs, minlength=column.num_logits**2).reshape(column.num_logits, column.num_logits)
