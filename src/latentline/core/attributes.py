"""Attributes of images: a column of labels, as a condition and as the output of a classifier. The class is one of them.

    kind          value                     as a condition                  as logits of a classifier
    binary        0 or 1                    -1 or 1                         one logit
    categorical   index into ``classes``    one-hot                         one logit per class
    continuous    the number                1, standardised number          the standardised number

Values are float32 (N, A), one column for each attribute. NaN marks a missing value, which the class never has. A
condition of zeros is the null condition; that of a missing value is zeros, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

CLASS = "label"
"""Name of the attribute that is the class; no other attribute has it, since that column of a CSV is the class."""


@dataclass(frozen=True)
class Attribute:
    """One column of labels."""

    name: str
    kind: Literal["binary", "categorical", "continuous"]
    classes: tuple[str, ...] = ()
    """Names of the categories; empty for other kinds."""
    mean: float = 0.0
    """Mean over the training images; of a continuous attribute only."""
    std: float = 1.0
    """Standard deviation over the training images; of a continuous attribute only."""

    @property
    def num_logits(self) -> int:
        """Number K of outputs that a classifier of this attribute has."""
        return len(self.classes) if self.kind == "categorical" else 1

    def encode(self, values: Tensor) -> Tensor:
        """Return the part (N, F) of a condition for values (N,); zeros for a missing value."""
        missing = values.isnan()
        filled = values.masked_fill(missing, 0)
        if self.kind == "categorical":
            part = F.one_hot(filled.long(), len(self.classes)).float()  # (N, classes)
        elif self.kind == "binary":
            part = 2 * filled[:, None] - 1  # (N, 1)
        else:
            part = torch.stack([torch.ones_like(filled), (filled - self.mean) / self.std], dim=1)  # (N, 2)
        return part.masked_fill(missing[:, None], 0)

    def loss(self, logits: Tensor, values: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Return the loss of logits (N, K) for values (N,), the mean over the rows that have a value.

        It is the cross-entropy or, of numbers, the mean squared error in standard deviations. It is 0 where no row has
        a value.
        """
        if (missing := values.isnan()).any():
            logits, values = logits[~missing], values[~missing]
        if not len(values):
            return logits.sum()  # 0, with gradients of 0
        return self.complete_loss(logits, values, label_smoothing)

    def losses(self, logits: Tensor, values: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Return the loss (N,) of each row, 0 for a missing value. A GPU is not waited for."""
        rows = self.complete_loss(logits, values.nan_to_num(), label_smoothing, "none")
        return rows.masked_fill(values.isnan(), 0)

    def complete_loss(
        self, logits: Tensor, values: Tensor, label_smoothing: float = 0.0, reduction: str = "mean"
    ) -> Tensor:
        """Return the loss where every row has a value: its mean, or with ``none`` that of each row (N,).

        A GPU is not waited for.
        """
        if self.kind == "categorical":
            return F.cross_entropy(logits, values.long(), label_smoothing=label_smoothing, reduction=reduction)
        if self.kind == "binary":
            targets = values * (1 - label_smoothing) + label_smoothing / 2
            return F.binary_cross_entropy_with_logits(logits[:, 0], targets, reduction=reduction)
        return F.mse_loss(logits[:, 0], (values - self.mean) / self.std, reduction=reduction)

    def predict(self, logits: Tensor) -> Tensor:
        """Return the values (N,) that logits (N, K) predict."""
        if self.kind == "categorical":
            return logits.argmax(dim=1).float()
        return (logits[:, 0] > 0).float() if self.kind == "binary" else logits[:, 0] * self.std + self.mean


def with_statistics(attributes: Sequence[Attribute], values: Tensor) -> tuple[Attribute, ...]:
    """Return ``attributes`` with the mean and standard deviation of ``values`` (N, A); a constant column has std 1.

    Missing values are left out. A column of numbers must have at least one value.
    """
    if not attributes:
        return ()
    means, stds = values.double().mean(dim=0).tolist(), values.double().std(dim=0, correction=0).tolist()
    for index in values.isnan().any(dim=0).nonzero()[:, 0].tolist():
        column = values[:, index].double()
        present = column[~column.isnan()]
        means[index], stds[index] = float(present.mean()), float(present.std(correction=0))
    return tuple(
        replace(attribute, mean=mean, std=std or 1.0) if attribute.kind == "continuous" else attribute
        for attribute, mean, std in zip(attributes, means, stds, strict=True)
    )


def encode_attributes(attributes: Sequence[Attribute], values: Tensor) -> Tensor:
    """Return the vector (N, F) of a condition for values (N, A); F = 0 without attributes."""
    parts = (attribute.encode(column) for attribute, column in zip(attributes, values.T, strict=True))
    return torch.cat([values.new_empty(len(values), 0), *parts], dim=1)


def cond_dim(attributes: Sequence[Attribute]) -> int:
    """Return the length F of the vector of :func:`encode_attributes`."""
    return encode_attributes(attributes, torch.zeros(1, len(attributes))).shape[1]


def num_logits(attributes: Sequence[Attribute]) -> int:
    """Return how many outputs a classifier of all ``attributes`` has."""
    return sum(attribute.num_logits for attribute in attributes)


def split_logits(attributes: Sequence[Attribute], logits: Tensor) -> tuple[Tensor, ...]:
    """Split the logits (N, K) of a classifier into those of each attribute."""
    return logits.split([attribute.num_logits for attribute in attributes], dim=1)


def predict(attributes: Sequence[Attribute], logits: Tensor) -> Tensor:
    """Return the values (N, A) that logits (N, K) of a classifier predict."""
    split = zip(attributes, split_logits(attributes, logits), strict=True)
    columns = [attribute.predict(part) for attribute, part in split]
    return torch.stack(columns, dim=1) if columns else torch.empty(len(logits), 0)


def most_frequent(values: Tensor, count: int) -> Tensor:
    """Return the ``count`` most frequent of the class indices (N,), in ascending order; all where there are fewer."""
    present, frequencies = values.long().unique(return_counts=True)
    return present[frequencies.argsort(descending=True, stable=True)[:count]].sort().values
