"""The directions of the page's sliders: those of stage ``manipulate``."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentline.core.paths import LATENT_CLASSIFIERS, LATENT_SHARDS
from latentline.editing.directions import spread, unit
from latentline.editing.measured import measured_latents
from latentline.editing.targets import Target, all_targets, evenly_spaced, require_names, target_differences
from latentline.latents.cache import LatentStats
from latentline.probes.load import load_latent_classifiers
from latentline.tools import onnx_run

_DRAWN = 512  # latents that are measured in place of missing training latents
_BATCH = 64
log = logging.getLogger(__name__)


def page_directions(settings: Any, seed: int, stats: LatentStats, exported: Path) -> tuple[list[Target], Tensor] | None:
    """Return the targets and their directions (K, F), each as long as strength 1.

    Strength 1 is the standard deviation of training latents along the direction, as in stage ``manipulate``. Without
    training latents, as with weights from elsewhere, it is that of drawn ones.

    Args:
        settings: section ``manipulate``.
        seed: of the run.
        stats: of the latents.
        exported: folder with the networks, which draw latents.

    Returns:
        None where neither latent classifiers nor labelled training latents exist.

    Raises:
        UserError: an unknown target, or latent classifiers of other latents.
    """
    targets, trained = all_targets(stats.schema), LATENT_SHARDS.is_dir()
    names = [target.name for target in targets]
    require_names("manipulate.target_names", settings.target_names, names)
    by_classifier = settings.direction == "classifier"
    if not targets or not (LATENT_CLASSIFIERS.exists() if by_classifier else trained):
        return None
    z0, values = measured_latents(seed, stats) if trained else (_drawn_latents(exported), torch.empty(0))
    normals = load_latent_classifiers().probe.weight if by_classifier else target_differences(targets, z0, values)
    wanted = set(settings.target_names or names)
    rows = [row for row, name in enumerate(names) if name in wanted and normals[row].any()]
    if left_out := wanted - {names[row] for row in rows}:
        log.warning("no slider for %s: nothing could be learnt", ", ".join(sorted(left_out)))
    if len(rows) > settings.targets:
        log.warning("sliders for %d of %d targets (manipulate.targets)", settings.targets, len(rows))
        rows = evenly_spaced(rows, settings.targets)
    vectors = unit(normals[rows])
    return [targets[row] for row in rows], vectors * spread(z0, vectors)[:, None]


def _drawn_latents(exported: Path) -> Tensor:
    """Draw standardised flat latents (N, F) of all classes."""
    pipeline = onnx_run.Pipeline(exported)
    numbers = pipeline.numbers
    noise = onnx_run.start_noise(numbers["noise"]["seed"], numbers["noise"]["name"], _DRAWN, numbers["latent_shape"])
    condition = onnx_run.condition_vectors(numbers["condition"]["attributes"], {}, _DRAWN)
    batches = [slice(start, start + _BATCH) for start in range(0, _DRAWN, _BATCH)]
    drawn = np.concatenate([pipeline.latents(noise[rows], condition[rows]) for rows in batches])
    return torch.from_numpy(drawn).flatten(1)
