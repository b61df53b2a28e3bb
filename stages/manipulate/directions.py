"""Choose what images are edited towards, and the direction of each such target in the latents."""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.core.labels import LabelTable, Schema
from latentline.core.seeds import generator
from latentline.editing.directions import random_directions, spread, unit
from latentline.editing.measured import measured_latents
from latentline.editing.targets import Target, all_targets, evenly_spaced, require_names, target_differences
from latentline.latents.cache import LatentStats
from latentline.probes.load import load_latent_classifiers
from stages.manipulate.params import ManipulateParams

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Directions:
    """One direction per target."""

    vectors: Tensor
    """Of length 1, (K, F)."""
    scales: Tensor
    """Distance (K,) that counts as strength 1."""


def edit_directions(
    params: ManipulateParams, seed: int, stats: LatentStats, labels: LabelTable
) -> tuple[list[Target], Directions, Directions]:
    """Return the targets, their directions, and the reference: random directions with the same distances.

    Args:
        params: of the stage.
        seed: of the random directions, and of the training latents that are measured.
        stats: of the latents.
        labels: of the images that may be edited.

    Raises:
        UserError: an unknown target name, or latent classifiers of other latents.
    """
    z0, train_values = measured_latents(seed, stats)
    targets, normals = _choose_targets(params, stats.schema, z0, train_values, labels.values)
    if not targets:
        none = Directions(normals, torch.empty(0))
        return [], none, none
    vectors = unit(normals)
    scales = spread(z0, vectors)
    random = random_directions(vectors, generator(seed, "manipulate", "random"))
    return targets, Directions(vectors, scales), Directions(random, scales)


def _choose_targets(
    params: ManipulateParams, schema: Schema, z0: Tensor, train_values: Tensor, values: Tensor
) -> tuple[list[Target], Tensor]:
    """Return the targets and a direction (K, F) of any length for each.

    A target is left out where every image to edit matches it already or has no value, and where its direction is zero.

    Args:
        params: of the stage.
        schema: of the labels.
        z0: training latents, standardised and flat (N, F).
        train_values: of the labels of the training images (N, A).
        values: of the labels of the images to edit (M, A).
    """
    every = all_targets(schema)
    require_names("manipulate.target_names", params.target_names, [target.name for target in every])
    if params.direction == "classifier":
        normals = load_latent_classifiers().probe.weight  # (K, F), one per target
    elif every:
        normals = target_differences(every, z0, train_values)
    else:
        normals = z0[:0]
    rows = [row for row, target in enumerate(every) if len(target.non_matching(values, 1)) and normals[row].any()]
    if params.target_names:
        rows = [row for row in rows if every[row].name in params.target_names]
        if left_out := set(params.target_names) - {every[row].name for row in rows}:
            names = ", ".join(sorted(left_out))
            log.info("not editing towards %s: all images to edit are so, or nothing could be learnt", names)
    if len(rows) > params.targets:
        log.info("editing towards %d of %d targets (manipulate.targets)", params.targets, len(rows))
        rows = evenly_spaced(rows, params.targets)
    return [every[row] for row in rows], normals[rows]
