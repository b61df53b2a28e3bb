"""What a denoiser is told of an image, and what its samples are drawn for."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.core.attributes import CLASS, Column, condition, condition_features
from latentline.core.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conditions:
    """Some of the data's columns, as a denoiser sees them."""

    columns: tuple[Column, ...]
    places: tuple[int, ...]  # of these columns among all of the data's

    @property
    def features(self) -> int:
        """F, the width of a condition."""
        return condition_features(self.columns)

    @property
    def names(self) -> list[str]:
        """Names of the columns, for the checkpoint."""
        return [column.name for column in self.columns]

    def select(self, values: Tensor) -> Tensor:
        """Of all values (N, A) of images those of these columns."""
        return values[:, list(self.places)]

    def encode(self, values: Tensor) -> Tensor:
        """All values (N, A) known of images -> conditions (N, F)."""
        return condition(self.columns, self.select(values))

    def guidance(self, guidance_scale: float, knob: str) -> float:
        """The scale to use: 1, with a word in the log, where nothing is told that could guide."""
        if self.columns or guidance_scale == 1:
            return guidance_scale
        log.info("%s has no effect: the denoiser is unconditional", knob)
        return 1.0


def chosen_conditions(wanted: str, columns: Sequence[Column]) -> Conditions:
    """``denoiser.condition`` ``all``, ``class`` or ``none`` of the data's ``columns``. Raises UserError when there is no class."""
    names = [column.name for column in columns]
    if wanted == "class" and CLASS not in names:
        raise UserError("denoiser.condition: class, but these images have no class label; expected labelled images; set it to all or none")
    return named_conditions({"all": names, "class": [CLASS], "none": []}[wanted], columns)


def named_conditions(names: Sequence[str], columns: Sequence[Column]) -> Conditions:
    """Those of ``columns`` that are called ``names``."""
    places = tuple(place for place, column in enumerate(columns) if column.name in names)
    return Conditions(tuple(columns[place] for place in places), places)


def values_in_turn(columns: Sequence[Column], known: Tensor, count: int) -> Tensor:
    """What ``count`` samples are drawn for: classes in turn, and all else from training images (of that class).

    Args:
        columns: all of the data's.
        known: values (N, A) of training images.
        count: samples.

    Returns:
        (count, A).
    """
    if not columns:
        return torch.empty(count, 0)
    turn = torch.arange(count)
    if columns[0].name != CLASS:
        return known[turn % len(known)]
    labels = turn % len(columns[0].classes)
    values = torch.empty(count, len(columns))
    for label in labels.unique().tolist():
        here = labels == label
        rows = known[known[:, 0] == label]
        rows = rows if len(rows) else known  # a class without a training image: the rest of it is anybody's
        values[here] = rows[torch.arange(int(here.sum())) % len(rows)]
    values[:, 0] = labels
    return values
