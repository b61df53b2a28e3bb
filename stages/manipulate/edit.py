"""Edit images by their latents, and decode them each in the way of its autoencoder."""

from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.autoencoders.load import TrainedAutoencoder
from latentline.core.labels import LabelTable
from latentline.denoisers.load import load_denoiser
from latentline.editing.directions import move
from latentline.editing.targets import Target
from latentline.latents.cache import LatentStats
from stages.manipulate.edit_inputs import Pictures
from stages.manipulate.params import ManipulateParams
from stages.manipulate.sdedit import Renoiser


@dataclass(frozen=True)
class Directions:
    """Unit directions (K, F), one per target, and the distance (K,) that counts as strength 1."""

    vectors: Tensor
    scales: Tensor


@dataclass(frozen=True)
class Editor:
    """All that it takes from a latent to an image: a renoiser, where there is one, then the codec."""

    autoencoder: TrainedAutoencoder
    stats: LatentStats
    renoiser: Renoiser | None

    def decode(self, z0: Tensor, noise: Tensor | None) -> Tensor:
        """Standardised flat latents (N, F), decoded from ``noise`` (N, *noise_shape) where the codec does -> uint8 images (N, C, H, W)."""
        return self.autoencoder.decode(self.stats.normalizer.restore(z0.unflatten(1, self.stats.shape)), noise)

    def edit(self, pictures: Pictures, target: Target, direction: Tensor, distances: Tensor) -> Tensor:
        """Images moved towards ``target``: picture i by ``distances`` (N,) [i] along ``direction`` (F,) -> uint8 (N, C, H, W).

        The renoiser is told the target, of images that move away from it or not at all what they are.
        """
        z0 = move(pictures.z0, direction, distances[:, None])
        if self.renoiser:
            towards = (distances > 0)[:, None]
            told = torch.where(towards, target.told(pictures.values), pictures.values)
            z0 = self.renoiser(
                z0.unflatten(1, self.stats.shape), LabelTable(self.stats.schema, told), pictures.numbers
            ).flatten(1)
        return self.decode(z0, pictures.noise)


def build_editor(params: ManipulateParams, seed: int, autoencoder: TrainedAutoencoder, stats: LatentStats) -> Editor:
    """The editor; the denoiser is loaded only where it is asked to help. Raises UserError as ``load_denoiser`` does."""
    if params.renoise == 0:
        return Editor(autoencoder, stats, None)
    denoiser = load_denoiser(autoencoder.device, stats)
    scale = denoiser.conditioning.guidance(params.renoise_guidance_scale, "manipulate.renoise_guidance_scale")
    return Editor(autoencoder, stats, Renoiser(denoiser, params.renoise, params.renoise_steps, scale, seed))
