"""Edit images by their latents, and decode them: everything that the edited images depend on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from latentline.autoencoders.load import TrainedAutoencoder
from latentline.core.finite import require_finite
from latentline.core.labels import LabelTable
from latentline.core.progress import with_progress
from latentline.denoisers.load import load_denoiser
from latentline.editing.directions import move
from latentline.editing.targets import Target
from latentline.latents.cache import LatentStats
from latentline.runtime.resumable_map import Chunk, ResumableMap
from stages.manipulate.directions import Directions
from stages.manipulate.edit_inputs import EditBatch
from stages.manipulate.params import ManipulateParams
from stages.manipulate.sdedit import SDEdit


@dataclass(frozen=True)
class Editor:
    """The way from a latent to an edited image: shift, SDEdit where there is one, decoder."""

    autoencoder: TrainedAutoencoder
    stats: LatentStats
    sdedit: SDEdit | None

    def decode(self, z0: Tensor, noise: Tensor | None) -> Tensor:
        """Decode standardised flat latents (N, F) to uint8 images (N, C, H, W).

        Args:
            z0: (N, F).
            noise: (N, *noise_shape) where the autoencoder decodes from noise; None = the noise of rows 0 to N - 1.

        Raises:
            UserError: a latent is NaN or infinite.
        """
        raw = self.stats.normalizer.restore(z0.unflatten(1, self.stats.shape))
        require_finite(raw, "manipulate.strengths", "take the largest ones out")
        return self.autoencoder.decode(raw, noise)

    def edit(self, batch: EditBatch, target: Target, direction: Tensor, distances: Tensor) -> Tensor:
        """Move images towards ``target``.

        SDEdit is conditioned on the target. At distances of 0 and below it is conditioned on the image's own labels.

        Args:
            batch: B images.
            target: of the direction.
            direction: of length 1, (F,).
            distances: of each image along the direction, (B,).

        Returns:
            uint8 (B, C, H, W).
        """
        z0 = move(batch.z0, direction, distances[:, None])
        if self.sdedit:
            towards, values = (distances > 0)[:, None], batch.labels.values
            condition = LabelTable(self.stats.schema, torch.where(towards, target.with_target(values), values))
            z0 = self.sdedit(z0.unflatten(1, self.stats.shape), condition, batch.indices).flatten(1)
        return self.decode(z0, batch.noise)


def build_editor(params: ManipulateParams, seed: int, autoencoder: TrainedAutoencoder, stats: LatentStats) -> Editor:
    """Build the editor; the denoiser is loaded only for SDEdit. Raises UserError as ``load_denoiser`` does."""
    if params.renoise == 0:
        return Editor(autoencoder, stats, None)
    denoiser = load_denoiser(autoencoder.device, stats)
    scale = denoiser.conditioning.guidance(params.renoise_guidance_scale, "manipulate.renoise_guidance_scale")
    return Editor(autoencoder, stats, SDEdit(denoiser, params.renoise, params.renoise_steps, scale, seed))


def edited_images(
    params: ManipulateParams,
    targets: Sequence[Target],
    direction_sets: Sequence[Directions],
    batch: EditBatch,
    editor: Editor,
    chunks: ResumableMap,
) -> Iterator[Tensor]:
    """Edit the first ``manipulate.count`` non-matching images towards each target, in resumable chunks.

    Args:
        params: of the stage.
        targets: K.
        direction_sets: directions of the targets, learnt and random ones.
        batch: images to edit.
        editor: edits them.
        chunks: of the stage's state.

    Returns:
        uint8 images (B, C, H, W) for each strength, for each of ``direction_sets``, for each target, in this order.
    """
    moves = list(product(params.strengths, direction_sets, range(len(targets))))

    def edit(number: int) -> Chunk:
        strength, directions, row = moves[number]
        non_matching = batch.take(targets[row].non_matching(batch.labels.values, params.count))
        distances = torch.full((len(non_matching),), strength * float(directions.scales[row]))
        return {"images": editor.edit(non_matching, targets[row], directions.vectors[row], distances)}

    computed = chunks.map(len(moves), edit)
    return (chunk["images"] for chunk in with_progress(computed, len(moves), "edits", ready=chunks.found))
