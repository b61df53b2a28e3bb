"""Fill a painted part of an image."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from latentline.core.attributes import CLASS
from latentline.core.errors import UserError
from latentline.data.store import to_uint8, to_unit_range
from latentline.explorer.session import Session
from latentline.explorer.start_images import StartImage


def can_repair(session: Session) -> bool:
    """Return whether there is a denoiser of latent maps, which inpainting needs."""
    return session.has_denoiser and len(session.model.latent_shape) == 3


def mask_of_layers(layers: list[NDArray[Any]], sides: tuple[int, int]) -> Tensor:
    """Return the painted pixels, bool (H, W): those that a layer covers by more than a quarter.

    Args:
        layers: RGBA uint8 (h, w, 4) each, of any size.
        sides: (H, W).
    """
    painted = torch.zeros(sides, dtype=torch.bool)
    for layer in layers:
        alpha = torch.from_numpy(np.ascontiguousarray(layer[..., 3])).float()[None, None] / 255
        shrunk = F.adaptive_avg_pool2d(alpha, (min(sides[0], alpha.shape[-2]), min(sides[1], alpha.shape[-1])))
        painted |= F.interpolate(shrunk, sides, mode="nearest")[0, 0] > 0.25
    return painted


@torch.no_grad()
def repair(
    session: Session,
    source: StartImage,
    mask: Tensor,
    label: str | None = None,
    seed: int = 0,
) -> Tensor:
    """Return uint8 images (3, C, H, W): original, the part that stays, filled.

    Args:
        session: a run that :func:`can_repair`.
        source: the image.
        mask: bool (H, W), True = to fill.
        label: class to fill with; None = the null condition.
        seed: of the noise.

    Raises:
        UserError: nothing is painted, or an unknown class.
    """
    if not bool(mask.any()):
        raise UserError("mask (nothing) must cover a part of the image; paint over what to replace")
    model = session.model
    condition = None if label is None else session.condition({CLASS: label})
    filled = model.inpaint(to_unit_range(source.image), mask, condition, seed=seed)
    kept = source.image.masked_fill(mask, 255)
    return torch.cat([source.image, kept, to_uint8(filled).cpu()])
