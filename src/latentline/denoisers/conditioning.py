"""Conditioning of a denoiser on labels, and the labels of samples."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from latentline.core.attributes import CLASS, Attribute, cond_dim, encode_attributes
from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.core.labels import LabelTable, Schema, class_names

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conditioning:
    """The attributes that a denoiser is conditioned on; without any it is unconditional."""

    attributes: Schema

    @property
    def cond_dim(self) -> int:
        """F, the length of a condition's vector."""
        return cond_dim(self.attributes)

    @property
    def names(self) -> list[str]:
        """Names of the attributes, for the checkpoint."""
        return [attribute.name for attribute in self.attributes]

    def encode(self, labels: LabelTable) -> Condition:
        """Return the condition of N images; ``labels`` may hold more than these attributes, or lack values."""
        return Condition(encode_attributes(self.attributes, labels.select(self.names).values))

    def null(self, count: int) -> Condition:
        """Return the null condition of ``count`` examples."""
        return Condition(torch.zeros(count, self.cond_dim))

    def guidance(self, guidance_scale: float, setting: str) -> float:
        """Return the scale to use: 1, with a line in the log, where the denoiser is unconditional.

        Args:
            guidance_scale: as set.
            setting: its name, for the log.
        """
        if self.attributes or guidance_scale == 1:
            return guidance_scale
        log.info("%s has no effect: the denoiser is unconditional", setting)
        return 1.0


def build_conditioning(wanted: str, schema: Sequence[Attribute]) -> Conditioning:
    """Return the conditioning for ``denoiser.condition``: ``all`` attributes of the data, the ``class`` or ``none``.

    Raises:
        UserError: the class is wanted and there is none.
    """
    names = [attribute.name for attribute in schema]
    if wanted == "class" and CLASS not in names:
        raise UserError(
            "denoiser.condition (class) must be all or none for images without class labels; "
            "set it to one of them, or label the images"
        )
    return conditioning_on({"all": names, "class": [CLASS], "none": []}[wanted], schema)


def conditioning_on(names: Sequence[str], schema: Sequence[Attribute]) -> Conditioning:
    """Return the conditioning on the attributes of ``schema`` that are called ``names``."""
    return Conditioning(tuple(attribute for attribute in schema if attribute.name in names))


def labels_for_samples(training: LabelTable, count: int) -> LabelTable:
    """Return the labels of ``count`` samples.

    Classes come in turn. All other attributes are copied from training images of the same class, in turn too. A value
    that such an image lacks stays missing, so that conditions are distributed as in training.

    Args:
        training: labels of training images.
        count: samples.
    """
    if not training.schema:
        return LabelTable((), torch.empty(count, 0))
    turn = torch.arange(count)
    classes = class_names(training.schema)
    if not classes:
        return training[turn % len(training)]
    class_of = turn % len(classes)
    values = torch.empty(count, len(training.schema))
    for label in class_of.unique().tolist():
        here = class_of == label
        rows = training.values[training.values[:, 0] == label]
        rows = rows if len(rows) else training.values  # a class without images: attributes of any image
        values[here] = rows[torch.arange(int(here.sum())) % len(rows)]
    values[:, 0] = class_of
    return LabelTable(training.schema, values)
