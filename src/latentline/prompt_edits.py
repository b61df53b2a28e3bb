"""Conditions mixed with weights, and directions between two prompts, for a trained model.

:class:`latentline.TrainedModel` has these functions as methods.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from latentline.core.condition import Condition, Mixture
from latentline.core.errors import UserError
from latentline.core.inputs import require_integer, require_number
from latentline.core.seeds import start_noise
from latentline.diffusion.flow_edit import flow_edit

if TYPE_CHECKING:
    from latentline.trained_model import TrainedModel

_MOST = 100  # of a weight's size, as of a guidance scale


def mix(model: "TrainedModel", weighted: Sequence[tuple[Condition, float]]) -> Mixture:
    """Return a mixture of conditions, which every method takes in place of a condition.

    It predicts uncond + sum of weight * (cond - uncond) (Liu et al., arXiv 2206.01714, eq. 11). One condition of
    weight w is guidance of scale w. Guidance away from a negative condition is ``[(cond, w), (negative, 1 - w)]``.

    Args:
        model: the run.
        weighted: pairs of a condition, from ``model.condition``, and its weight, from -100 to 100; below 0 = away from
            it. Conditions are of one example or of B.

    Raises:
        UserError: no pair, another type, different numbers of examples, or a weight out of range.
    """
    pairs = [(pair[0], pair[1]) for pair in weighted if isinstance(pair, tuple | list) and len(pair) == 2]
    if not pairs or len(pairs) != len(weighted) or not all(isinstance(one, Condition) for one, _ in pairs):
        raise UserError(
            f"mix ({weighted!r:.40}) must be pairs of a condition and a weight; "
            "pass [(model.condition(...), 1.5), (model.condition(...), 0.5)]"
        )
    weights = tuple(require_number("weight", weight, -_MOST, _MOST) for _, weight in pairs)
    conditions = [condition.to(model.device) for condition, _ in pairs]
    sizes = {condition.size for condition in conditions} - {1}
    if len(sizes) > 1:
        raise UserError(f"mix (conditions of {sorted(sizes)} examples) must be of one number of examples, or of 1")
    return Mixture(tuple(condition.expanded(max(sizes, default=1)) for condition in conditions), weights)


def prompt_direction(
    model: "TrainedModel",
    images: Tensor,
    source: str | Condition,
    target: str | Condition,
    *,
    strength: float = 1.0,
    seed: int = 0,
    first: int = 0,
    steps: int = 8,
) -> Tensor:
    """Return the direction (B, *latent_shape) that changes each image from one prompt towards another.

    ``model.decode(model.encode(images) + direction)`` are the edited images. It is FlowEdit (arXiv 2412.08629), see
    :func:`latentline.diffusion.flow_edit.flow_edit`: each image has its own direction, so that place and size stay.

    Args:
        model: a run whose denoiser is conditioned on captions; on anything, with conditions in place of prompts.
        images: (B, C, H, W) in [-1, 1].
        source: caption of the images, or a condition of B examples or of one.
        target: caption to go to, likewise.
        strength: factor of the difference, from -100 to 100; 1 to 3 are usual.
        seed: of the noise.
        first: index of the first image, for callers that edit a long series in batches.
        steps: of the edit; each costs two network evaluations.

    Raises:
        UserError: an argument has another shape, type or range, or the denoiser takes no captions.
    """
    x = model._images(images)
    factor = require_number("strength", strength, -_MOST, _MOST)
    require_integer("first", first, 0)
    require_integer("steps", steps, 1)
    conditions = (model.condition(prompt=one) if isinstance(one, str) else one for one in (source, target))
    before, after = (model._model(condition, len(x), 1.0) for condition in conditions)
    if not len(x):
        return x.new_empty(0, *model.latent_shape)
    indices = torch.arange(first, first + len(x))

    def noise(step: int) -> Tensor:
        return start_noise(seed, f"prompt_direction/step {step}", indices, model.latent_shape).to(model.device)

    return flow_edit(before, after, model._encoded(x), noise, steps=steps, strength=factor)


def condition_of_prompts(model: "TrainedModel", prompt: Any) -> Condition | Mixture:
    """Return the condition of a caption, or the mixture of captions with weights, ``{caption: weight}``."""
    if not isinstance(prompt, dict):
        return model.condition(prompt=prompt)
    return mix(model, [(model.condition(prompt=one), weight) for one, weight in prompt.items()])
