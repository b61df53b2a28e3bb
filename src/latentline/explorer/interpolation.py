"""Images between two images, on a line or a great circle between their latents."""

import torch
from torch import Tensor

from latentline.core.errors import UserError
from latentline.core.inputs import require_integer
from latentline.data.store import to_unit_range
from latentline.editing.mixtures import linear, spherical
from latentline.explorer.session import Session
from latentline.explorer.start_images import StartImage, decoded

WAYS = {"linear": linear, "spherical": spherical}
MAX_IMAGES = 48


@torch.no_grad()
def interpolate(session: Session, start: StartImage, end: StartImage, count: int, way: str) -> Tensor:
    """Return uint8 images (count, C, H, W) from one image to another, both decoded ends included.

    A diffusion autoencoder's x_T goes from one image's own to the other's, on the great circle, as in its paper
    (arXiv 2111.15640, section 4.3).

    Raises:
        UserError: another number of images or another way.
    """
    require_integer("images", count, 2)
    if count > MAX_IMAGES or way not in WAYS:
        raise UserError(
            f"images ({count}) must be at most {MAX_IMAGES}, and the way ({way}) one of {', '.join(WAYS)}; correct it"
        )
    fractions = torch.linspace(0, 1, count)
    between = WAYS[way](start.z0.cpu().flatten(1), end.z0.cpu().flatten(1), fractions)[0]  # (count, F)
    noise = None
    if session.model.autoencoder.network.noise_shape is not None:
        both = [session.model.invert(to_unit_range(one.image), one.z0).cpu() for one in (start, end)]
        noise = spherical(both[0].flatten(1), both[1].flatten(1), fractions)[0].reshape(count, *both[0].shape[1:])
    return decoded(session, between.reshape(count, *session.model.latent_shape), noise)
