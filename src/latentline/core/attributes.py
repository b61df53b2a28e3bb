"""What is known of images beside their pixels: columns of values, of which the class is one.

    kind          value                     as a condition                  as an output of a classifier
    binary        0 or 1                    -1 or 1                         one logit
    categorical   index into ``classes``    one-hot                         one logit per class
    continuous    the number                1, standardised number          the standardised number

Values are float32 (N, A), one column each. As a condition, zeros everywhere mean that nothing is told.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

CLASS = "label"
"""Name of the column that holds the class; no attribute has it, since a CSV's column of that name is the class."""


@dataclass(frozen=True)
class Column:
    """One column of values."""

    name: str
    kind: Literal["binary", "categorical", "continuous"]
    classes: tuple[str, ...] = ()  # of a categorical one
    mean: float = 0.0  # of the training images, where continuous
    std: float = 1.0

    @property
    def outputs(self) -> int:
        """How many numbers a classifier of this column gives."""
        return len(self.classes) if self.kind == "categorical" else 1

    def encode(self, values: Tensor) -> Tensor:
        """Values (N,) -> features of a condition (N, F)."""
        if self.kind == "categorical":
            return F.one_hot(values.long(), len(self.classes)).float()  # (N, classes)
        if self.kind == "binary":
            return 2 * values[:, None] - 1  # (N, 1)
        return torch.stack([torch.ones_like(values), (values - self.mean) / self.std], dim=1)  # (N, 2)

    def loss(self, outputs: Tensor, values: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Cross-entropy, or mean squared error of the standardised number, of outputs (N, K) for values (N,)."""
        if self.kind == "categorical":
            return F.cross_entropy(outputs, values.long(), label_smoothing=label_smoothing)
        if self.kind == "binary":
            return F.binary_cross_entropy_with_logits(outputs[:, 0], values * (1 - label_smoothing) + label_smoothing / 2)
        return F.mse_loss(outputs[:, 0], (values - self.mean) / self.std)

    def decide(self, outputs: Tensor) -> Tensor:
        """Outputs (N, K) -> the values (N,) that they stand for."""
        if self.kind == "categorical":
            return outputs.argmax(dim=1).float()
        return (outputs[:, 0] > 0).float() if self.kind == "binary" else outputs[:, 0] * self.std + self.mean


def columns_from_json(items: Sequence[dict[str, Any]]) -> tuple[Column, ...]:
    """Columns that were stored as dictionaries of their fields."""
    return tuple(Column(**{**item, "classes": tuple(item["classes"])}) for item in items)


def all_columns(classes: Sequence[str], attributes: Sequence[Column]) -> tuple[Column, ...]:
    """The class, where there is one, then the attributes."""
    return ((Column(CLASS, "categorical", tuple(classes)),) if classes else ()) + tuple(attributes)


def all_values(count: int, labels: Tensor | None, attributes: Tensor | None) -> Tensor:
    """Values (count, A) of :func:`all_columns` from labels (count,) and attributes (count, A)."""
    parts = [torch.empty(count, 0)]
    if labels is not None:
        parts.append(labels[:, None].float())
    if attributes is not None:
        parts.append(attributes)
    return torch.cat(parts, dim=1)


def measured(columns: Sequence[Column], values: Tensor) -> tuple[Column, ...]:
    """``columns`` with mean and standard deviation of ``values`` (N, A) filled in; a number that never varies keeps its scale."""
    means, stds = values.double().mean(dim=0).tolist(), values.double().std(dim=0, correction=0).tolist()
    return tuple(
        replace(column, mean=mean, std=std or 1.0) if column.kind == "continuous" else column
        for column, mean, std in zip(columns, means, stds, strict=True)
    )


def condition(columns: Sequence[Column], values: Tensor) -> Tensor:
    """Values (N, A) -> the condition (N, F) of a denoiser; F = 0 without columns."""
    return torch.cat([torch.empty(len(values), 0), *(column.encode(value) for column, value in zip(columns, values.T, strict=True))], dim=1)


def condition_features(columns: Sequence[Column]) -> int:
    """F of :func:`condition`."""
    return condition(columns, torch.zeros(1, len(columns))).shape[1]


def split_outputs(columns: Sequence[Column], outputs: Tensor) -> tuple[Tensor, ...]:
    """All outputs (N, K) of a classifier -> those of each column, (N, its outputs)."""
    return outputs.split([column.outputs for column in columns], dim=1)


def decide(columns: Sequence[Column], outputs: Tensor) -> Tensor:
    """All outputs (N, K) -> values (N, A)."""
    parts = [column.decide(part) for column, part in zip(columns, split_outputs(columns, outputs), strict=True)]
    return torch.stack(parts, dim=1) if parts else torch.empty(len(outputs), 0)
