"""Targets of edits: the class, attribute or number that an image is edited towards."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.core.attributes import CLASS, Attribute
from latentline.core.errors import UserError
from latentline.editing.directions import mean_differences

_MAX_LISTED = 60  # names in an error


@dataclass(frozen=True)
class Target:
    """One class of a categorical attribute, presence of a binary one, or a number above the training images' mean."""

    column_index: int
    """Column of the attribute in the table of labels."""
    attribute: Attribute
    class_index: int
    """Index of the class; 0 for binary and continuous attributes."""

    @property
    def name(self) -> str:
        """Class name, ``attribute=value`` of another categorical attribute, or the name of the attribute."""
        if not self.attribute.classes:
            return self.attribute.name
        value = self.attribute.classes[self.class_index]
        return value if self.attribute.name == CLASS else f"{self.attribute.name}={value}"

    def matches(self, values: Tensor) -> Tensor:
        """Return which images, by their values (N, A), have the target already: bool (N,); False without a value."""
        column = values[:, self.column_index]
        if self.attribute.classes:
            return column == self.class_index
        return column > (0.5 if self.attribute.kind == "binary" else self.attribute.mean)

    def unknown(self, values: Tensor) -> Tensor:
        """Return which images, by their values (N, A), have no value of the attribute: bool (N,)."""
        return values[:, self.column_index].isnan()

    def non_matching(self, values: Tensor, count: int) -> Tensor:
        """Return the rows of the first ``count`` images without the target: int64 (M,), M at most ``count``.

        Images without a value of the attribute are left out.
        """
        return (self.matches(values) | self.unknown(values)).logical_not().nonzero()[:count, 0]

    def with_target(self, values: Tensor) -> Tensor:
        """Return values (N, A) with the target set: the class, 1, or one standard deviation above the mean."""
        changed = values.clone()
        number = {
            "categorical": float(self.class_index),
            "binary": 1.0,
            "continuous": self.attribute.mean + self.attribute.std,
        }
        changed[:, self.column_index] = number[self.attribute.kind]
        return changed


def all_targets(schema: Sequence[Attribute]) -> list[Target]:
    """Return one target for each logit of a classifier of ``schema``, in that order."""
    return [
        Target(column_index, attribute, class_index)
        for column_index, attribute in enumerate(schema)
        for class_index in range(attribute.num_logits)
    ]


def require_names(setting: str, wanted: Sequence[str], names: Sequence[str]) -> None:
    """Raise UserError unless each of ``wanted``, the value of ``setting``, is one of ``names``."""
    for name in wanted:
        if name not in names:
            if not names:
                raise UserError(f"{setting} ({name!r}) must be empty for images without labels; remove the name")
            listed = ", ".join([*names[:_MAX_LISTED], *(["..."] if len(names) > _MAX_LISTED else [])])
            raise UserError(f"{setting} ({name!r}) must be one of {listed}; correct it")


def target_differences(targets: Sequence[Target], latents: Tensor, values: Tensor) -> Tensor:
    """Return :func:`mean_differences` of the targets, (K, F), K > 0.

    Args:
        targets: K of them.
        latents: (N, F).
        values: of the labels of the same images, (N, A).
    """
    matches, unknown = (
        torch.stack([found(target, values) for target in targets], dim=1) for found in (Target.matches, Target.unknown)
    )  # (N, K) each
    return mean_differences(latents, matches, unknown)


def evenly_spaced(rows: Sequence[int], count: int) -> list[int]:
    """Return ``count`` of more ``rows``, evenly spaced, beginning with the first."""
    return [rows[index * len(rows) // count] for index in range(count)]
