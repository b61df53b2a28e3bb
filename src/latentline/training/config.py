"""From knobs to the arguments of ``training.loop.fit``."""

from typing import Any

import torch
from torch import Tensor

from latentline.core.compute_params import ComputeParams
from latentline.core.shards import StoredRows
from latentline.runtime.resume import ResumeFile
from latentline.runtime.trackers import Trackers
from latentline.training.loop import Optimizer, Saving
from latentline.training.params import OptimizerParams

_MOST_BYTES = 2 << 30  # of images or latents that are held in memory


def optimizer_of(knobs: OptimizerParams) -> Optimizer:
    """The loop's view of an ``optimizer`` section."""
    return Optimizer(**knobs.model_dump(exclude={"batch_size", "accumulate"}))


def resident(rows: StoredRows, device: torch.device) -> Tensor | StoredRows:
    """Training images or latents, to be indexed by rows (B,) on the CPU: in memory where they take little of it, else read at every step."""
    return rows.load().to(device) if rows.nbytes <= _MOST_BYTES else rows


def saving_of(stage: str, knobs: dict[str, Any], inputs: dict[str, Any], compute: ComputeParams) -> Saving:
    """State of ``stage`` under a key of its knobs and of what it reads. Without ``epochs`` among them a longer run may continue a shorter one.

    Raises UserError when a tracker's package is missing.
    """
    file = ResumeFile(stage, {"knobs": knobs, "inputs": inputs})
    return Saving(file, compute.save_every_seconds, Trackers(compute.trackers, stage, knobs), for_longer="epochs" not in knobs)
