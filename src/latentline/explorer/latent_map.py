"""The latents of many images as points of a plane, and the images around a point."""

from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

import torch
from torch import Tensor

from latentline.core.errors import UserError
from latentline.core.inputs import require_number
from latentline.explorer.session import Session
from latentline.explorer.start_images import decoded

WAYS = ("PCA", "t-SNE")
_AROUND = 5  # rows and columns of the images around a point
_SPREAD = 0.6  # distance between them, in standard deviations of the map's points
_ROUNDS = 500  # of t-SNE
_lock = Lock()


@dataclass(frozen=True)
class LatentMap:
    """Points (N, 2) of the gallery's latents. A map by PCA is a plane of the latents, which has an inverse."""

    points: Tensor
    axes: Tensor | None = None
    """Orthonormal (2, F), of PCA; None = the map has no inverse."""
    explained: float = 0.0
    """Fraction of the latents' variance in the plane; PCA only."""

    def nearest(self, x: float, y: float, count: int) -> Tensor:
        """Return the indices of the nearest points, int64 (count,)."""
        return (self.points - torch.tensor([x, y])).norm(dim=1).argsort()[:count]


def latent_map(session: Session, way: str) -> LatentMap:
    """Return the map; the first call of each way computes it. Raises UserError for another way."""
    if way not in WAYS:
        raise UserError(f"map ({way}) must be one of {', '.join(WAYS)}; correct it")
    with _lock:
        return _computed(session, way)


@lru_cache(maxsize=4)
def _computed(session: Session, way: str) -> LatentMap:
    flat = session.gallery().flat
    centred = flat - flat.mean(dim=0)
    _, sizes, axes = torch.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * axes[:2].sum(dim=1, keepdim=True).sign()  # the sign of a singular vector is arbitrary
    if way == "PCA":
        share = float(sizes[:2].square().sum() / sizes.square().sum())
        return LatentMap(centred @ axes.T, axes, share)
    from sklearn.manifold import TSNE

    start = (centred @ axes.T).numpy()
    perplexity = min(30.0, (len(flat) - 1) / 3)
    found = TSNE(perplexity=perplexity, init=start / start.std() * 1e-4, max_iter=_ROUNDS, random_state=0)
    return LatentMap(torch.from_numpy(found.fit_transform(centred.numpy())).float())


@torch.no_grad()
def around(session: Session, way: str, x: float, y: float) -> Tensor:
    """Return uint8 images (25, C, H, W) at and around a point, row by row from the upper left.

    On a map by PCA they are decoded from the latent of the nearest image, moved within the plane. On other maps they
    are the decoded latents of the 25 nearest images, the nearest in the middle.

    Args:
        session: the run.
        way: of the map.
        x: of the point.
        y: of the point, upwards.
    """
    x, y = (require_number("point", value, -1e6, 1e6) for value in (x, y))
    found, gallery = latent_map(session, way), session.gallery()
    if found.axes is None:
        order = found.nearest(x, y, _AROUND**2)
        middle = torch.cat([order[1 : 1 + len(order) // 2], order[:1], order[1 + len(order) // 2 :]])
        return decoded(session, gallery.z0[middle])
    (index,) = found.nearest(x, y, 1).tolist()
    step = _SPREAD * found.points.std(dim=0)
    half = torch.arange(_AROUND) - _AROUND // 2
    down, right = torch.meshgrid(-half, half, indexing="ij")  # y is upwards
    offsets = torch.stack([right, down], dim=-1).reshape(-1, 2) * step  # (25, 2)
    target = torch.tensor([x, y]) + offsets - found.points[index]
    flat = gallery.flat[index] + target @ found.axes  # (25, F)
    return decoded(session, flat.reshape(-1, *session.model.latent_shape))
