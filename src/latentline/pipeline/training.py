"""From knobs to the arguments of ``training.loop.fit``."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from latentline.common.rows import StoredRows
from latentline.params.compute import ComputeParams
from latentline.params.optimizer import OptimizerParams
from latentline.runtime.resume import ResumeFile
from latentline.runtime.trackers import Trackers
from latentline.training.loop import Optimizer, Saving

_MOST_BYTES = 2 << 30  # of images or latents that are held in memory


def optimizer_of(knobs: OptimizerParams) -> Optimizer:
    """The loop's view of an ``optimizer`` section."""
    return Optimizer(**knobs.model_dump(exclude={"batch_size", "accumulate"}))


def resident(rows: StoredRows, device: torch.device) -> Tensor | StoredRows:
    """Training images or latents, to be indexed by rows (B,) on the CPU: in memory where they take little of it, else read at every step."""
    return rows.load().to(device) if rows.nbytes <= _MOST_BYTES else rows


def saving_of(
    stage: str, knobs: dict[str, Any], inputs: dict[str, Any], compute: ComputeParams, *, computed_by: Sequence[str], part: str = ""
) -> Saving:
    """Return where a training of ``stage`` saves its state. Without ``epochs`` among ``knobs`` a longer run may continue a shorter one.

    Args:
        stage: DVC stage.
        knobs: its settings.
        inputs: digests of what it reads, and the seed.
        compute: how often to save, and the trackers.
        computed_by: names of the modules that build and train the network; see :class:`ResumeFile`.
        part: name of this training, where the stage has several.

    Raises:
        UserError: a tracker's package is missing.
    """
    file = ResumeFile(stage, {"settings": knobs, "inputs": inputs}, computed_by, part)
    return Saving(file, compute.save_every_seconds, Trackers(compute.trackers, stage, knobs), for_longer="epochs" not in knobs)
