"""Edits of images by a trained model: fill a masked part, or redo all of an image up to a strength.

:class:`latentline.TrainedModel` has these functions as methods. An image's noise depends on the seed and its index
alone, so that the result is the same for any batch size.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from latentline.core.condition import Condition, Mixture
from latentline.core.errors import UserError
from latentline.core.inputs import mask_batch, require_integer, require_same_length, time_in_range
from latentline.core.seeds import start_noise
from latentline.diffusion.dpmpp_2m import dpmpp_2m
from latentline.diffusion.sdedit import sdedit as sdedit_latents
from latentline.diffusion.time_grid import time_grid
from latentline.samplers.repaint import repaint

if TYPE_CHECKING:
    from latentline.trained_model import TrainedModel


def inpaint(
    model: "TrainedModel",
    images: Tensor,
    mask: Tensor,
    condition: Condition | Mixture | None = None,
    *,
    seed: int = 0,
    first: int = 0,
    steps: int = 16,
    resamplings: int = 10,
    jump: int = 1,
    guidance_scale: float = 1.0,
) -> Tensor:
    """Fill the masked part of images to fit the rest: RePaint in latents (arXiv 2201.09865), then a seam in pixels.

    Args:
        model: a run whose latents are maps or pixels.
        images: (B, C, H, W) in [-1, 1]; pixels under the mask have no effect.
        mask: bool (B, 1, H, W), or (H, W) for all images; True = to fill.
        condition: from ``model.condition`` or ``model.mix``, of B examples or of one; None = the null condition.
        seed: of the noise.
        first: index of the first image, for callers that fill a long series in batches.
        steps: from noise to data.
        resamplings: how often each step is taken; 1 = no resampling.
        jump: steps that are taken before they are repeated, below ``steps``.
        guidance_scale: of classifier-free guidance; 1 = off.

    Returns:
        Images (B, C, H, W). Outside the mask they are the given ones, to the bit.

    Raises:
        UserError: latents are vectors, or an argument has another shape, type or range.
    """
    if len(model.latent_shape) != 3:
        raise UserError(
            f"latents of shape {model.latent_shape} must be maps (C, H, W) for inpaint, since each number of a vector "
            "covers the whole image; train an identity, ae or vae with autoencoder.latent_dim null"
        )
    x = model._images(images)
    hidden = mask_batch(mask, len(x), model.image_shape[1:], model.device)
    for name, value, least in (("first", first, 0), ("steps", steps, 1), ("resamplings", resamplings, 1)):
        require_integer(name, value, least)
    require_integer("jump", jump, 1)
    if resamplings > 1 and jump >= steps:
        raise UserError(f"jump ({jump}) must be below steps ({steps}); lower it, or set resamplings to 1")
    denoiser = model._model(condition, len(x), guidance_scale)
    if not bool(hidden.any()):
        return x
    indices = torch.arange(first, first + len(x))

    def noise(name: str) -> Tensor:
        return start_noise(seed, name, indices, model.latent_shape).to(model.device)

    cell = _cell(model)
    z0 = repaint(
        denoiser,
        noise("inpaint"),
        time_grid(steps),
        noise_fn=lambda index: noise(f"inpaint/step {index}"),
        z0=model._encoded(x.masked_fill(hidden, 0)),  # grey: what the mask hides must not reach the latents beside it
        fill=latent_mask(hidden, cell),
        resamplings=resamplings,
        jump=jump,
    )
    return blend(x, model.decode(model._finite(z0, guidance_scale)), hidden, cell)


def sdedit(
    model: "TrainedModel",
    images: Tensor,
    strength: float,
    condition: Condition | Mixture | None = None,
    *,
    z0: Tensor | None = None,
    seed: int = 0,
    first: int = 0,
    steps: int = 16,
    guidance_scale: float = 1.0,
) -> Tensor:
    """Add noise to images up to t = ``strength`` and denoise them (SDEdit, Meng et al., arXiv 2108.01073).

    The noise is added to the latents, which are then denoised under ``condition``. A diffusion autoencoder adds it to
    the image that its decoder diffuses, and denoises that under ``z0``.

    Args:
        model: any run.
        images: (B, C, H, W) in [-1, 1].
        strength: the t, in (0, 1]: 1 keeps nothing of the image, except z0 of a diffusion autoencoder.
        condition: from ``model.condition`` or ``model.mix``, of B examples or of one; None = the null condition. Not
            with ``diffae``.
        z0: standardised latents (B, *latent_shape) of a diffusion autoencoder; None = the images' own.
        seed: of the noise.
        first: index of the first image, for callers that edit a long series in batches.
        steps: of DPM-Solver++, evenly from ``strength`` to 0. A diffusion autoencoder takes its own.
        guidance_scale: of classifier-free guidance; 1 = off. Without effect with ``diffae``.

    Returns:
        Images (B, C, H, W).

    Raises:
        UserError: an argument has another shape, type or range, or does not fit the autoencoder.
    """
    x, t = model._images(images), time_in_range(strength, "strength", zero=False)
    require_integer("first", first, 0)
    require_integer("steps", steps, 1)
    indices = torch.arange(first, first + len(x))
    if z0 is not None or model.autoencoder.network.noise_shape is not None:
        shape = model._require_noise("sdedit with z0")
        if condition is not None:
            raise UserError("condition must be None for sdedit with a diffae, which is conditioned on z0; pass z0")
        require_same_length(images=x, z0=z0)
        if not len(x):
            return x
        raw = model._raw(model._encoded(x) if z0 is None else z0)
        return model.autoencoder.network.sdedit(x, raw, t, start_noise(seed, "sdedit", indices, shape).to(model.device))
    denoiser = model._model(condition, len(x), guidance_scale)
    if not len(x):
        return x
    noise = start_noise(seed, "sdedit", indices, model.latent_shape).to(model.device)
    edited = sdedit_latents(dpmpp_2m, denoiser, model._encoded(x), noise, t, steps)
    return model.decode(model._finite(edited, guidance_scale))


def latent_mask(mask: Tensor, cell: tuple[int, int]) -> Tensor:
    """Return which positions of a latent map to fill, bool (B, 1, h, w): all with a pixel to fill.

    Args:
        mask: of pixels, bool (B, 1, H, W).
        cell: pixels (height, width) of a position; the last position of a row or column may have fewer.
    """
    below, right = -mask.shape[-2] % cell[0], -mask.shape[-1] % cell[1]
    return F.max_pool2d(F.pad(mask.float(), (0, right, 0, below)), cell) > 0


def blend(images: Tensor, filled: Tensor, mask: Tensor, cell: tuple[int, int]) -> Tensor:
    """Return ``images`` with ``filled`` under the mask, without a step at the seam, (B, C, H, W) each.

    Decoding changes kept pixels a little. Their mean change within one ``cell`` is taken back from the filled pixels
    near them: almost entirely at the seam, and not at all where no pixel within a cell is kept.

    Args:
        images: returned as they are outside the mask.
        filled: decoded images.
        mask: bool (B, 1, H, W); True = filled.
        cell: (height, width) of the seam in pixels.
    """

    def near(values: Tensor) -> Tensor:
        size = (2 * cell[0] + 1, 2 * cell[1] + 1)
        return F.avg_pool2d(values, size, stride=1, padding=cell, count_include_pad=False)

    kept = (~mask).to(images.dtype)
    share = near(kept)  # about one half at a straight seam
    change = near(kept * (images - filled)) / share.clamp(min=torch.finfo(share.dtype).eps)
    return torch.where(mask, filled + change * (2 * share).clamp(max=1), images)


def _cell(model: "TrainedModel") -> tuple[int, int]:
    """Return the pixels (height, width) of one position of the latent map: encoders halve, so a power of 2."""
    (_, height, width), (_, h, w) = model.image_shape, model.latent_shape
    return _power_of_2(-(-height // h)), _power_of_2(-(-width // w))


def _power_of_2(least: int) -> int:
    """Return the smallest power of 2 that is at least ``least``."""
    return 1 << (least - 1).bit_length()
