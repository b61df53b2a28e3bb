"""Conditioning of a denoiser on labels and captions, and the labels of samples."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.core.attributes import CLASS, Attribute, cond_dim, encode_attributes
from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.core.labels import LabelTable, Schema, class_names
from latentline.latents.caption_states import CaptionStates
from latentline.latents.tokenizer import PADDING, CaptionTokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conditioning:
    """The attributes that a denoiser is conditioned on, and the tokenizer and encoder of its captions.

    Without any it is unconditional.
    """

    attributes: Schema
    tokenizer: CaptionTokenizer | None = None
    """None = it is not conditioned on captions."""
    states: CaptionStates | None = None
    """Maps tokens to the states of a pretrained text encoder; None = the network maps the tokens itself."""

    @property
    def cond_dim(self) -> int:
        """F, the length of a condition's vector."""
        return cond_dim(self.attributes)

    @property
    def names(self) -> list[str]:
        """Names of the attributes, for the checkpoint."""
        return [attribute.name for attribute in self.attributes]

    def encode(self, labels: LabelTable, tokens: Tensor | None = None) -> Condition:
        """Return the condition of N images, on the CPU.

        Args:
            labels: may hold more than these attributes, or lack values.
            tokens: of the captions, integers (N, L); None = no image has a caption. Unused without a tokenizer.
        """
        return self._with_tokens(encode_attributes(self.attributes, labels.select(self.names).values), tokens)

    def null(self, count: int) -> Condition:
        """Return the null condition of ``count`` examples."""
        return self._with_tokens(torch.zeros(count, self.cond_dim), None)

    def of_captions(self, tokens: Tensor) -> Condition:
        """Return the condition on captions alone, of tokens (N, L), with every label unknown."""
        return self._with_tokens(torch.zeros(len(tokens), self.cond_dim), tokens)

    def _with_tokens(self, vector: Tensor, tokens: Tensor | None) -> Condition:
        if self.tokenizer is None:
            return Condition(vector)
        if tokens is None:
            tokens = torch.full((len(vector), self.tokenizer.length), PADDING, dtype=torch.int32)
            states = None if self.states is None else self.states.padding(*tokens.shape)
        else:
            states = None if self.states is None else self.states(tokens)
        return Condition(vector, tokens if states is None else states, tokens != PADDING)

    @property
    def is_conditional(self) -> bool:
        """Whether there is anything to condition on, and so to guide towards."""
        return bool(self.attributes or self.tokenizer)

    def guidance(self, guidance_scale: float, setting: str) -> float:
        """Return the scale to use: 1, with a line in the log, where the denoiser is unconditional.

        Args:
            guidance_scale: as set.
            setting: its name, for the log.
        """
        if self.is_conditional or guidance_scale == 1:
            return guidance_scale
        log.info("%s has no effect: the denoiser is unconditional", setting)
        return 1.0


def build_conditioning(
    wanted: str,
    schema: Sequence[Attribute],
    tokenizer: CaptionTokenizer | None = None,
    states: CaptionStates | None = None,
) -> Conditioning:
    """Return the conditioning for ``denoiser.condition``: ``all``, the ``class``, the captions (``text``) or ``none``.

    Args:
        wanted: ``all`` = all attributes of the data and the captions, as far as there are any.
        schema: of the labels.
        tokenizer: of the captions; None = the images have none.
        states: of the captions, where a pretrained encoder reads them.

    Raises:
        UserError: the class is wanted, or captions are, and there are none.
    """
    require_conditions(wanted, schema, captions=tokenizer is not None)
    names = [attribute.name for attribute in schema]
    wanted_names = {"all": names, "class": [CLASS], "text": [], "none": []}[wanted]
    if wanted not in ("all", "text"):
        tokenizer = states = None
    return conditioning_on(wanted_names, schema, tokenizer, states)


def require_conditions(wanted: str, schema: Sequence[Attribute], *, captions: bool) -> None:
    """Refuse ``denoiser.condition`` (``wanted``) for images that lack what it names.

    Args:
        wanted: its value.
        schema: of the labels.
        captions: whether the images have captions.

    Raises:
        UserError: the class is wanted, or captions are, and there are none.
    """
    if wanted == "class" and CLASS not in [attribute.name for attribute in schema]:
        raise UserError(
            "denoiser.condition (class) must be all or none for images without class labels; "
            "set it to one of them, or label the images"
        )
    if wanted == "text" and not captions:
        raise UserError(
            "denoiser.condition (text) must be all, class or none for images without captions; "
            "set it to one of them, or add captions (docs/text.md)"
        )


def conditioning_on(
    names: Sequence[str],
    schema: Sequence[Attribute],
    tokenizer: CaptionTokenizer | None = None,
    states: CaptionStates | None = None,
) -> Conditioning:
    """Return the conditioning on the attributes of ``schema`` that are called ``names``, and on captions."""
    return Conditioning(tuple(attribute for attribute in schema if attribute.name in names), tokenizer, states)


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
