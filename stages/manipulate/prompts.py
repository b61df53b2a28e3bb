"""Edits between two captions (``manipulate.prompts``): their images and scores by strength."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.core.errors import UserError
from latentline.core.finite import require_finite
from latentline.core.paths import PREPARED
from latentline.core.seeds import generator, start_noise
from latentline.data.captions import read_captions
from latentline.data.store import read_split
from latentline.denoisers.guidance import Guidance, guided_model
from latentline.denoisers.load import Denoiser, load_denoiser
from latentline.diffusion.flow_edit import flow_edit
from latentline.editing.directions import random_directions
from latentline.evaluation.reconstruction import ssim
from latentline.feature_extractors.load import FeatureExtractor
from latentline.latents.tokenizer import CaptionTokenizer
from latentline.runtime.compute import channels_last
from stages.manipulate.edit import Editor
from stages.manipulate.edit_inputs import EditBatch, EditPool
from stages.manipulate.measure import unchanged
from stages.manipulate.params import ManipulateParams

_BATCH = 250  # latents at a time; does not change the result
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PromptEdits:
    """Images edited from one caption towards another."""

    prompts: tuple[str, str]
    """The caption to come from, and the one to go to."""
    originals: Tensor
    """Uint8 (N, C, H, W)."""
    images: Tensor
    """Uint8 (strengths, N, C, H, W)."""
    table: list[dict[str, float]]
    """One row per strength, see :func:`edit_between_prompts`."""


def edit_between_prompts(
    params: ManipulateParams, seed: int, pool: EditPool, rows: Tensor, editor: Editor, extractor: FeatureExtractor
) -> PromptEdits | None:
    """Edit images from the first of ``manipulate.prompts`` towards the second; None where there are no prompts.

    Of ``rows`` (M,) of the pool, test images that have the first caption are edited, where there are any. At most
    ``manipulate.count`` images are edited. Classes and attributes are left unknown, since a caption says them, too.

    The scores are ``ssim`` to the originals. With labels there are ``labels_changed``, the share of the feature
    extractor's predictions that differ from those of the originals, and ``target_labels``, the share that is as usual
    for test images of the second caption. The same names with ``_random`` are the reference: random directions of
    each edit's length.

    Raises:
        UserError: the denoiser takes no captions, or an edited latent is not finite.
    """
    if not params.prompts:
        if pool.captions is not None:
            log.info("these images have captions: manipulate.prompts edits from one caption to another")
        return None
    source, target = params.prompts
    denoiser = load_denoiser(editor.autoencoder.device, editor.stats)
    tokenizer = denoiser.conditioning.tokenizer
    if tokenizer is None:
        raise UserError(
            f"manipulate.prompts ({params.prompts!r:.60}) must be [] for a denoiser that takes no captions; "
            "set it so, or run `dvc repro train_denoiser`"
        )
    if pool.captions is not None:
        described = rows[_have(tokenizer, [pool.captions[row] for row in rows.tolist()], source)]
        log.info("%d of %d images have the caption %r", len(described), len(rows), source)
        rows = described if len(described) else rows
    batch = pool.batch(rows[: params.count], editor.autoencoder, editor.stats)
    before, usual = extractor.extract(batch.images)[1], _usual_labels(tokenizer, target)
    images, table = [], []
    for strength in params.prompt_strengths:
        moved = _directions(denoiser, tokenizer.encode(params.prompts), batch, strength, seed)
        like_it = random_directions(moved, generator(seed, "manipulate", "prompts"))
        edits = [editor.decode(batch.z0 + change, batch.noise) for change in (moved, _lengths(moved) * like_it)]
        scores = [_scores(extractor, batch.images, edited, before, usual) for edited in edits]
        reference = {f"{name}_random": value for name, value in scores[1].items()}
        images.append(edits[0])
        table.append({"strength": strength, **scores[0], **reference})
    return PromptEdits((source, target), batch.images, torch.stack(images), table)


def _have(tokenizer: CaptionTokenizer, captions: Sequence[str], wanted: str) -> Tensor:
    """Return which of N captions say the same as ``wanted`` to the denoiser: bool (N,)."""
    return (tokenizer.encode(captions) == tokenizer.encode([wanted])).all(dim=1)


def _usual_labels(tokenizer: CaptionTokenizer, caption: str) -> Tensor | None:
    """Return the usual label (A,) in each column of the test images with this caption; None where there are none."""
    captions = read_captions(PREPARED, "test") or []
    found = read_split(PREPARED, "test").labels.values[: len(captions)][_have(tokenizer, captions, caption)]
    return found.nanmedian(dim=0).values if found.numel() else None


def _lengths(vectors: Tensor) -> Tensor:
    return vectors.norm(dim=1, keepdim=True)


@torch.no_grad()
def _directions(denoiser: Denoiser, tokens: Tensor, batch: EditBatch, strength: float, seed: int) -> Tensor:
    """Return what to add to the flat latents of each image: (N, F), on the CPU.

    Args:
        denoiser: conditioned on captions.
        tokens: of both captions, integers (2, L).
        batch: N images.
        strength: of the edit.
        seed: of the noise.
    """
    directions = []
    for rows in torch.arange(len(batch)).split(_BATCH):
        indices = batch.indices[rows]

        def noise(step: int, indices: Tensor = indices) -> Tensor:
            drawn = start_noise(seed, f"manipulate/prompts/step {step}", indices, denoiser.latent_shape)
            return channels_last(drawn.to(denoiser.device))

        conditions = [denoiser.conditioning.of_captions(ids.expand(len(rows), -1)) for ids in tokens]
        source, target = (
            guided_model(denoiser.network, denoiser.process, condition.to(denoiser.device), Guidance())
            for condition in conditions
        )
        z0 = channels_last(batch.z0[rows].unflatten(1, denoiser.latent_shape).to(denoiser.device))
        directions.append(flow_edit(source, target, z0, noise, strength=strength).flatten(1).cpu())
    return require_finite(torch.cat(directions), "manipulate.prompt_strengths", "take the largest ones out")


def _scores(
    extractor: FeatureExtractor, originals: Tensor, edited: Tensor, before: Tensor, usual: Tensor | None
) -> dict[str, float]:
    """Return the scores of edited images (N, C, H, W); see :func:`edit_between_prompts`."""
    scores = {"ssim": float(ssim(edited.float() / 255, originals.float() / 255))}
    if not extractor.schema:
        return scores
    after = extractor.extract(edited)[1]
    scores["labels_changed"] = 1 - float(unchanged(extractor.schema, before, after).float().mean())
    if usual is not None:
        scores["target_labels"] = float(unchanged(extractor.schema, usual.expand_as(after), after).float().mean())
    return scores
