"""A condition from values by name, as people write it in Python."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from latentline.core.condition import Condition, Mixture
from latentline.core.errors import UserError
from latentline.core.inputs import attribute_values, require_same_length
from latentline.core.labels import LabelTable
from latentline.denoisers.conditioning import Conditioning

_PROMPT = "prompt"


def condition_of(conditioning: Conditioning, values: Mapping[str, Any]) -> Condition:
    """Return the condition of B examples, on the CPU; that of one example where every value is single.

    Args:
        conditioning: of the denoiser.
        values: of all its attributes, or of none of them; and ``prompt``, a caption or one for each example, where it
            is conditioned on captions. Without any, the result is the null condition.

    Raises:
        UserError: an unknown attribute or class, a missing attribute, different numbers of values, a prompt that is no
            text, or one that the denoiser cannot take.
    """
    prompted = conditioning.tokenizer is not None and _PROMPT in values
    columns = {_PROMPT: _tokens(conditioning, values[_PROMPT])} if prompted else {}  # (B, L) or (1, L)
    labels = {name: value for name, value in values.items() if name not in columns}
    if labels and set(labels) != set(conditioning.names):
        expected = ", ".join(conditioning.names) or "no attribute: the denoiser is unconditional"
        if conditioning.tokenizer is not None:
            expected = f"{', '.join(conditioning.names) or 'no attribute'} and, if you like, prompt"
        raise UserError(
            f"condition ({', '.join(sorted(labels))}) must name {expected}; give each of them, or none at all"
        )
    if labels:  # (B,) or (1,) each
        columns |= {one.name: attribute_values(one, labels[one.name]) for one in conditioning.attributes}
    several = {name: column for name, column in columns.items() if len(column) != 1}
    require_same_length(**several)
    count = next((len(column) for column in several.values()), 1)
    missing = torch.full((count,), torch.nan)
    table = [columns.get(name, missing).expand(count) for name in conditioning.names]
    rows = LabelTable(conditioning.attributes, torch.stack(table, dim=1) if table else torch.empty(count, 0))
    tokens = columns.get(_PROMPT) if prompted else None
    return conditioning.encode(rows, None if tokens is None else tokens.expand(count, -1))


def require_condition(condition: Any, length: int, count: int, negative_prompt: str | None) -> None:
    """Refuse what is no condition or mixture for ``count`` examples, with vectors of ``length``.

    Raises:
        UserError: another type or shape, or a negative prompt beside a mixture.
    """
    if not isinstance(condition, Condition | Mixture):
        raise UserError(
            f"condition ({condition!r:.40}) must be what model.condition returns; pass model.condition(...)"
        )
    if negative_prompt is not None and isinstance(condition, Mixture):
        raise UserError(
            f"negative_prompt ({negative_prompt!r:.40}) must be one of the mixed conditions; give it a weight below 0"
        )
    for one in condition.conditions if isinstance(condition, Mixture) else [condition]:
        if one.vector.shape[1:] != (length,) or one.size not in (1, count):
            raise UserError(
                f"condition {tuple(one.vector.shape)} must have the shape ({count}, {length}) or (1, {length}); "
                "take it from model.condition(...)"
            )


def _tokens(conditioning: Conditioning, prompt: Any) -> Tensor:
    """Return the tokens (B, L) of one caption or of B."""
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if (
        conditioning.tokenizer is None
        or not isinstance(prompts, list | tuple)
        or not all(isinstance(one, str) for one in prompts)
    ):
        raise UserError(f"prompt ({prompt!r:.40}) must be a text, or a list of texts; correct it")
    return conditioning.tokenizer.encode(prompts, "prompts")
