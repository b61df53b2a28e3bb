"""Measure edits: flip rate, similarity to the originals, and identity of the other attributes."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from latentline.core.attributes import Attribute
from latentline.editing.targets import Target
from latentline.evaluation.reconstruction import ssim
from latentline.feature_extractors.load import FeatureExtractor
from stages.manipulate.edit_inputs import EditBatch
from stages.manipulate.params import ManipulateParams


def measure_edits(
    params: ManipulateParams,
    targets: Sequence[Target],
    edited: Iterator[Tensor],
    batch: EditBatch,
    extractor: FeatureExtractor,
) -> list[dict[str, float]]:
    """Score the edits at each strength.

    Args:
        params: of the stage.
        targets: K.
        edited: see :func:`stages.manipulate.edit.edited_images`, of learnt and of random directions.
        batch: the originals.
        extractor: predicts the attributes.

    Returns:
        One row per strength. ``flip_rate``: share of the edited images whose prediction matches the target.
        ``ssim``: mean structural similarity to the originals. ``identity``, where there are several attributes: share
        of the values of all other attributes that stay (:func:`unchanged`). The same names with ``_random`` are the
        reference: random directions.
    """
    before = extractor.extract(batch.images)[1]  # (N, A)
    table = []
    for strength in params.strengths:
        learnt, random = (_scores(targets, edited, batch, before, params.count, extractor) for _ in range(2))
        reference = {f"{name}_random": value for name, value in random.items()}
        table.append({"strength": strength, **learnt, **reference})
    return table


def _scores(
    targets: Sequence[Target],
    edited: Iterator[Tensor],
    batch: EditBatch,
    before: Tensor,
    count: int,
    extractor: FeatureExtractor,
) -> dict[str, float]:
    """Score the next of ``edited`` for each target, given the predictions ``before`` (N, A) the edit."""
    flipped, similarities, kept = [], [], []
    for target in targets:
        images, rows = next(edited), target.non_matching(batch.labels.values, count)
        after = extractor.extract(images)[1]
        flipped.append(target.matches(after).float())
        similarities.append(ssim(images.float() / 255, batch.images[rows].float() / 255) * len(rows))
        kept.append(_others_unchanged(extractor.schema, target, before[rows], after))
    scores = {"flip_rate": float(torch.cat(flipped).mean()), "ssim": sum(similarities) / len(torch.cat(flipped))}
    return {**scores, "identity": float(torch.cat(kept).mean())} if len(extractor.schema) > 1 else scores


def _others_unchanged(schema: Sequence[Attribute], target: Target, before: Tensor, after: Tensor) -> Tensor:
    """Return which values of all attributes but the target's stay, float (N * (A - 1),)."""
    others = [index for index in range(len(schema)) if index != target.column_index]
    return unchanged([schema[index] for index in others], before[:, others], after[:, others]).float().flatten()


def unchanged(schema: Sequence[Attribute], before: Tensor, after: Tensor) -> Tensor:
    """Return which values (N, A) an edit leaves as they were: bool (N, A).

    Classes and binary values must be equal; numbers may differ by half a standard deviation.
    """
    tolerances = [attribute.std / 2 if attribute.kind == "continuous" else 0.0 for attribute in schema]
    return (before - after).abs() <= torch.tensor(tolerances)  # (N, A)
